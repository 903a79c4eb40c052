"""Import paths of version 0.1, which work until 0.3 and warn: `from captioner.predictor import …`.

Python asks this finder only for modules that the other finders did not find, so that it costs an
import of the current paths nothing.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "captioner.predictor": "captioner.inference.predictor",
    "captioner.data": "",  # an empty package: its modules are in several rooms now
    "captioner.data.batches": "captioner.datasets.batches",
    "captioner.data.near_duplicates": "captioner.photos.near_duplicates",
    "captioner.data.photo": "captioner.photos.decode",
    "captioner.data.records": "captioner.datasets.records",
    "captioner.data.tokenizer": "captioner.text.tokenizer",
    "captioner.data.transform": "captioner.photos.transform",
    "captioner.data.vocabulary": "captioner.text.vocabulary",
    "captioner.data.word_vectors": "captioner.text.word_vectors",
    "captioner.evaluation.bleu": "captioner.metrics.bleu",
    "captioner.evaluation.cider": "captioner.metrics.cider",
    "captioner.evaluation.files": "captioner.evaluation.result_files",
    "captioner.evaluation.meteor": "captioner.metrics.meteor",
    "captioner.evaluation.rouge": "captioner.metrics.rouge",
    "captioner.evaluation.torchmetric": "captioner.evaluation.torchmetrics_adapter",
}
"""Old path to new path, of the modules that people import."""


class MovedFinder:
    """Finds the modules of `MOVED` under their old paths."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to import an old path, or None where the path is not an old one."""
        if name not in MOVED:
            return None
        return ModuleSpec(name, MovedFinder, is_package=True)  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """Leave it to Python: the empty module is replaced at once."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Put the module of the new path where the old one was asked for."""
        old, new = module.__name__, MOVED[module.__name__]
        if new:
            notice = f"{old} is now {new}; version 0.3 removes the old path"
            warnings.warn(notice, DeprecationWarning, stacklevel=2)
            sys.modules[old] = importlib.import_module(new)
