"""Benchmark training steps of the decoder in words per second, against two baselines.

    python scripts/benchmark_training.py --threads 2

- per-step: a decoder written like most public captioning code. It repeats the image for each
  caption, runs one recurrent step at a time, projects every step to the vocabulary even for
  finished captions, writes into one (M, T, V) tensor, masks the loss and uses an unfused optimiser.
- limit: the matrix products that a step requires, at the speed of this machine's best product of
  the projection's shape.

A second table compares every cell with torch.nn.LSTM or GRU on packed captions, with only an
embedding and a projection. It compares Jordan's cell with its floor, the products with the
vocabulary that it must compute one step after the other.

Two more tables follow: attention (`benchmark_attention.py`; `--peer` adds the models of
ruotianluo's ImageCaptioning.pytorch), and a step on the score with the share of its reward
(`benchmark_score.py`).

One step is forward, backward and update for 10 images with 5 captions each, V 9,488, E = H = 512.
The candidates take turns, and the tables show medians. On a GPU, where such small steps are too
short to measure, use more images: `--device cuda --images 64`.
"""

import argparse
import random
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from captioner.datasets.batches import Batch, Item, collate
from captioner.model.captioner import Captioner
from captioner.model.cells import (
    GRU,
    LSTM,
    Cell,
    DeepTransition,
    Elman,
    Jordan,
    PeepholeLSTM,
    ResetBeforeGRU,
)
from captioner.model.decoder import Decoder
from captioner.model.decoder_settings import AttentionSettings, RecurrenceSettings, WordSettings
from captioner.model.kernels.linear import product
from captioner.text.vocabulary import PAD, START

CAPTIONS, VOCABULARY, SIZE, FEATURES = 5, 9488, 512, 2048
SPECIAL = 4


class PerStepDecoder(nn.Module):
    """The usual decoder: a cell, a loop, and one tensor of all log-probabilities."""

    def __init__(self, cell: type[nn.LSTMCell] | type[nn.GRUCell]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, SIZE)
        self.image = nn.Linear(FEATURES, SIZE)
        self.cell = cell(SIZE, SIZE)
        self.projection = nn.Linear(SIZE, VOCABULARY)
        self.dropout = nn.Dropout(0.5)

    def forward(self, features: Tensor, inputs: Tensor) -> Tensor:
        """Map features (M, F), one row per caption, and words (M, T) to log-probs (M, T, V)."""
        captions, steps = inputs.shape
        first = torch.tanh(self.image(features))
        state: Tensor | tuple[Tensor, Tensor] = first
        if isinstance(self.cell, nn.LSTMCell):
            state = (first, torch.zeros_like(first))
        result = features.new_zeros(captions, steps, VOCABULARY)
        for t in range(steps):
            state = self.cell(self.dropout(self.embedding(inputs[:, t])), state)
            hidden = state[0] if isinstance(state, tuple) else state
            result[:, t] = F.log_softmax(self.projection(self.dropout(hidden)), dim=1)
        return result


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


class BareDecoder(nn.Module):
    """torch's recurrent module between an embedding and a projection."""

    def __init__(self, recurrence: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, SIZE)
        self.image = nn.Linear(FEATURES, SIZE)
        self.recurrence = recurrence(SIZE, SIZE)
        self.projection = nn.Linear(SIZE, VOCABULARY)
        self.dropout = nn.Dropout(0.5)

    def forward(self, batch: Batch, batch_sizes: Tensor) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        first = torch.tanh(self.image(batch.images))[batch.rows].unsqueeze(0)
        state = (first, torch.zeros_like(first)) if isinstance(self.recurrence, nn.LSTM) else first
        xs = self.dropout(self.embedding(batch.inputs))
        hidden = self.recurrence(PackedSequence(xs, batch_sizes), state)[0].data
        return F.cross_entropy(self.projection(self.dropout(hidden)), batch.targets)


def bare(recurrence: type[nn.LSTM] | type[nn.GRU], batch: Batch) -> Callable[[], None]:
    """Return a training step of torch's module and a projection."""
    decoder = BareDecoder(recurrence)
    optimizer = torch.optim.Adam(decoder.parameters(), fused=True)
    batch_sizes = torch.tensor(batch.batch_sizes, device="cpu")

    def step() -> None:
        optimizer.zero_grad()
        decoder(batch, batch_sizes).backward()
        optimizer.step()

    return step


def jordan_floor(batch: Batch) -> Callable[[], None]:
    """Return the vocabulary products of Jordan's network, forward and both backward ones."""
    to_vocabulary, to_hidden = torch.randn(SIZE, VOCABULARY), torch.randn(VOCABULARY, SIZE)
    hidden = [torch.randn(n, SIZE) for n in batch.batch_sizes]
    output = [torch.randn(n, VOCABULARY) for n in batch.batch_sizes]
    all_hidden, all_output = torch.cat(hidden), torch.cat(output)

    def step() -> None:
        for h, y in zip(hidden, output, strict=True):
            for _ in range(2):  # forward, and backward to the inputs
                torch.mm(h, to_vocabulary)
                torch.mm(y, to_hidden)
        for _ in range(2):  # backward to the weights, all steps at once
            torch.mm(all_hidden.t(), all_output)

    return step


def projections(words: int) -> list[Callable[[], None]]:
    """Return the projection's matrix product with both CPU libraries of torch."""
    left, right = torch.randn(words, SIZE), torch.randn(VOCABULARY, SIZE)

    def by_torch() -> None:
        torch.mm(left, right.t())

    def by_onednn() -> None:
        product(left, right)

    return [by_torch, by_onednn]


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


def parse_options(about: str | None, rounds: int) -> Namespace:
    """Parse the command line, and set torch's threads, device and seed.

    Args:
        about: The docstring of the script, whose first line describes it.
        rounds: The default number of rounds.
    """
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--images", type=int, default=10, help="per batch, with 5 captions each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peer", type=Path, metavar="FOLDER", help="checkout of the peer's code")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_default_device(options.device)
    torch.manual_seed(0)
    return options


def main() -> None:
    """Measure and print the tables."""
    options = parse_options(__doc__, rounds=15)
    batch = make_batch(options.images)
    assert batch.inputs[0] == START
    words = len(batch.targets)
    print(
        f"decoder training, {options.device}, {options.threads} threads, float32, "
        f"torch {torch.__version__}; {options.images} x {CAPTIONS} captions, {words} words, "
        f"V {VOCABULARY}, E = H = {SIZE}; medians of {options.rounds}"
    )
    print(f"{'cell':6} {'ours':>9} {'per-step':>9} {'limit':>9}   ours/per-step   ours/limit")
    gates = {"LSTM": 4, "GRU": 3}
    kinds = (("LSTM", LSTM, nn.LSTMCell), ("GRU", GRU, nn.GRUCell))
    for name, cell, torch_cell in kinds:
        steps = [
            our_step(cell, batch),
            per_step(PerStepDecoder(torch_cell), batch),
            *projections(words),
        ]
        ours, theirs, *bare = take_turns(steps, options.rounds)
        # The best time of a product, not the median, because the limit is what is possible.
        speed = 2 * words * SIZE * VOCABULARY / min(map(min, bare))
        # Forward, and backward to weights and inputs: three products each.
        work = 3 * 2 * words * (SIZE * VOCABULARY + 2 * SIZE * gates[name] * SIZE)
        limit = words / (work / speed)
        rate, their_rate = words / statistics.median(ours), words / statistics.median(theirs)
        paired = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
        print(
            f"{name:6} {rate:9,.0f} {their_rate:9,.0f} {limit:9,.0f}   {paired:13.2f}   "
            f"{rate / limit:10.0%}"
        )
    print("ours, per-step, limit: words per second")
    print_family(batch, options.rounds)
    # Imported here, because they import this module.
    from benchmark_attention import print_attention
    from benchmark_score import print_score_step

    print_attention(batch, options.rounds, options.peer)
    print_score_step(options.images, options.rounds)


def print_family(batch: Batch, rounds: int) -> None:
    """Print the table of all cells."""
    words = len(batch.targets)
    family: dict[str, Callable[[int, int], Cell]] = {
        "LSTM": LSTM,
        "GRU": GRU,
        "Elman": Elman,
        "LSTM, peepholes": PeepholeLSTM,
        "GRU, reset before": ResetBeforeGRU,
        "GRU, deep transition": lambda e, h: DeepTransition(GRU(e, h), h, 1),
        "Jordan": lambda e, h: Jordan(e, h, VOCABULARY),
    }
    steps = [our_step(cell, batch) for cell in family.values()]
    steps += [bare(nn.LSTM, batch), bare(nn.GRU, batch), jordan_floor(batch)]
    seconds = take_turns(steps, rounds)
    lstm, gru, floor = seconds[-3:]

    def ratio(numerator: list[float], denominator: list[float]) -> float:
        return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))

    print(f"\n{'cell':22} {'words/s':>8} {'vs nn.LSTM':>15} {'vs nn.GRU':>14}")
    for name, times in zip(family, seconds, strict=False):
        rate = words / statistics.median(times)
        print(f"{name:22} {rate:8,.0f} {ratio(lstm, times):15.2f} {ratio(gru, times):14.2f}")
    print(f"{'torch.nn.LSTM':22} {words / statistics.median(lstm):8,.0f}")
    print(f"{'torch.nn.GRU':22} {words / statistics.median(gru):8,.0f}")
    jordan = seconds[list(family).index("Jordan")]
    print(f"Jordan's floor         {words / statistics.median(floor):8,.0f}", end="  ")
    print(f"(Jordan reaches {ratio(floor, jordan):.0%} of it)")


if __name__ == "__main__":
    main()
