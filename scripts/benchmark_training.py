"""Benchmark training steps of the decoder in words per second, against two baselines.

    python scripts/benchmark_training.py --threads 2

- per-step: a decoder written like most public captioning code. It repeats the image for each
  caption, runs one recurrent step at a time, projects every step to the vocabulary even for
  finished captions, writes into one (M, T, V) tensor, masks the loss and uses an unfused optimiser.
- limit: the matrix products that a step requires, at the speed of this machine's best product of
  the projection's shape.

A second table compares every cell with torch.nn.LSTM or GRU on packed captions, with only an
embedding and a projection. It compares Jordan's cell with its floor, the products with the
vocabulary that it must compute one step after the other.

Two more tables follow: attention (`benchmark_attention.py`), and a step on the score with the share
of its reward (`benchmark_score.py`). `--peer FOLDER` adds the models of ruotianluo's
ImageCaptioning.pytorch (`peer_models.py`).

One step is forward, backward and update for 10 images with 5 captions each, V 9,488, E = H = 512.
The candidates take turns, and the tables show medians. On a GPU, where such small steps are too
short to measure, use more images: `--device cuda --images 64`.
"""

import statistics
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from benchmark_attention import print_attention
from benchmark_json import write_json
from benchmark_score import print_score_step
from peer_models import peer_step
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from training_steps import (
    CAPTIONS,
    FEATURES,
    SIZE,
    VOCABULARY,
    make_batch,
    median_ratio,
    our_step,
    parse_options,
    per_step,
    settings_of,
    take_turns,
)

from captioner.datasets.batches import Batch
from captioner.model.cells import (
    GRU,
    LSTM,
    Cell,
    DeepTransition,
    Elman,
    Jordan,
    PeepholeLSTM,
    ResetBeforeGRU,
)
from captioner.model.kernels.linear import product
from captioner.text.vocabulary import START


class PerStepDecoder(nn.Module):
    """The usual decoder: a cell, a loop, and one tensor of all log-probabilities."""

    def __init__(self, cell: type[nn.LSTMCell] | type[nn.GRUCell]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, SIZE)
        self.image = nn.Linear(FEATURES, SIZE)
        self.cell = cell(SIZE, SIZE)
        self.projection = nn.Linear(SIZE, VOCABULARY)
        self.dropout = nn.Dropout(0.5)

    def forward(self, features: Tensor, inputs: Tensor) -> Tensor:
        """Map features (M, F), one row per caption, and words (M, T) to log-probs (M, T, V)."""
        captions, steps = inputs.shape
        first = torch.tanh(self.image(features))
        state: Tensor | tuple[Tensor, Tensor] = first
        if isinstance(self.cell, nn.LSTMCell):
            state = (first, torch.zeros_like(first))
        result = features.new_zeros(captions, steps, VOCABULARY)
        for t in range(steps):
            state = self.cell(self.dropout(self.embedding(inputs[:, t])), state)
            hidden = state[0] if isinstance(state, tuple) else state
            result[:, t] = F.log_softmax(self.projection(self.dropout(hidden)), dim=1)
        return result


class BareDecoder(nn.Module):
    """torch's recurrent module between an embedding and a projection."""

    def __init__(self, recurrence: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, SIZE)
        self.image = nn.Linear(FEATURES, SIZE)
        self.recurrence = recurrence(SIZE, SIZE)
        self.projection = nn.Linear(SIZE, VOCABULARY)
        self.dropout = nn.Dropout(0.5)

    def forward(self, batch: Batch, batch_sizes: Tensor) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        first = torch.tanh(self.image(batch.images))[batch.rows].unsqueeze(0)
        state = (first, torch.zeros_like(first)) if isinstance(self.recurrence, nn.LSTM) else first
        xs = self.dropout(self.embedding(batch.inputs))
        hidden = self.recurrence(PackedSequence(xs, batch_sizes), state)[0].data
        return F.cross_entropy(self.projection(self.dropout(hidden)), batch.targets)


def bare(recurrence: type[nn.LSTM] | type[nn.GRU], batch: Batch) -> Callable[[], None]:
    """Return a training step of torch's module and a projection."""
    decoder = BareDecoder(recurrence)
    optimizer = torch.optim.Adam(decoder.parameters(), fused=True)
    batch_sizes = torch.tensor(batch.batch_sizes, device="cpu")

    def step() -> None:
        optimizer.zero_grad()
        decoder(batch, batch_sizes).backward()
        optimizer.step()

    return step


def jordan_floor(batch: Batch) -> Callable[[], None]:
    """Return the vocabulary products of Jordan's network, forward and both backward ones."""
    to_vocabulary, to_hidden = torch.randn(SIZE, VOCABULARY), torch.randn(VOCABULARY, SIZE)
    hidden = [torch.randn(n, SIZE) for n in batch.batch_sizes]
    output = [torch.randn(n, VOCABULARY) for n in batch.batch_sizes]
    all_hidden, all_output = torch.cat(hidden), torch.cat(output)

    def step() -> None:
        for h, y in zip(hidden, output, strict=True):
            for _ in range(2):  # forward, and backward to the inputs
                torch.mm(h, to_vocabulary)
                torch.mm(y, to_hidden)
        for _ in range(2):  # backward to the weights, all steps at once
            torch.mm(all_hidden.t(), all_output)

    return step


def projections(words: int) -> list[Callable[[], None]]:
    """Return the projection's matrix product with both CPU libraries of torch."""
    left, right = torch.randn(words, SIZE), torch.randn(VOCABULARY, SIZE)

    def by_torch() -> None:
        torch.mm(left, right.t())

    def by_onednn() -> None:
        product(left, right)

    return [by_torch, by_onednn]


def main() -> None:
    """Measure and print the tables."""
    options = parse_options(__doc__, 15, ("decoder", "cells", "attention", "score"))
    batch = make_batch(options.images)
    assert batch.inputs[0] == START
    print(
        f"decoder training, {options.device}, {options.threads} threads, float32, "
        f"torch {torch.__version__}; {options.images} x {CAPTIONS} captions, {len(batch.targets)} "
        f"words, V {VOCABULARY}, E = H = {SIZE}; medians of {options.rounds}"
    )
    measure: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "decoder": lambda: print_decoders(batch, options),
        "cells": lambda: print_family(batch, options.rounds),
        "attention": lambda: print_attention(batch, options.rounds, options.peer),
        "score": lambda: print_score_step(options.images, options.rounds),
    }
    rows = [{"table": name, **row} for name in options.tables for row in measure[name]()]
    if options.json:
        write_json(options.json, rows, settings_of(options))


def print_decoders(batch: Batch, options: Namespace) -> list[dict[str, Any]]:
    """Print the table of LSTM and GRU beside other decoders and the limit; return its rows."""
    words = len(batch.targets)
    gates = {"LSTM": 4, "GRU": 3}
    peers = {} if options.peer is None else {"newfc": peer_step(options.peer, "newfc", batch)}
    rows: list[dict[str, Any]] = []
    kinds = (("LSTM", LSTM, nn.LSTMCell), ("GRU", GRU, nn.GRUCell))
    for name, cell, torch_cell in kinds:
        others = {"per_step": per_step(PerStepDecoder(torch_cell), batch), **peers}
        steps = [our_step(cell, batch), *others.values(), *projections(words)]
        ours, *rest = take_turns(steps, options.rounds)
        theirs = dict(zip(others, rest, strict=False))
        # The best time of a product, not the median, because the limit is what is possible.
        speed = 2 * words * SIZE * VOCABULARY / min(map(min, rest[len(others) :]))
        # Forward, and backward to weights and inputs: three products each.
        work = 3 * 2 * words * (SIZE * VOCABULARY + 2 * SIZE * gates[name] * SIZE)
        rate, limit = words / statistics.median(ours), words / (work / speed)
        row = {"cell": name, "words_per_second": rate, "limit_words_per_second": limit}
        row |= {f"times_{other}": median_ratio(times, ours) for other, times in theirs.items()}
        rows.append({**row, "share_of_limit": rate / limit})
    print_rows(rows)
    return rows


def print_family(batch: Batch, rounds: int) -> list[dict[str, Any]]:
    """Print the table of all cells, and return its rows."""
    family: dict[str, Callable[[int, int], Cell]] = {
        "LSTM": LSTM,
        "GRU": GRU,
        "Elman": Elman,
        "LSTM, peepholes": PeepholeLSTM,
        "GRU, reset before": ResetBeforeGRU,
        "GRU, deep transition": lambda e, h: DeepTransition(GRU(e, h), h, 1),
        "Jordan": lambda e, h: Jordan(e, h, VOCABULARY),
    }
    steps = {name: our_step(cell, batch) for name, cell in family.items()}
    steps |= {"torch.nn.LSTM": bare(nn.LSTM, batch), "torch.nn.GRU": bare(nn.GRU, batch)}
    steps |= {"Jordan's floor": jordan_floor(batch)}
    times = dict(zip(steps, take_turns([*steps.values()], rounds), strict=True))
    rows: list[dict[str, Any]] = []
    for name, of_cell in times.items():
        row = {"cell": name, "words_per_second": len(batch.targets) / statistics.median(of_cell)}
        if name in family:
            row["times_nn_lstm"] = median_ratio(times["torch.nn.LSTM"], of_cell)
            row["times_nn_gru"] = median_ratio(times["torch.nn.GRU"], of_cell)
        if name == "Jordan":
            row["share_of_floor"] = median_ratio(times["Jordan's floor"], of_cell)
        rows.append(row)
    print_rows(rows)
    return rows


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print rows as a table: rates as whole numbers, ratios with two digits, shares in percent."""

    def text(name: str, row: Mapping[str, Any]) -> str:
        value = row.get(name, "")
        if isinstance(value, str):
            return value
        form = ",.0f" if name.endswith("per_second") else ".0%" if "share" in name else ".2f"
        return format(value, form)

    first, *names = dict.fromkeys(name for row in rows for name in row)
    print()
    print(f"{first:22}" + "".join(f"{name.replace('_per_second', '/s'):>16}" for name in names))
    for row in rows:
        print(f"{row[first]:22}" + "".join(f"{text(name, row):>16}" for name in names), flush=True)


if __name__ == "__main__":
    main()
