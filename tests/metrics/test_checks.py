"""Every function that takes captions or references refuses a string instead of a list."""

from collections.abc import Callable
from typing import Any

import pytest

from captioner.errors import CaptionerError
from captioner.evaluation.diversity import describe, mean_self_cider
from captioner.evaluation.objects import score_objects
from captioner.evaluation.scores import score, score_tokens
from captioner.evaluation.torchmetrics_adapter import CaptionScores
from captioner.metrics.cider import CiderScorer, DocumentFrequencies
from captioner.metrics.rouge import rouge_l
from captioner.text.tokenizer import tokenize_all

TEXT, TOKENS = "a dog runs", ["a", "dog", "runs"]

CALLS: list[Callable[[], Any]] = [
    lambda: score({1: TEXT}, {1: TEXT}),  # type: ignore[dict-item]
    lambda: score_tokens({1: TOKENS}, {1: TOKENS}),
    lambda: score_tokens({1: TOKENS}, {1: TEXT}),
    lambda: score_tokens({1: TEXT}, {1: [TOKENS]}),
    lambda: CiderScorer({1: TOKENS}),
    lambda: CiderScorer({1: [TOKENS]}).score([1], [TEXT]),
    lambda: CiderScorer({1: [TOKENS]}).score([1], TEXT),
    lambda: DocumentFrequencies.of([TEXT]),
    lambda: rouge_l([TOKENS], [TOKENS]),
    lambda: rouge_l([TEXT], [[TOKENS]]),
    lambda: tokenize_all(TEXT),
    lambda: describe(TEXT),
    lambda: describe([TEXT], training=TEXT),
    lambda: mean_self_cider({1: TEXT}),
    lambda: score_objects({1: TEXT}, {1: TEXT}, {1: frozenset()}),
    lambda: CaptionScores().update([1], [TEXT], [TEXT]),
    lambda: CaptionScores().update([1], [TEXT], TEXT),
    lambda: CaptionScores().update([1], "a", [[TEXT]]),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_string_is_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(CaptionerError, match="string"):
        call()


@pytest.mark.parametrize("metric", ["CIDEr-D", "CIDEr"])
def test_equal_references_of_all_images_are_noted(metric: str) -> None:
    alike = {image: ["a dog", "one dog"] for image in range(3)}
    found = score(dict.fromkeys(alike, "a dog"), alike, metrics=[metric])
    assert found.corpus[metric] == 0
    [warning] = found.warnings
    assert warning.startswith(f"{metric} is 0 by definition: the references of all images have")
    other = alike | {9: ["a cat"]}
    assert not score(dict.fromkeys(other, "a dog"), other, metrics=[metric]).warnings


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("bleu", "BLEU"),
        ("Bleu-4", "BLEU"),
        ("rouge", "ROUGE-L"),
        ("rouge_l", "ROUGE-L"),
        ("cider", "CIDEr"),
        ("CIDER-D", "CIDEr-D"),
        ("spice", "SPICE"),
        ("meteor", "METEOR"),
    ],
)
def test_the_closest_metric_is_suggested(name: str, meant: str) -> None:
    from captioner.evaluation.scores import check_metrics

    with pytest.raises(CaptionerError, match=rf"unknown metric '{name}'; did you mean {meant}\?"):
        check_metrics([name])
