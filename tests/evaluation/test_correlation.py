"""Kendall's tau-c, and the command that compares scores with experts of Flickr8k."""

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.errors import CaptionerError
from captioner.evaluation.correlation import kendall_tau_c
from captioner.evaluation.scores import score

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "human_correlation.py"


def sign(value: float) -> int:
    return (value > 0) - (value < 0)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4)), min_size=2, max_size=30))
def test_tau_c_is_what_its_definition_says(pairs) -> None:
    scores, ratings = zip(*pairs, strict=True)
    fewest = min(len(set(scores)), len(set(ratings)))
    if fewest < 2:
        with pytest.raises(CaptionerError, match="all scores or all ratings are equal"):
            kendall_tau_c(scores, ratings)
        return
    difference = sum(
        sign(scores[i] - scores[j]) * sign(ratings[i] - ratings[j])
        for i, j in combinations(range(len(pairs)), 2)
    )
    expected = difference / (len(pairs) ** 2 / 2 * (fewest - 1) / fewest)
    assert kendall_tau_c(scores, ratings) == pytest.approx(expected, abs=1e-12)
    assert kendall_tau_c(ratings, scores) == pytest.approx(expected, abs=1e-12)
    if scipy_stats is not None:
        theirs = scipy_stats.kendalltau(scores, ratings, variant="c").statistic
        assert theirs == pytest.approx(expected, abs=1e-12)


try:
    from scipy import stats as scipy_stats
except ImportError:  # no dependency of this project
    scipy_stats = None


def test_published_example() -> None:
    """Agresti's table of income and job satisfaction, as tau-c is usually shown on it."""
    table = [[1, 3, 10, 6], [2, 3, 10, 7], [1, 6, 14, 12], [0, 1, 9, 11]]
    pairs = [
        (row, column)
        for row, counts in enumerate(table)
        for column, count in enumerate(counts)
        for _ in range(count)
    ]
    rows, columns = zip(*pairs, strict=True)
    # P = 1331 and Q = 849 of 96 people, four values each.
    assert kendall_tau_c(rows, columns) == pytest.approx((1331 - 849) / (96**2 / 2 * 3 / 4))


def test_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="2 scores and 3 ratings"):
        kendall_tau_c([1, 2], [1, 2, 3])


CAPTIONS = {
    "a.jpg#0": "A dog runs on grass .",
    "a.jpg#1": "A brown dog runs .",
    "b.jpg#0": "Two men sit on a bench .",
    "b.jpg#1": "Men on a bench .",
    "c.jpg.1#0": "A kite flies in the sky .",
    "c.jpg.1#1": "A red kite .",
}

RATINGS = [
    ("a.jpg", "a.jpg#1", 4, 4, 4),  # its own caption: left out
    ("a.jpg", "b.jpg#0", 1, 1, 2),
    ("b.jpg", "b.jpg#0", 4, 4, 3),  # likewise
    ("b.jpg", "a.jpg#0", 1, 2, 1),
    ("c.jpg", "a.jpg#1", 2, 3, 1),
    ("c.jpg", "b.jpg#1", 1, 1, 1),
]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    captions, ratings = tmp_path / "tokens.txt", tmp_path / "experts.txt"
    captions.write_text("".join(f"{key}\t{text}\n" for key, text in CAPTIONS.items()))
    ratings.write_text("".join("\t".join(map(str, row)) + "\n" for row in RATINGS))
    return ["--captions", str(captions), "--ratings", str(ratings)]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )


def test_own_captions_are_left_out_and_each_rating_counts(files) -> None:
    content = json.loads(run(*files, "--format", "json").stdout)
    assert content["judgements"] == 4 * 3
    assert content["recipe"]["n_images"] == 12
    # The same by hand: ROUGE-L of each pair, three times.
    by_image = {name: [] for name in "abc"}
    for key, text in CAPTIONS.items():
        by_image[key[0]].append(text)
    kept = [row for row in RATINGS if row[0][0] != row[1][0]]
    captions = {at: CAPTIONS[row[1]] for at, row in enumerate(kept)}
    references = {at: by_image[row[0][0]] for at, row in enumerate(kept)}
    values = score(captions, references, metrics=["ROUGE-L"]).per_image["ROUGE-L"]
    ratings = [rating for row in kept for rating in row[2:]]
    expected = kendall_tau_c([value for value in values.tolist() for _ in range(3)], ratings)
    assert content["tau_c"]["ROUGE-L"] == pytest.approx(expected)


def test_all_pairs_take_the_caption_from_the_references(files) -> None:
    content = json.loads(run(*files, "--format", "json", "--all-pairs").stdout)
    assert content["judgements"] == 6 * 3
    assert content["recipe"]["n_references"] == "1-2"


def test_the_table(files) -> None:
    done = run(*files)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["score", "tau-c", "published"]
    assert next(line for line in lines if line.startswith("BLEU-4 ")).endswith("30.8")
    assert next(line for line in lines if line.startswith("CIDEr-D ")).endswith("43.9")
    assert "tau-c x 100 of 12 ratings" in done.stdout
    assert "images:12" in lines[-1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg\tb.jpg#0\t1\t1", "line 1: must be an image, a caption id and three ratings"),
        ("a.jpg\tb.jpg#0\t1\t1\t5", "line 1: must be an image, a caption id and three ratings"),
        ("a.jpg\tb.jpg#0\t1\t1\tx", "line 1: must be an image, a caption id and three ratings"),
        ("a.jpg\tz.jpg#0\t1\t1\t1", "line 1: the caption file has no caption 'z.jpg#0'"),
        ("z.jpg\ta.jpg#0\t1\t1\t1", "line 1: the caption file has no captions of image 'z.jpg'"),
        ("a.jpg\ta.jpg#0\t1\t1\t1", "contains no rating of a caption that is not a reference"),
        ("a.jpg\tb.jpg#0\t1\t1\t1", "all scores or all ratings are equal"),
    ],
)
def test_wrong_ratings(line, message, files) -> None:
    Path(files[3]).write_text(line + "\n")
    done = run(*files)
    assert done.returncode == 1
    [said] = done.stderr.splitlines()
    assert message in said
    assert done.stdout == ""


def test_wrong_captions(files) -> None:
    Path(files[1]).write_text("image,caption\n")
    [said] = run(*files).stderr.splitlines()
    assert "line 1: must be NAME.jpg#0<TAB>caption, not 'image,caption'" in said
    assert run("--captions", "no.txt", *files[2:]).returncode == 2
