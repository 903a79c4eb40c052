"""Benchmark training steps with attention against a per-step decoder and a peer's own code.

    git clone https://github.com/ruotianluo/ImageCaptioning.pytorch /tmp/peer
    python scripts/benchmark_attention.py --peer /tmp/peer

Each step is forward, backward and update for 10 images of 196 regions with 2,048 features, with 5
captions each, V 9,488, E = H = A = 512. Baselines:

- per-step: additive attention in the recurrence, written like most public captioning code. It
  repeats the regions for each caption and projects every step to the vocabulary.
- att2in2, updown (`--peer FOLDER`, a checkout): the models of ruotianluo's ImageCaptioning.pytorch
  (Rennie et al. 2017; Anderson et al. 2018), imported from there with their loss, and Adam.

The candidates take turns, and the table shows medians: words per second, and the median ratio of
the times of a turn. `soft` with additive scores does the work of att2in2, and `top_down` with
additive scores that of updown.
"""

import importlib
import statistics
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from benchmark_training import (
    CAPTIONS,
    FEATURES,
    SIZE,
    VOCABULARY,
    make_batch,
    our_step,
    padded,
    parse_options,
    per_step,
    take_turns,
)
from torch import Tensor, nn

from captioner.datasets.batches import Batch
from captioner.model.cells import GRU, LSTM
from captioner.model.decoder_settings import AttentionSettings
from captioner.text.vocabulary import END, PAD, START

REGIONS = 196

PEERS = {"att2in2": "Att2in2Model", "updown": "UpDownModel"}
"""Models of the peer and their classes."""


class PerStepAttention(nn.Module):
    """The usual decoder with attention in the recurrence (Xu et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, SIZE)
        self.region = nn.Sequential(nn.Linear(FEATURES, SIZE), nn.ReLU(), nn.Dropout(0.5))
        self.key = nn.Linear(SIZE, SIZE)
        self.query = nn.Linear(SIZE, SIZE)
        self.score = nn.Linear(SIZE, 1)
        self.cell = nn.LSTMCell(2 * SIZE, SIZE)
        self.projection = nn.Linear(SIZE, VOCABULARY)
        self.dropout = nn.Dropout(0.5)

    def forward(self, features: Tensor, inputs: Tensor) -> Tensor:
        """Map features (M, R, F), a row per caption, and words (M, T) to log-probs (M, T, V)."""
        captions, steps = inputs.shape
        values = self.region(features)
        keys = self.key(values)
        h = c = features.new_zeros(captions, SIZE)
        result = features.new_zeros(captions, steps, VOCABULARY)
        for t in range(steps):
            sums = torch.tanh(keys + self.query(h).unsqueeze(1))
            weights = self.score(sums).squeeze(2).softmax(1)
            context = torch.bmm(weights.unsqueeze(1), values).squeeze(1)
            x = self.dropout(self.embedding(inputs[:, t]))
            h, c = self.cell(torch.cat((x, context), 1), (h, c))
            result[:, t] = F.log_softmax(self.projection(self.dropout(h)), dim=1)
        return result


def with_regions(batch: Batch) -> Batch:
    """Return the same captions, with images that have regions."""
    return batch._replace(images=torch.randn(len(batch.images), REGIONS, FEATURES))


def load_peer(folder: Path) -> tuple[ModuleType, ModuleType]:
    """Import the peer's attention models and losses from a checkout.

    The modules that make packages of its folders also import transformers and others; they are left
    out.
    """
    for name in ("captioning", "captioning.models", "captioning.modules", "captioning.utils"):
        package = ModuleType(name)
        package.__path__ = [str(folder / name.replace(".", "/"))]
        sys.modules[name] = package
    models = importlib.import_module("captioning.models.AttModel")
    return models, importlib.import_module("captioning.modules.losses")


def peer_step(folder: Path, name: str, batch: Batch) -> Callable[[], None]:
    """Return a training step of one of the peer's models, as its training script takes it."""
    models, losses = load_peer(folder)
    settings = Namespace(
        vocab_size=VOCABULARY - 1,  # the peer adds one, for the end
        vocab={},
        input_encoding_size=SIZE,
        rnn_size=SIZE,
        att_hid_size=SIZE,
        num_layers=1,
        drop_prob_lm=0.5,
        seq_length=16,
        max_length=16,
        fc_feat_size=FEATURES,
        att_feat_size=FEATURES,
    )
    model: Any = getattr(models, PEERS[name])(settings)
    criterion = losses.LanguageModelCriterion()
    optimizer = torch.optim.Adam(model.parameters())
    order = batch.rows.argsort(stable=True)  # captions of an image stand together
    _, inputs, targets = (tensor[order] for tensor in padded(batch))
    mask = (targets != PAD).float()
    # For the peer, 0 is start, end and padding.
    inputs = inputs.masked_fill(inputs == START, 0)
    targets = targets.masked_fill(targets == END, 0)
    pooled = batch.images.mean(1)

    def step() -> None:
        optimizer.zero_grad()
        criterion(model(pooled, batch.images, inputs), targets, mask).backward()
        optimizer.step()

    return step


def print_attention(pooled: Batch, rounds: int, peer: Path | None = None) -> None:
    """Print the table of attention.

    Args:
        pooled: the captions; its images are replaced by ones with regions.
        rounds: how often each candidate takes a step.
        peer: checkout of the peer, if there is one.
    """
    batch = with_regions(pooled)
    words = len(batch.targets)
    kinds = {
        "spatial": AttentionSettings("spatial"),
        "spatial, additive": AttentionSettings("spatial", score="additive"),
        "adaptive": AttentionSettings("adaptive"),
        "soft": AttentionSettings("soft"),
        "soft, additive": AttentionSettings("soft", score="additive"),
        "top_down": AttentionSettings("top_down"),
        "top_down, additive": AttentionSettings("top_down", score="additive"),
    }
    ours = {
        name: our_step(LSTM, batch, attention, layers=2 if attention.kind == "top_down" else 1)
        for name, attention in kinds.items()
    }
    ours["spatial, GRU"] = our_step(GRU, batch, kinds["spatial"])
    others = {"per-step": per_step(PerStepAttention(), batch)}
    if peer is not None:
        others |= {name: peer_step(peer, name, batch) for name in PEERS}
    seconds = take_turns([*ours.values(), *others.values()], rounds)
    times = dict(zip([*ours, *others], seconds, strict=True))

    def ratios(name: str) -> str:
        pairs = (zip(times[name], times[other], strict=True) for other in others)
        return "".join(f"{statistics.median(b / a for a, b in pair):10.2f}" for pair in pairs)

    heading = "".join(f"{other:>10}" for other in others)
    print(f"\n{'attention, LSTM':22} {'words/s':>8}   times: {heading}")
    for name in ours:
        print(f"{name:22} {words / statistics.median(times[name]):8,.0f}          {ratios(name)}")
    for name in others:
        print(f"{name:22} {words / statistics.median(times[name]):8,.0f}")


def main() -> None:
    """Print the table."""
    options = parse_options(__doc__, rounds=7)
    batch = make_batch(options.images)
    print(
        f"attention training, {options.device}, {options.threads} threads, float32, "
        f"torch {torch.__version__}; {options.images} x {CAPTIONS} captions, "
        f"{len(batch.targets)} words, {REGIONS} x {FEATURES}, V {VOCABULARY}, E = H = A = {SIZE}; "
        f"medians of {options.rounds}"
    )
    print_attention(batch, options.rounds, options.peer)


if __name__ == "__main__":
    main()
