"""The examples in the docstrings of all modules run."""

import doctest
import importlib
import pkgutil

import pytest

import captioner

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(captioner.__path__, "captioner.")
    if not module.name.endswith("__main__")
)
NAMES = ("captioner", *MODULES)
OPTIONAL = ("ray", "timm", "onnx", "onnxruntime", "huggingface_hub", "pillow_heif", "matplotlib")


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is not installed")
    assert doctest.testmod(module).failed == 0


def test_examples_are_collected() -> None:
    """The walk finds modules in every room, those with examples among them."""
    assert {"captioner.text.tokenizer", "captioner.metrics.meteor.stemmer"} <= set(MODULES)
    found = sum(
        len(test.examples)
        for name in ("captioner.text.vocabulary", "captioner.datasets.division")
        for test in doctest.DocTestFinder().find(importlib.import_module(name))
    )
    assert found >= 5
