"""Peak memory of a wide, long search over a large vocabulary, measured in a subprocess."""

import os
import subprocess
import sys

import pytest

SEARCH = """
import sys
import torch
from captioner.decoding.beam_search import SearchOptions, beam_search

images, length, vocab_size = 64, int(sys.argv[1]), int(sys.argv[2])
words = torch.randn(16, vocab_size)
words[:, 0] = -5  # the end stays out of reach
def step(ids, h):
    h = torch.tanh(h + 0.1 * words.T[ids])
    return h.abs() @ words, h

def peak():  # of this program; ru_maxrss would begin at the memory of the process that started it
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

start = torch.ones(images, dtype=torch.int64)
beam_search(start[:1], torch.randn(1, 16), step, 0, SearchOptions(2, 2))
before = peak()
found = beam_search(start, torch.randn(images, 16), step, 0, SearchOptions(20, length, n_best=20))
assert (found.lengths == length).all()
print(peak() - before)
"""


def megabytes(length, vocab_size):
    call = [sys.executable, "-c", SEARCH, str(length), str(vocab_size)]
    # Large blocks go back at once: otherwise fragments of the heap, 0 to 1 GB by chance, count too.
    frugal = {"MALLOC_MMAP_THRESHOLD_": "100000", "MALLOC_TRIM_THRESHOLD_": "100000"}
    done = subprocess.run(
        call, check=True, capture_output=True, text=True, env={**os.environ, **frugal}
    )
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_64_images_20_beams_40_words_30000_vocabulary_stay_under_1_gb():
    assert megabytes(40, 30_000) < 1000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_square_of_the_length():
    # A history copied at every step would take 64 * 20 * 8 bytes * T ** 2 more: 92 MB at T = 95.
    assert megabytes(95, 3_000) - megabytes(5, 3_000) < 50
