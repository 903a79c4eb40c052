"""Training steps that the benchmarks measure: a batch, this project's step, the usual one.

Each step is forward, backward and update for images with five captions each. `take_turns` measures
several, and `parse_options` reads the flags that the benchmarks of training share.
"""

import argparse
import os
import random
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmark_json import add_json
from torch import Tensor, nn

from captioner.cli import keep_freed_memory
from captioner.datasets.batches import Batch, Item, collate
from captioner.model.captioner import Captioner
from captioner.model.cells import Cell
from captioner.model.decoder import Decoder
from captioner.model.decoder_settings import AttentionSettings, RecurrenceSettings, WordSettings
from captioner.text.vocabulary import PAD

CAPTIONS, VOCABULARY, SIZE, FEATURES = 5, 9488, 512, 2048
SPECIAL = 4


LENGTHS = {7: 2, 8: 14, 9: 19, 10: 19, 11: 15, 12: 11, 13: 8, 14: 5, 15: 3, 16: 4}
"""Caption lengths in words and their frequencies in percent, close to COCO's: 10.7 on average,
with longer captions cut at 16 words, as is usual."""


def make_batch(images: int, seed: int = 0) -> Batch:
    """Return captions of random words and of COCO's lengths."""
    rng = random.Random(seed)
    return collate(
        [
            Item(
                image,
                torch.randn(FEATURES),
                [
                    [rng.randrange(SPECIAL, VOCABULARY) for _ in range(length)]
                    for length in rng.choices(list(LENGTHS), list(LENGTHS.values()), k=CAPTIONS)
                ],
            )
            for image in range(images)
        ]
    )


def padded(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return a batch as padded tensors: features (M, F), inputs (M, T), targets (M, T)."""
    captions, steps = len(batch.rows), len(batch.batch_sizes)
    inputs = torch.full((captions, steps), PAD)
    targets = torch.full((captions, steps), PAD)
    pairs = zip(
        batch.inputs.split(batch.batch_sizes), batch.targets.split(batch.batch_sizes), strict=True
    )
    for t, (before, after) in enumerate(pairs):
        inputs[: len(before), t] = before
        targets[: len(after), t] = after
    return batch.images[batch.rows], inputs, targets


def our_step(
    cell: Callable[[int, int], Cell],
    batch: Batch,
    attention: AttentionSettings | None = None,
    layers: int = 1,
) -> Callable[[], None]:
    """Return a training step of this project's decoder."""
    decoder = Decoder(
        VOCABULARY,
        FEATURES,
        RecurrenceSettings(cell, SIZE, layers),
        words=WordSettings(SIZE),
        attention=attention,
    )
    captioner = Captioner(nn.Identity(), decoder)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(decoder.parameters(), fused=True)
    batch_sizes = torch.tensor(batch.batch_sizes, device="cpu")

    def step() -> None:
        optimizer.zero_grad()
        loss = captioner.loss(batch.images, batch.inputs, batch.targets, batch_sizes, batch.rows)
        loss.backward()
        optimizer.step()

    return step


def per_step(decoder: nn.Module, batch: Batch) -> Callable[[], None]:
    """Return a training step of the usual decoder."""
    optimizer = torch.optim.Adam(decoder.parameters(), foreach=False, fused=False)
    features, inputs, targets = padded(batch)
    mask = (targets != PAD).float()

    def step() -> None:
        optimizer.zero_grad()
        log_probs = decoder(features, inputs)
        chosen = log_probs.gather(2, targets.unsqueeze(2)).squeeze(2)
        loss = -(chosen * mask).sum() / mask.sum()
        loss.backward()
        optimizer.step()

    return step


def take_turns(steps: Sequence[Callable[[], None]], rounds: int) -> list[list[float]]:
    """Return the seconds of each step, measured in turns, after two warm-up rounds.

    With one thread these are CPU seconds of this process, which other programs do not affect. With
    more threads, and on a GPU, they are wall-clock seconds.
    """
    on_gpu = torch.get_default_device().type == "cuda"
    one_thread = torch.get_num_threads() == 1 and not on_gpu
    clock = time.process_time if one_thread else time.perf_counter
    seconds: list[list[float]] = [[] for _ in steps]
    for turn in range(rounds + 2):
        for i, step in enumerate(steps):
            began = clock()
            step()
            if on_gpu:
                torch.cuda.synchronize()
            if turn >= 2:
                seconds[i].append(clock() - began)
    return seconds


def median_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Return the median over turns of the ratio of two candidates' times."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def parse_options(about: str | None, rounds: int, tables: Sequence[str] = ()) -> Namespace:
    """Parse the command line, and set torch's threads, device and seed.

    Args:
        about: The docstring of the script, whose first line describes it.
        rounds: The default number of rounds.
        tables: Tables of the script, of which `--tables` chooses some.
    """
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--images", type=int, default=10, help="per batch, with 5 captions each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peer", type=Path, metavar="FOLDER", help="checkout of the peer's code")
    if tables:
        parser.add_argument("--tables", nargs="+", choices=tables, default=tables)
    add_json(parser)
    options = parser.parse_args()
    keep_freed_memory(os.environ)  # as `captioner train` does
    torch.set_num_threads(options.threads)
    torch.set_default_device(options.device)
    torch.manual_seed(0)
    return options


def settings_of(options: Namespace) -> dict[str, Any]:
    """Return what a benchmark's JSON says of a batch and of the measurement."""
    return {
        "device": options.device,
        "threads": options.threads,
        "rounds": options.rounds,
        "images": options.images,
        "captions_per_image": CAPTIONS,
        "vocabulary": VOCABULARY,
        "size": SIZE,
    }
