"""Benchmark a training step on the score of sampled captions against a cross-entropy step.

    python scripts/benchmark_score.py --threads 2    # benchmark_training.py prints this table too

A GRU with spatial attention over 49 regions draws 5 captions per image, scores them against the
references of 6,000 training images, and learns from them (`captioner.training.objectives`).
"""

import math
import random
import statistics
import time
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from benchmark_json import write_json
from torch import nn
from training_steps import (
    CAPTIONS,
    FEATURES,
    SIZE,
    SPECIAL,
    VOCABULARY,
    make_batch,
    parse_options,
    settings_of,
    take_turns,
)

from captioner.datasets.records import ImageId
from captioner.model.captioner import Captioner
from captioner.model.cells import GRU
from captioner.model.decoder import Decoder
from captioner.model.decoder_settings import AttentionSettings, RecurrenceSettings, WordSettings
from captioner.text.vocabulary import END, SPECIAL_WORDS, Vocabulary
from captioner.training.objectives import CrossEntropy, Objective
from captioner.training.reward import References, Reward, document_frequencies, with_end
from captioner.training.self_critical import Sampling, SelfCritical

GRID = 49
"""Regions per image: a grid of 7 x 7."""


def print_score_step(images: int, rounds: int) -> list[dict[str, Any]]:
    """Print the table of a step on the score, and return its rows."""
    batch = make_batch(images)
    batch = batch._replace(images=torch.randn(images, GRID, FEATURES))
    decoder = Decoder(
        VOCABULARY,
        FEATURES,
        RecurrenceSettings(GRU, SIZE),
        words=WordSettings(SIZE),
        attention=AttentionSettings("spatial"),
    )
    with torch.no_grad():  # sampled captions of about the same length as the true ones
        decoder.projection.weight.mul_(0.01)
        decoder.projection.bias[END] = math.log(VOCABULARY / 10)
    captioner = Captioner(nn.Identity(), decoder)  # type: ignore[arg-type]
    vocabulary = Vocabulary([*SPECIAL_WORDS, *(f"w{i}" for i in range(VOCABULARY - SPECIAL))])
    references = many_references(vocabulary)
    reward = TimedReward(references, vocabulary, document_frequencies(references))
    score = SelfCritical(
        reward, {image: row for row, image in enumerate(references)}, Sampling(CAPTIONS)
    )
    words = [0, 0]

    def step_of(number: int, objective: Objective) -> Callable[[], None]:
        optimizer = torch.optim.Adam(decoder.parameters(), lr=0.0, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            loss = objective(captioner, batch, epoch=0, step=0)
            loss.mean.backward()
            optimizer.step()
            words[number] = loss.words

        return step

    steps = [step_of(0, CrossEntropy()), step_of(1, score)]
    seconds = take_turns(steps, rounds)
    medians = [statistics.median(times) for times in seconds]
    of_reward = statistics.median(reward.seconds)
    print(f"\n{'objective':14} {'ms/step':>10} {'words':>6} {'words/s':>8}")
    rows: list[dict[str, Any]] = []
    for name, median, count in zip(("cross-entropy", "score"), medians, words, strict=True):
        rows.append({"objective": name, "seconds": median, "words": count})
        print(f"{name:14} {1000 * median:10,.1f} {count:6,} {count / median:8,.0f}")
    rows[-1] |= {"reward_seconds": of_reward, "share_of_reward": of_reward / medians[1]}
    print(
        f"reward of {images * CAPTIONS} captions against {len(references):,} images' references: "
        f"{1000 * of_reward:.1f} ms, {of_reward / medians[1]:.1%} of a step on the score"
    )
    return rows


def many_references(vocabulary: Vocabulary, images: int = 6000) -> References:
    """Generate as many images, with five references each, as Flickr8k has for training."""
    rng = random.Random(0)
    words = vocabulary.words[SPECIAL:]
    weights = [1 / rank for rank in range(1, len(words) + 1)]  # Zipf's law
    captions = [" ".join(rng.choices(words, weights, k=10)) for _ in range(images * CAPTIONS)]
    groups: dict[ImageId, list[str]] = {
        image: captions[image * CAPTIONS : (image + 1) * CAPTIONS] for image in range(images)
    }
    return with_end(groups)


class TimedReward(Reward):
    """A reward that records its run time."""

    seconds: ClassVar[list[float]] = []

    def __call__(self, *given: Any) -> Any:
        """Return the rewards."""
        began = time.perf_counter()
        found = super().__call__(*given)
        self.seconds.append(time.perf_counter() - began)
        return found


def main() -> None:
    """Print the table."""
    options = parse_options(__doc__, rounds=7)
    rows = print_score_step(options.images, options.rounds)
    if options.json:
        write_json(options.json, rows, settings_of(options))


if __name__ == "__main__":
    main()
