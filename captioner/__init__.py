"""captioner: CNN + RNN image captioning.

Importing this package imports nothing heavy, so that `captioner --help` answers at once; torch
comes with the first use of `Predictor`.

    from captioner import Predictor

    predictor = Predictor.load("runs/coco/checkpoints/best.ckpt")
    for result in predictor.caption(["dog.jpg", "kite.jpg"]):
        print(result.path, result.caption or result.error)
"""

import sys
from typing import TYPE_CHECKING, Any

from captioner.moved import MovedFinder

if TYPE_CHECKING:
    from captioner.inference.predictor import Predictor

__version__ = "0.2.0"

__all__ = ["Predictor", "__version__"]

if MovedFinder not in sys.meta_path:
    sys.meta_path.append(MovedFinder)


def __getattr__(name: str) -> Any:
    """Import `Predictor`, and with it torch, when it is first asked for (PEP 562)."""
    if name == "Predictor":
        from captioner.inference.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'captioner' has no attribute {name!r}")
