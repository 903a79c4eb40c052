"""Scores computed by the Java programs in pycocoevalcap: SPICE and the original METEOR.

SPICE (Anderson et al. 2016, "SPICE: semantic propositional image caption evaluation") uses the
Stanford CoreNLP parser. pycocoevalcap downloads its models if they are missing, and the parser was
written for Java 8. The Java METEOR exists to check this package's own METEOR. Each program runs in
its own process, so a failure affects only its own score.
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

_LIMIT = 3600  # seconds before a program counts as hung

_METEOR = ("java", "-Xmx2G", "-jar", ARCHIVE, "-", "-", "-stdio", "-l", "en", "-norm")

# Runs in a separate Python process: reads captions and references from one file, writes scores to
# another.
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
    """Compute SPICE or METEOR with Java.

    Args:
        name: SPICE or JAVA_METEOR.
        candidates: One caption for each image.
        references: One or more references for each image.

    Raises:
        CaptionerError: pycocoevalcap or Java is not installed, or the program failed.
    """
    folder = find_folder()
    if folder is None:
        raise CaptionerError(f"{PACKAGE} is not installed ({HOW_TO_GET_IT})")
    if shutil.which("java") is None:
        raise CaptionerError("java is not on the PATH; install a Java runtime")
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
    """Return the last line of an error message that is not part of a Java stack trace."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith("at ")]
    return told[-1] if told else type(error).__name__


def _meteor(
    candidates: Sequence[str], references: Sequence[Sequence[str]], folder: Path
) -> np.ndarray:
    """Return the counts of each image, (images, 21), in the order of `meteor_statistics`."""
    rows = zip(candidates, references, strict=True)
    lines = [" ||| ".join(["SCORE", *group, candidate]) for candidate, group in rows]
    answer = _run(_METEOR, folder, "".join(line + "\n" for line in lines))
    counts = np.array([line.split()[:N_STATISTICS] for line in answer.splitlines()], dtype=float)
    if counts.shape != (len(lines), N_STATISTICS):
        raise ValueError(f"{len(counts)} answers for {len(lines)} images")
    return leave_out_whole(counts)


def _spice(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Return SPICE of each image, (images,)."""
    with tempfile.TemporaryDirectory() as name:
        captions, scores = Path(name, "captions.json"), Path(name, "scores.json")
        content = [[[text] for text in candidates], references]
        captions.write_text(json.dumps(content), encoding="utf-8")
        _run((sys.executable, "-c", _SPICE, str(captions), str(scores)), Path(name), "")
        found = np.array(json.loads(scores.read_text(encoding="utf-8")), dtype=float)
    if len(found) != len(candidates):
        raise ValueError(f"{len(found)} scores for {len(candidates)} images")
    return found


def _run(command: Sequence[str], folder: Path, text: str) -> str:
    """Run a program with `text` as its input and return its output.

    On any error, the program and its child processes are killed.

    Raises:
        OSError: The program failed or timed out. The message ends with its last error line.
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
