"""Deprecated import paths of version 0.1, such as `captioner.predictor`, which work until 0.3.

Python calls this finder only for modules not found otherwise, so imports of current paths are not
slowed down.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "captioner.predictor": "captioner.inference.predictor",
    "captioner.data": "",  # an empty package: its modules are now in several packages
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
"""New path of each moved public module."""


class MovedFinder:
    """Find the modules of `MOVED` under their old paths."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of an old path, or None for any other path."""
        if name not in MOVED:
            return None
        return ModuleSpec(name, MovedFinder, is_package=True)  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """Let Python create an empty module, which `exec_module` replaces."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Replace the old module by the one at its new path, with a warning."""
        old, new = module.__name__, MOVED[module.__name__]
        if new:
            notice = f"{old} is now {new}; version 0.3 removes the old path"
            warnings.warn(notice, DeprecationWarning, stacklevel=2)
            sys.modules[old] = importlib.import_module(new)
