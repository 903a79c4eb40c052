"""Images to captions: where the model meets the search."""

import torch
from torch import Tensor

from captioner.data.vocabulary import END, PAD, START, UNKNOWN, Vocabulary
from captioner.decoding.beam_search import beam_search
from captioner.decoding.constraints import BannedWords
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.options import SearchOptions
from captioner.model.captioner import Captioner

NEVER_WRITTEN = BannedWords([PAD, START, UNKNOWN])
"""Words that no caption for a reader may hold; the others keep the model's probabilities."""


def generate(captioner: Captioner, images: Tensor, options: SearchOptions) -> Hypotheses:
    """Captions of a batch of images as word ids.

    Args:
        captioner: in evaluation mode.
        images: photos (B, 3, S, S) as uint8, or features (B, F) or (B, R, F).
        options: how to search.
    """
    with torch.inference_mode():
        state = captioner.initial_state(images)
        start = torch.full((len(images),), START, device=images.device)
        return beam_search(
            start, state, captioner.decoder.step, END, options, constraints=[NEVER_WRITTEN]
        )


def write_captions(hypotheses: Hypotheses, vocabulary: Vocabulary) -> list[str]:
    """The best caption of each image as text."""
    return [vocabulary.decode(best[0]) for best in hypotheses.captions()]
