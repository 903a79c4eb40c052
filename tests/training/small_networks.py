"""Networks of a few words and their batches, for the tests of objectives."""

import numpy as np
import torch
from torch import nn

from captioner.datasets.batches import Item, collate
from captioner.model.captioner import Captioner
from captioner.model.cells import GRU
from captioner.model.decoder import Decoder
from captioner.model.decoder_settings import (
    AttentionSettings,
    DropoutSettings,
    RecurrenceSettings,
    WordSettings,
)

VOCABULARY, FEATURES = 6, 4  # two words beside the special ones; with the end, three to draw
WORDS = (4, 5)


def network(cell=GRU, dropout=0.0, seed=0, place="init", attention="none"):
    torch.manual_seed(seed)
    decoder = Decoder(
        VOCABULARY,
        FEATURES,
        RecurrenceSettings(cell, 3),
        place=place,
        words=WordSettings(3),
        attention=AttentionSettings(attention),
        dropout=DropoutSettings(dropout, dropout),
    )
    with torch.no_grad():
        for weights in decoder.parameters():
            weights.add_(0.5 * torch.randn_like(weights))
    return Captioner(nn.Identity(), decoder).train()


def batch(images=2, captions=((4, 5, 4), (5,)), seed=1):
    torch.manual_seed(seed)
    return collate(
        [Item(i, torch.randn(FEATURES), [list(c) for c in captions]) for i in range(images)]
    )


def gradient(network, value):
    weights = list(network.parameters())
    grads = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
    pairs = zip(weights, grads, strict=True)
    return torch.cat([(w * 0 if g is None else g).detach().flatten() for w, g in pairs])


def worth(images, captions, ended):
    """Return an arbitrary reward that differs by caption and image; 0 for a cut caption."""
    values = [
        (1 + 3 * len(c) + 2 * sum(c) + (c[:1] == [5])) % 7 + image
        for image, c in zip(images, captions, strict=True)
    ]
    return np.where(ended, np.array(values, dtype=float), 0.0)
