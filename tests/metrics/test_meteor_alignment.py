"""METEOR's alignment against all possible alignments and against the Java program."""

import random
import shutil
import subprocess
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from meteor_files import needs_data, small_data

from captioner.metrics.meteor import alignment
from captioner.metrics.meteor.alignment import align
from captioner.metrics.meteor.data import find_folder, load_data
from captioner.metrics.meteor.matches import Captions, Matches, find_matches
from captioner.metrics.meteor.score import meteor_from_statistics, meteor_statistics


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        data = small_data(tmp_path_factory.mktemp("meteor") / "files")
        assert data.paraphrases.longest == 3
    return data


def matches_of(data, candidate, reference) -> list[tuple[int, ...]]:
    """(start, length, other start, other length, stage) of each match, in order."""
    captions = Captions([candidate.split(), reference.split()])
    found = find_matches(captions, np.array([0]), np.array([1]), data)
    columns = (found.start, found.length, found.other_start, found.other_length, found.stage)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_stages_in_their_order(data):
    assert matches_of(data, "a hound dogs dog", "dog a") == [
        (0, 1, 3, 1, 0),  # dog - dog
        (0, 1, 2, 1, 1),  # dog - dogs: stem
        (0, 1, 1, 1, 2),  # dog - hound: synonym
        (0, 1, 2, 1, 2),  # dog - dogs: synonym too
        (1, 1, 0, 1, 0),  # a - a
    ]


def test_paraphrases_in_both_directions(data):
    assert matches_of(data, "plenty of many", "a lot of") == [
        (0, 3, 2, 1, 3),
        (0, 3, 0, 2, 3),
        (2, 1, 1, 1, 0),
    ]
    assert matches_of(data, "a lot of", "x many") == [(1, 1, 0, 3, 3)]
    assert matches_of(data, "a lot", "many") == []


def test_phrases_do_not_reach_into_the_next_caption(data):
    captions = Captions([["many"], ["a", "lot"], ["of"], ["of", "lot"]])
    found = find_matches(captions, np.array([0, 0, 0]), np.array([1, 2, 3]), data)
    assert len(found.pair) == 0


def test_equal_captions_have_exact_matches_only(data):
    assert {match[-1] for match in matches_of(data, "dog hound dog", "dog hound dog")} == {0}
    assert {match[-1] for match in matches_of(data, "dog hound", "hound dog")} == {0, 2}


def words_of(match):
    start, length, at, n, _ = match
    ours = {("reference", word) for word in range(start, start + length)}
    return ours | {("candidate", word) for word in range(at, at + n)}


def overlap(first, second):
    return not words_of(first).isdisjoint(words_of(second))


def every_alignment(matches):
    """Yield all sets of matches that cover no word twice and include every uncontested match."""
    pairs = combinations(range(len(matches)), 2)
    disputes = [(i, j) for i, j in pairs if overlap(matches[i], matches[j])]
    disputed = {i for pair in disputes for i in pair}
    for chosen in product([False, True], repeat=len(matches)):
        complete = all(take or i in disputed for i, take in enumerate(chosen))
        if complete and not any(chosen[i] and chosen[j] for i, j in disputes):
            yield [match for match, take in zip(matches, chosen, strict=True) if take]


def quality(taken):
    """Return the sort key of an alignment: words covered as in the Java program, then chunks."""
    covered, chunks, end = 0, 0, None
    for start, length, at, n, stage in sorted(taken):
        covered += length + n if stage == 0 else length // 2 + n // 2
        chunks += end != (start, at)
        end = (start + length, at + n)
    return covered, -chunks


WORDS = ["dog", "hound", "dogs", "a", "lot", "of", "many", "plenty", "cat"]
words = st.lists(st.sampled_from(WORDS), max_size=4)


@settings(max_examples=150, deadline=None)
@given(candidate=words, reference=words)
def test_no_alignment_is_better(data, candidate, reference):
    matches = matches_of(data, " ".join(candidate), " ".join(reference))
    matches = matches[:12]
    start, length, other_start, other_length, stage = (
        np.array(matches, dtype=np.int64).reshape(-1, 5).T
    )
    found = Matches(np.zeros_like(start), start, length, other_start, other_length, stage)
    contents = np.eye(len(matches), dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "BEAM_SIZE", 10**6)
        taken, chunks = align(
            found, np.array([len(reference)]), np.array([len(candidate)]), contents
        )
    chosen = [match for match, take in zip(matches, taken[0], strict=True) if take]
    best = max(map(quality, every_alignment(matches)))
    assert quality(chosen) == best
    assert chunks[0] == -quality(chosen)[1]


def test_pairs_are_independent(data):
    captions = ["dog a dog", "a dog", "dog hound a", "", "many dogs a lot of dogs"]
    captions += [" ".join(["dog"] * 130)]
    every = [(a.split(), b.split()) for a in captions for b in captions]
    together = meteor_statistics([a for a, _ in every], [[b] for _, b in every], data)
    for row, (a, b) in zip(together, every, strict=True):
        assert row.tolist() == meteor_statistics([a], [[b]], data)[0].tolist()


PIECES = (
    "a|the|of|on|in|dog|dogs|hound|man|men|people|person|run|runs|running|,|.|'s|"
    "a lot of|plenty of|many|on top of|in front of|next to|a couple of|two|a group of people|"
    "several people|is riding|rides|sitting down|seated|black-and-white|u.s.|10,000|don't|"
    "looking at|a picture of|photograph|young boy|little boy|child|the side of the road|street"
)


def made_up_captions(n_images: int) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Generate ambiguous sentences, some longer than 64 words."""
    generator = random.Random(7)

    def caption(length: int) -> list[str]:
        chosen = generator.choices(PIECES.split("|"), k=length)
        return " ".join(chosen).split()

    def edited(words: list[str]) -> list[str]:
        kept = [word for word in words if generator.random() < 0.9]
        if generator.random() < 0.5:
            generator.shuffle(kept)
        return kept

    candidates, references = [], []
    for _ in range(n_images):
        candidates.append(caption(generator.choice([0, 3, 6, 10, 15, 40])))
        group = [caption(8), edited(candidates[-1] + caption(3)), edited(candidates[-1])]
        references.append(group[: generator.randint(1, 3)])
    return candidates, references


@pytest.mark.slow
@needs_data
@pytest.mark.skipif(shutil.which("java") is None, reason="no Java")
def test_generated_captions_against_the_java_program():
    folder = find_folder()
    assert folder is not None
    candidates, references = made_up_captions(1500)
    lines = [
        " ||| ".join(["SCORE", *map(" ".join, group), " ".join(candidate)])
        for candidate, group in zip(candidates, references, strict=True)
    ]
    command = ["java", "-Xmx2G", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"]

    def java(text: str) -> list[str]:
        done = subprocess.run(
            command, input=text, cwd=folder, capture_output=True, encoding="utf-8", check=True
        )
        return done.stdout.splitlines()

    counts = java("\n".join(lines) + "\n")
    *per_image, corpus = map(float, java(" ||| ".join(["EVAL", *counts]) + "\n"))
    found = meteor_statistics(candidates, references, load_data(folder))
    theirs = np.array([line.split() for line in counts], dtype=float)
    np.testing.assert_array_equal(found[:, :-1], theirs[:, :20])
    np.testing.assert_allclose(meteor_from_statistics(found)[:, 0], per_image, atol=1e-12, rtol=0)
    assert meteor_from_statistics(found.sum(axis=0))[0] == pytest.approx(corpus, abs=1e-12)
    assert theirs[:, 0].max() > 64
