import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "name",
    [
        "captioner.text.lexer",
        "captioner.text.tokenizer",
        "captioner.metrics.cider",
        "captioner.evaluation.correlation",
        "captioner.evaluation.diversity",
        "captioner.metrics.meteor.normalizer",
        "captioner.metrics.meteor.ragged",
        "captioner.metrics.meteor.stemmer",
        "captioner.evaluation.objects",
        "captioner.evaluation.recipe",
        "captioner.evaluation.scores",
        "captioner.evaluation.significance",
        "captioner.evaluation.torchmetrics_adapter",
    ],
)
def test_examples_run(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
