"""Small random models whose next word depends on the whole caption so far."""

from copy import copy

import torch
from exhaustive_search import END


class RandomModel:
    """P(next word | image, words so far), drawn once for each prefix from a seed.

    A prefix is a node of a tree: the start is node 0 and word w leads from node i to V * i + w + 1.
    """

    def __init__(self, vocab_size, max_length, seed=0, images=1, ends=True, spread=2.0):
        generator = torch.Generator().manual_seed(seed)
        self.vocab_size = vocab_size
        nodes = sum(vocab_size**t for t in range(max_length + 1))
        logits = spread * torch.randn(
            images, nodes, vocab_size, generator=generator, dtype=torch.float64
        )
        if not ends:
            logits[:, :, END] = float("-inf")
        self.logits = logits

    def of_image(self, image):
        probabilities = self.logits[image].softmax(dim=1).tolist()

        def next_word(words):
            node = 0
            for word in words:
                node = self.vocab_size * node + word + 1
            return probabilities[node]

        return next_word

    def to(self, device):
        """The same model on another device."""
        moved = copy(self)
        moved.logits = self.logits.to(device)
        return moved

    def start(self):
        """Start ids and state; the state is the image and the node before the current word."""
        images = torch.arange(len(self.logits), device=self.logits.device)
        return torch.full_like(images, -1), (images, torch.zeros_like(images))

    def step(self, ids, state):
        image, node = state
        node = torch.where(ids < 0, node, self.vocab_size * node + ids + 1)
        return self.logits[image, node], (image, node)
