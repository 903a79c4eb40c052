import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.errors import CaptionerError
from captioner.metrics.cider import CiderScorer, DocumentFrequencies

words = st.lists(st.sampled_from("abcdef"), max_size=8)
groups = st.lists(st.lists(words, min_size=1, max_size=3), min_size=2, max_size=5)


def ngrams(tokens, n):
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def cider(candidate, references, documents, *, clipped):
    """Compute the paper's equations literally, with dictionaries."""
    total = 0.0
    for n in range(1, 5):
        holding = [set().union(*(ngrams(tokens, n) for tokens in group)) for group in documents]

        def weights(tokens, n=n, holding=holding):
            return {
                gram: count * math.log(len(documents) / max(1, sum(gram in h for h in holding)))
                for gram, count in ngrams(tokens, n).items()
            }

        ours = weights(candidate)
        for reference in references:
            theirs = weights(reference)
            dot = 0.0
            for gram in ours.keys() & theirs.keys():
                dot += (min(ours[gram], theirs[gram]) if clipped else ours[gram]) * theirs[gram]
            norm = math.hypot(*ours.values()) * math.hypot(*theirs.values())
            similarity = dot / norm if norm else 0.0
            if clipped:
                lengths = max(len(candidate) - 1, 0) - max(len(reference) - 1, 0)
                similarity *= math.exp(-(lengths**2) / (2 * 6**2))
            total += similarity / len(references)
    return 10 * total / 4


@settings(deadline=None, max_examples=60)
@given(groups, st.lists(words, min_size=1, max_size=6), st.booleans())
def test_scores_equal_the_papers_equations(references, candidates, clipped):
    images = [at % len(references) for at in range(len(candidates))]
    scorer = CiderScorer(dict(enumerate(references)))
    found = scorer.score(images, candidates, variant="CIDEr-D" if clipped else "CIDEr")
    expected = [
        cider(tokens, references[image], references, clipped=clipped)
        for image, tokens in zip(images, candidates, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(groups, groups, st.lists(words, min_size=1, max_size=4))
def test_frequencies_of_another_corpus(corpus, references, candidates):
    images = [at % len(references) for at in range(len(candidates))]
    scorer = CiderScorer(dict(enumerate(references)), DocumentFrequencies.of(corpus))
    expected = [
        cider(tokens, references[image], corpus, clipped=True)
        for image, tokens in zip(images, candidates, strict=True)
    ]
    np.testing.assert_allclose(scorer.score(images, candidates), expected, atol=1e-9)


def test_frequencies_are_saved_and_loaded(tmp_path):
    corpus = [[["a", "dog", "runs", "on", "grass"], ["a", "dog"]], [["a", "red", "kite"]]]
    frequencies = DocumentFrequencies.of(corpus, source="train")
    frequencies.save(tmp_path / "df.npz")
    loaded = DocumentFrequencies.load(tmp_path / "df.npz")
    assert (loaded.n_images, loaded.source) == (2, "train")
    references = {1: corpus[0], 2: [["a", "kite", "in", "the", "sky"]]}
    captions = [["a", "dog", "runs"], ["a", "red", "kite", "in", "the", "sky"]]
    np.testing.assert_array_equal(
        CiderScorer(references, loaded).score([1, 2], captions),
        CiderScorer(references, frequencies).score([1, 2], captions),
    )


def test_other_files_are_refused_in_one_line(tmp_path):
    with pytest.raises(CaptionerError, match=r"absent\.npz: no such file"):
        DocumentFrequencies.load(tmp_path / "absent.npz")
    for content in [b"", b"{}", b"PK\x03\x04 broken"]:
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(CaptionerError, match="not a document frequency file"):
            DocumentFrequencies.load(tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(CaptionerError, match="not a document frequency file"):
        DocumentFrequencies.load(tmp_path / "other.npz")


def test_batch_of_samples_has_any_order_and_any_number():
    references = {
        "x": [["a", "dog", "runs", "on", "grass"]],
        "y": [["a", "red", "kite", "in", "the", "sky"]],
    }
    scorer = CiderScorer(references)
    alone = scorer.score(["y"], [["a", "red", "kite"]])
    batch = scorer.score(
        ["x", "y", "x"], [[], ["a", "red", "kite"], ["a", "dog", "runs", "on", "grass"]]
    )
    assert batch[1] == alone[0]
    assert batch[0] == 0
    assert batch[2] == pytest.approx(10)
    assert len(scorer.score([], [])) == 0


def test_unknown_image_is_named():
    with pytest.raises(CaptionerError, match="no references for image 5"):
        CiderScorer({1: [["a"]]}).score([5], [["a"]])
