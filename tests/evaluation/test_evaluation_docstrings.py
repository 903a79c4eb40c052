import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "name",
    [
        "captioner.data.longest_match",
        "captioner.data.tokenizer",
        "captioner.evaluation.cider",
        "captioner.evaluation.correlation",
        "captioner.evaluation.diversity",
        "captioner.evaluation.meteor.normalizer",
        "captioner.evaluation.meteor.ragged",
        "captioner.evaluation.meteor.stemmer",
        "captioner.evaluation.objects",
        "captioner.evaluation.recipe",
        "captioner.evaluation.scores",
        "captioner.evaluation.significance",
        "captioner.evaluation.torchmetric",
    ],
)
def test_examples_run(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
