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

import statistics
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from benchmark_json import write_json
from peer_models import peer_step
from torch import Tensor, nn
from training_steps import (
    CAPTIONS,
    FEATURES,
    SIZE,
    VOCABULARY,
    make_batch,
    median_ratio,
    our_step,
    parse_options,
    per_step,
    settings_of,
    take_turns,
)

from captioner.datasets.batches import Batch
from captioner.model.cells import GRU, LSTM
from captioner.model.decoder_settings import AttentionSettings

REGIONS = 196

PEERS = ("att2in2", "updown")
"""Models of the peer that attend; see `peer_models`."""


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


def print_attention(pooled: Batch, rounds: int, peer: Path | None = None) -> list[dict[str, Any]]:
    """Print the table of attention, and return its rows.

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
    heading = "".join(f"{other:>10}" for other in others)
    print(f"\n{'attention, LSTM':22} {'words/s':>8}   times: {heading}")
    rows: list[dict[str, Any]] = []
    for name in times:
        row = {"attention": name, "words_per_second": words / statistics.median(times[name])}
        if name in ours:
            row |= {f"times_{other}": median_ratio(times[other], times[name]) for other in others}
        rows.append(row)
        ratios = "".join(f"{row[f'times_{other}']:10.2f}" for other in others if name in ours)
        print(f"{name:22} {row['words_per_second']:8,.0f}          {ratios}")
    return rows


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
    rows = print_attention(batch, options.rounds, options.peer)
    if options.json:
        write_json(options.json, rows, settings_of(options))


if __name__ == "__main__":
    main()
