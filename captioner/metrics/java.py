"""Scores by the Java programs that pycocoevalcap ships: SPICE, and METEOR as its authors wrote it.

SPICE (Anderson et al. 2016, "SPICE: semantic propositional image caption evaluation") stands on the
parser of Stanford CoreNLP, whose models pycocoevalcap downloads when they are missing; it was made
for Java 8. METEOR by Java is for a second opinion on this package's own. Each runs in processes of
its own: what goes wrong there costs its own score.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from captioner.errors import CaptionerError
from captioner.metrics.meteor.data import ARCHIVE, HOW_TO_GET_IT, PACKAGE, find_folder
from captioner.metrics.meteor.score import N_STATISTICS, leave_out_whole, meteor_from_statistics
from captioner.metrics.ngrams import Tokens
from captioner.metrics.statistics import ImageStatistics, mean_statistics

JAVA_METEOR, SPICE = "METEOR-Java", "SPICE"

_LIMIT = 3600  # seconds until a program counts as hung

_METEOR = ("java", "-Xmx2G", "-jar", ARCHIVE, "-", "-", "-stdio", "-l", "en", "-norm")

# Run by a Python of its own: captions and references of one file to the scores of another.
_SPICE = """
import json, sys
from pycocoevalcap.spice.spice import Spice

candidates, references = json.load(open(sys.argv[1], encoding="utf-8"))
_, found = Spice().compute_score(dict(enumerate(references)), dict(enumerate(candidates)))
json.dump([scores["All"]["f"] for scores in found], open(sys.argv[2], "w"))
"""


def java_statistics(
    name: str, candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> ImageStatistics:
    """SPICE or METEOR by Java.

    Args:
        name: SPICE or JAVA_METEOR.
        candidates: One caption for each image.
        references: One or more references for each image.

    Raises:
        CaptionerError: If it cannot be had; one line that says why.
    """
    folder = find_folder()
    if folder is None:
        raise CaptionerError(f"{PACKAGE} is not installed ({HOW_TO_GET_IT})")
    if shutil.which("java") is None:
        raise CaptionerError("there is no java on the path")
    texts = [" ".join(tokens) for tokens in candidates]
    groups = [[" ".join(tokens) for tokens in group] for group in references]
    try:
        if name == SPICE:
            return mean_statistics(SPICE, _spice(texts, groups))
        values = _meteor(texts, groups, folder)
        return ImageStatistics((JAVA_METEOR,), values, meteor_from_statistics)
    except (OSError, ValueError) as error:
        raise CaptionerError(f"the Java program failed: {_last_words(error)}") from error


def _last_words(error: Exception) -> str:
    """The last line of a complaint that is not one of Java's stack trace."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith("at ")]
    return told[-1] if told else type(error).__name__


def _meteor(
    candidates: Sequence[str], references: Sequence[Sequence[str]], folder: Path
) -> np.ndarray:
    """The counts of each image in the order of `meteor_statistics`, (images, 21)."""
    rows = zip(candidates, references, strict=True)
    lines = [" ||| ".join(["SCORE", *group, candidate]) for candidate, group in rows]
    answer = _run(_METEOR, folder, "".join(line + "\n" for line in lines))
    counts = np.array([line.split()[:N_STATISTICS] for line in answer.splitlines()], dtype=float)
    if counts.shape != (len(lines), N_STATISTICS):
        raise ValueError(f"{len(lines)} images, {len(counts)} answers")
    return leave_out_whole(counts)


def _spice(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """SPICE of each image, (images,)."""
    with tempfile.TemporaryDirectory() as name:
        captions, scores = Path(name, "captions.json"), Path(name, "scores.json")
        content = [[[text] for text in candidates], references]
        captions.write_text(json.dumps(content), encoding="utf-8")
        _run((sys.executable, "-c", _SPICE, str(captions), str(scores)), Path(name), "")
        found = np.array(json.loads(scores.read_text(encoding="utf-8")), dtype=float)
    if len(found) != len(candidates):
        raise ValueError(f"{len(found)} scores of {len(candidates)} images")
    return found


def _run(command: Sequence[str], folder: Path, text: str) -> str:
    """What a program writes when it is given a text; no process of it outlives the call.

    Raises:
        OSError: If it fails; the message ends with its last words.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            answer, complaint = process.communicate(text, timeout=_LIMIT)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise OSError(f"no answer within {_LIMIT} s") from error
            raise
    if process.returncode:
        raise OSError(complaint.strip() or f"exit code {process.returncode}")
    return answer
