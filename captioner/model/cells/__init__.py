"""The recurrent cells. `cell.py` defines the interface; every other file holds one kind of cell.

=================  ===============  =====================================================
class              file             recurrence
=================  ===============  =====================================================
`Elman`            simple           on the hidden layer
`Jordan`           simple           on the output distribution
`LSTM`             lstm             gated, a separate cell
`PeepholeLSTM`     lstm             the same, gates see the cell
`GRU`              gru              gated, no separate cell; reset after the product
`ResetBeforeGRU`   gru              the same, reset before the product
`DeepTransition`   deep_transition  any of them with more layers from h_{t-1} to h_t
=================  ===============  =====================================================
"""

from captioner.model.cells.cell import Activation, Cell, CellState, first_of, first_of_state
from captioner.model.cells.deep_transition import DeepTransition
from captioner.model.cells.gru import GRU, ResetBeforeGRU
from captioner.model.cells.lstm import LSTM, PeepholeLSTM
from captioner.model.cells.simple import Elman, Jordan

__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "Cell",
    "CellState",
    "DeepTransition",
    "Elman",
    "Jordan",
    "PeepholeLSTM",
    "ResetBeforeGRU",
    "first_of",
    "first_of_state",
]
