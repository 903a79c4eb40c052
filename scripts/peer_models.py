"""Other projects' code, for the benchmarks of training to compare with.

    git clone https://github.com/ruotianluo/ImageCaptioning.pytorch /tmp/peer
    python scripts/benchmark_training.py --peer /tmp/peer

newfc, att2in2 and updown are models of ruotianluo's ImageCaptioning.pytorch: an LSTM that reads
the pooled image as its first input (Rennie et al. 2017, FC), attention inside an LSTM (the same
paper), and bottom-up top-down attention (Anderson et al. 2018). They are imported from a checkout,
with their loss, and trained with Adam as in its training script.
"""

import importlib
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from training_steps import FEATURES, SIZE, VOCABULARY, padded

from captioner.datasets.batches import Batch
from captioner.text.vocabulary import END, PAD, START

MODELS = {"newfc": "NewFCModel", "att2in2": "Att2in2Model", "updown": "UpDownModel"}
"""Models of the peer and their classes."""


def load_peer(folder: Path) -> tuple[ModuleType, ModuleType]:
    """Import the peer's models and losses from a checkout.

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
    """Return a training step of one of the peer's models, as its training script takes it.

    Args:
        folder: Checkout of the peer's code.
        name: One of `MODELS`.
        batch: Captions; its images are pooled features or regions.
    """
    models, losses = load_peer(folder)
    settings = Namespace(
        vocab_size=VOCABULARY - 1,  # the peer adds one, for the end
        vocab={},
        rnn_type="lstm",
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
    model: Any = getattr(models, MODELS[name])(settings)
    criterion = losses.LanguageModelCriterion()
    optimizer = torch.optim.Adam(model.parameters())
    order = batch.rows.argsort(stable=True)  # captions of an image stand together
    _, inputs, targets = (tensor[order] for tensor in padded(batch))
    mask = (targets != PAD).float()
    # For the peer, 0 is start, end and padding.
    inputs = inputs.masked_fill(inputs == START, 0)
    targets = targets.masked_fill(targets == END, 0)
    regions = batch.images if batch.images.dim() == 3 else batch.images.unsqueeze(1)
    pooled = regions.mean(1)

    def step() -> None:
        optimizer.zero_grad()
        criterion(model(pooled, regions, inputs), targets, mask).backward()
        optimizer.step()

    return step
