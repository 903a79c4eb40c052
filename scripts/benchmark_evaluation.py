"""Benchmark the scores against the official tool, on the same captions.

    python scripts/benchmark_evaluation.py --peer-python /path/to/other/environment/bin/python

`--peer-python` names a Python with pycocoevalcap (and Java on the path). Without it, only this
package is timed. Each tool runs in its own process, so that its memory can be measured. Start-up
and imports are not counted. The start of the Java tokenizer is, because it is part of each call.
METEOR is timed separately, from tokens to scores, including the time to read its data: once with
the compact copy in the cache folder, and once without it ("first time"). Captions come from
`--annotations` and `--results` in COCO's format, or from a small grammar.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from benchmark_json import add_json, write_json

from captioner.datasets.records import ImageId
from captioner.evaluation.result_files import read_references, read_results
from captioner.evaluation.scores import score_tokens
from captioner.evaluation.significance import intervals
from captioner.metrics.cider import CiderScorer, DocumentFrequencies
from captioner.metrics.meteor.data import HOW_TO_GET_IT, find_folder, load_data
from captioner.metrics.meteor.score import meteor_from_statistics, meteor_statistics
from captioner.text.tokenizer import tokenize_all

_T = TypeVar("_T")

NOUNS = [
    "man",
    "woman",
    "dog",
    "cat",
    "boy",
    "girl",
    "child",
    "horse",
    "bus",
    "kite",
    "ball",
    "train",
    "cow",
    "pizza",
    "bench",
    "boat",
]
ADJECTIVES = [
    "red",
    "small",
    "young",
    "old",
    "large",
    "brown",
    "white",
    "happy",
    "wet",
    "black-and-white",
]
VERBS = [
    "running",
    "sitting",
    "standing",
    "jumping",
    "playing",
    "riding",
    "looking",
    "flying",
    "eating",
    "waiting",
]
PLACES = ["on the grass", "in the snow", "near a man's car", "at the beach", "by a building"]


def make_captions(
    n_images: int, n_references: int
) -> tuple[dict[ImageId, str], dict[ImageId, list[str]]]:
    """Generate captions from a small grammar: about 12 words, a long tail of invented nouns."""
    generator = random.Random(0)
    rare = [f"thing{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}" for n in range(4000)]

    def caption(noun: str) -> str:
        other = generator.choice(NOUNS if generator.random() < 0.8 else rare)
        return (
            f"A {generator.choice(ADJECTIVES)} {noun} is {generator.choice(VERBS)} with a "
            f"{generator.choice(ADJECTIVES)} {other} {generator.choice(PLACES)}."
        )

    nouns = [generator.choice(NOUNS) for _ in range(n_images)]
    captions: dict[ImageId, str] = {image: caption(noun) for image, noun in enumerate(nouns)}
    references: dict[ImageId, list[str]] = {
        image: [caption(noun) for _ in range(n_references)] for image, noun in enumerate(nouns)
    }
    return captions, references


# Run by the other Python: time each step of the official tool on the file named last.
PEER = """
import contextlib, io, json, resource, sys, time
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

captions, references = json.load(open(sys.argv[1]))
out = {}

def timed(name, call):
    begin = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        result = call()
    out[name] = time.perf_counter() - begin
    return result

tokenizer = PTBTokenizer()
def tokens():
    theirs = {i: [{"caption": r} for r in group] for i, group in references.items()}
    ours = {i: [{"caption": c}] for i, c in captions.items()}
    return tokenizer.tokenize(theirs), tokenizer.tokenize(ours)
theirs, ours = timed("tokens", tokens)
scores = {}
bleu = timed("BLEU", lambda: Bleu(4).compute_score(theirs, ours, verbose=0))
scores["BLEU-4"] = float(bleu[0][3])
scores["ROUGE-L"] = float(timed("ROUGE-L", lambda: Rouge().compute_score(theirs, ours))[0])
scores["CIDEr-D"] = float(timed("CIDEr-D", lambda: Cider().compute_score(theirs, ours))[0])
out["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([out, scores]))
"""

# The same for METEOR: captions are tokens joined by spaces; the Java program is a child process.
PEER_METEOR = """
import json, resource, sys, time
from pycocoevalcap.meteor.meteor import Meteor

captions, references = json.load(open(sys.argv[1]))
begin = time.perf_counter()
meteor = Meteor()
score, _ = meteor.compute_score(references, {i: [c] for i, c in captions.items()})
out = {"METEOR": time.perf_counter() - begin}
del meteor
ours, java = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
out["METEOR, CPU"] = java.ru_utime + java.ru_stime
out["METEOR, peak MB"] = (ours.ru_maxrss + java.ru_maxrss) / 1024
print(json.dumps([out, {"METEOR": score}]))
"""


def time_this_package(path: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return the seconds of each step in this process, and the scores."""
    captions, references = json.loads(path.read_text(encoding="utf-8"))
    times: dict[str, float] = {}

    def timed(name: str, call: Callable[[], _T]) -> _T:
        begin = time.perf_counter()
        result = call()
        times[name] = time.perf_counter() - begin
        return result

    def tokens() -> tuple[dict[ImageId, list[str]], dict[ImageId, list[list[str]]]]:
        flat = [reference for group in references.values() for reference in group]
        found = iter(tokenize_all(flat, in_sequence=True))
        theirs = {image: [next(found) for _ in group] for image, group in references.items()}
        ours = tokenize_all([captions[image] for image in references], in_sequence=True)
        return dict(zip(references, ours, strict=True)), theirs

    ours, theirs = timed("tokens", tokens)
    scores = timed("BLEU + ROUGE-L + CIDEr-D", lambda: score_tokens(ours, theirs))
    # Read the peak memory now, because the rest is not part of a plain evaluation.
    times["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    timed("intervals, 1,000 resamples", lambda: intervals(scores))
    frequencies = DocumentFrequencies.of(list(theirs.values()))
    scorer = timed("CIDEr-D scorer, built once", lambda: CiderScorer(theirs, frequencies))
    images = [image for image in list(theirs)[:50] for _ in range(5)]
    batch = [ours[image] for image in images]
    scorer.score(images, batch)
    begin = time.perf_counter()
    for _ in range(20):
        scorer.score(images, batch)
    times["CIDEr-D of a batch of 250"] = (time.perf_counter() - begin) / 20
    return times, {name: scores.corpus[name] for name in ("BLEU-4", "ROUGE-L", "CIDEr-D")}


def time_meteor(path: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return the seconds from tokens to METEOR in this process, its memory, and the score."""
    captions, references = json.loads(path.read_text(encoding="utf-8"))
    folder = find_folder()
    if folder is None:
        sys.exit(f"METEOR's data are not installed ({HOW_TO_GET_IT})")
    candidates = [captions[image].split(" ") for image in references]
    groups = [[text.split(" ") for text in group] for group in references.values()]
    begin, begin_cpu = time.perf_counter(), time.process_time()
    statistics = meteor_statistics(candidates, groups, load_data(folder))
    score = float(meteor_from_statistics(statistics.sum(axis=0))[0])
    times = {
        "METEOR": time.perf_counter() - begin,
        "METEOR, CPU": time.process_time() - begin_cpu,
        "METEOR, peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    return times, {"METEOR": score}


def compare_meteor(folder: Path, repeats: int, peer_python: str | None) -> list[dict[str, Any]]:
    """Print and return METEOR's rows: this package without and with its cache, the Java program.

    Args:
        folder: Contains captions.json, in the format of `time_this_package`.
        repeats: Runs of each; the best counts.
        peer_python: A Python with pycocoevalcap.
    """
    captions, references = json.loads((folder / "captions.json").read_text(encoding="utf-8"))

    def tokens(texts: list[str]) -> list[str]:
        return [" ".join(words) for words in tokenize_all(texts, in_sequence=True)]

    content = [
        dict(zip(captions, tokens(list(captions.values())), strict=True)),
        {image: tokens(group) for image, group in references.items()},
    ]
    path = folder / "tokens.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    this = [sys.executable, __file__, "--measure-meteor", str(path)]
    first, later, java = [], [], []
    for run in range(repeats):
        cache = {"XDG_CACHE_HOME": str(folder / f"cache{run}")}
        first.append(_run(this, cache))
        later.append(_run(this, cache))
        if peer_python:
            java.append(_run([peer_python, "-c", PEER_METEOR, str(path)]))
    peer, peer_score = _best(java) if java else ({}, {})
    rows: list[dict[str, Any]] = []
    for label, runs in (("", later), (", first time", first)):
        ours, score = _best(runs)
        for name, value in ours.items():
            digits = 0 if "MB" in name else 3
            official = f"{peer[name]:10.{digits}f} {peer[name] / value:6.1f}x" if peer else ""
            print(f"{name + label:28} {value:10.{digits}f} {official}")
            rows.append(row_of(name + label, value, peer.get(name)))
    if peer:
        print(f"difference of METEOR: {abs(score['METEOR'] - peer_score['METEOR']):.1e}")
    return rows


def row_of(what: str, ours: float, official: float | None = None) -> dict[str, Any]:
    """Return a row of the JSON: seconds or MB of this package and of the official tool."""
    row: dict[str, Any] = {"what": what, "unit": "MB" if "MB" in what else "seconds", "ours": ours}
    return row if official is None else {**row, "official": official, "times": official / ours}


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--references", type=int, default=5, help="per image")
    parser.add_argument("--annotations", type=Path, help="COCO annotation file to use instead")
    parser.add_argument("--results", type=Path, help="COCO result file to use instead")
    parser.add_argument("--peer-python", help="a Python with pycocoevalcap")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each tool; the best counts")
    add_json(parser)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure-meteor", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(time_this_package(arguments.measure)))
        return
    if arguments.measure_meteor:
        print(json.dumps(time_meteor(arguments.measure_meteor)))
        return

    captions: Mapping[ImageId, str]
    references: Mapping[ImageId, list[str]]
    if arguments.annotations and arguments.results:
        captions = read_results(arguments.results)
        references = read_references(arguments.annotations)
    else:
        captions, references = make_captions(arguments.images, arguments.references)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "captions.json"
        path.write_text(json.dumps([captions, references]), encoding="utf-8")
        rows = compare_all(path, arguments.repeats, arguments.peer_python)
        if find_folder() is not None:
            rows += compare_meteor(Path(folder), arguments.repeats, arguments.peer_python)
    if arguments.json:
        n_references = sum(map(len, references.values()))
        settings = {"images": len(references), "references": n_references}
        write_json(arguments.json, rows, {**settings, "repeats": arguments.repeats})


def compare_all(path: Path, repeats: int, peer_python: str | None) -> list[dict[str, Any]]:
    """Print and return the rows of all scores that need no extra data.

    Args:
        path: Captions and references.
        repeats: Runs of each tool; the best counts.
        peer_python: A Python with pycocoevalcap.
    """
    _, references = json.loads(path.read_text(encoding="utf-8"))
    this = [sys.executable, __file__, "--measure", str(path)]
    peer = [peer_python, "-c", PEER, str(path)] if peer_python else None
    runs = [[_run(command) for command in (this, peer) if command] for _ in range(repeats)]
    ours, our_scores = _best([run[0] for run in runs])
    n_references = sum(map(len, references.values()))
    print(
        f"{len(references)} images, {n_references} references; "
        f"{os.cpu_count()} cores, Python {platform.python_version()}; seconds, "
        f"best of {repeats}"
    )
    scoring = "BLEU + ROUGE-L + CIDEr-D"
    rows = [("tokens", ours["tokens"]), (scoring, ours[scoring])]
    rows.append(("end to end", ours["tokens"] + ours[scoring]))
    theirs: dict[str, float] = {}
    if peer:
        peer_times, peer_scores = _best([run[1] for run in runs])
        theirs["tokens"] = peer_times["tokens"]
        theirs[scoring] = sum(peer_times[name] for name in ("BLEU", "ROUGE-L", "CIDEr-D"))
        theirs["end to end"] = theirs["tokens"] + theirs[scoring]
    print(f"{'':28} {'captioner':>10} {'official':>10} {'ratio':>7}")
    found = []
    for name, seconds in rows:
        official = f"{theirs[name]:10.3f} {theirs[name] / seconds:6.1f}x" if peer else ""
        print(f"{name:28} {seconds:10.3f} {official}")
        found.append(row_of(name, seconds, theirs.get(name)))
    for name, value in ours.items():
        if name not in ("tokens", scoring):
            official = f"{peer_times[name]:10.0f}" if peer and name in peer_times else ""
            print(f"{name:28} {value:10.{0 if 'MB' in name else 4}f} {official}")
            found.append(row_of(name, value, peer_times.get(name) if peer else None))
    if peer:
        difference = max(abs(our_scores[name] - peer_scores[name]) for name in our_scores)
        print(f"largest difference of a score: {difference:.1e}")
    return found


def _run(
    command: list[str], environment: Mapping[str, str] | None = None
) -> tuple[dict[str, float], dict[str, float]]:
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if done.returncode:
        sys.exit(f"{command[0]} failed: {done.stderr.strip().splitlines()[-1]}")
    times, scores = json.loads(done.stdout.splitlines()[-1])
    return times, scores


def _best(
    runs: list[tuple[dict[str, float], dict[str, float]]],
) -> tuple[dict[str, float], dict[str, float]]:
    return {name: min(times[name] for times, _ in runs) for name in runs[0][0]}, runs[0][1]


if __name__ == "__main__":
    main()
