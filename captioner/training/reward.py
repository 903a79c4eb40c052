r"""Reward of a caption: how well it agrees with the references of its photo.

    R(c) = w_c CIDEr-D(c) + w_b BLEU-4(c)

CIDEr-D ranges from 0 to 10 and BLEU-4 of a single caption from 0 to 1. Four rules prevent reward
hacking:

- Captions and references include the end word, so that ending in the wrong place costs n-grams.
  Without it, captions learn to end in "a".
- A caption that was cut at the maximum length gets 0.
- The unknown word matches nothing, whatever rare words the references hold.
- Document frequencies come from the training references only.

The scorers are those of `captioner.metrics`. The n-grams of the references are counted once.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from captioner.datasets.records import ImageId
from captioner.metrics.bleu import bleu_from_statistics, bleu_statistics
from captioner.metrics.cider import CiderScorer, DocumentFrequencies
from captioner.metrics.ngrams import NgramIndex, Tokens
from captioner.text.vocabulary import END, UNKNOWN, Vocabulary
from captioner.text.word_tokenizers import word_tokenizer

# The tokenizer turns line breaks into spaces, so no reference can contain these two.
END_TOKEN = "\n"
UNKNOWN_TOKEN = "\n?"

References = dict[ImageId, list[list[str]]]
"""Tokens of each image's references, the end token last."""


def with_end(references: Mapping[ImageId, Sequence[str]], tokenizer: str = "ptb") -> References:
    """Tokenize references with the vocabulary's tokenizer and append the end token to each."""
    tokenize = word_tokenizer(tokenizer)
    return {
        image_id: [[*tokenize(caption), END_TOKEN] for caption in captions]
        for image_id, captions in references.items()
    }


def document_frequencies(references: References) -> DocumentFrequencies:
    """Count the images in whose references each n-gram occurs, including the end token."""
    return DocumentFrequencies.of(list(references.values()), source="training references")


class Reward:
    """Scores captions, given as word ids, against the references of their images.

    Args:
        references: References of all images that will be scored, from `with_end`.
        vocabulary: Words of the ids.
        frequencies: Document frequencies of the training references.
        cider: Weight of CIDEr-D.
        bleu: Weight of the BLEU-4 of a single caption.
    """

    def __init__(
        self,
        references: References,
        vocabulary: Vocabulary,
        frequencies: DocumentFrequencies,
        *,
        cider: float = 1.0,
        bleu: float = 0.0,
    ) -> None:
        self.references = references
        self.cider = cider
        self.bleu = bleu
        self._scorer = CiderScorer(references, frequencies)
        self._words = list(vocabulary.words)
        self._words[END] = END_TOKEN
        self._words[UNKNOWN] = UNKNOWN_TOKEN

    def __call__(
        self, images: Sequence[ImageId], captions: Sequence[Sequence[int]], ended: Sequence[bool]
    ) -> np.ndarray:
        """Return the reward of each caption, (captions,), float64.

        Args:
            images: Image id of each caption; ids may repeat.
            captions: Word ids in reading order, without the end word.
            ended: Whether each caption ended; False if it was cut at the maximum length.
        """
        tokens = [[*map(self._words.__getitem__, ids), END_TOKEN] for ids in captions]
        reward = np.zeros(len(tokens))
        if self.cider:
            reward += self.cider * self._scorer.score(images, tokens)
        if self.bleu:
            reward += self.bleu * self._bleu(images, tokens)
        return np.where(np.asarray(ended, dtype=bool), reward, 0.0)

    def _bleu(self, images: Sequence[ImageId], captions: Sequence[Tokens]) -> np.ndarray:
        """Return the BLEU-4 of each single caption, from 0 to 1."""
        groups = [self.references[image] for image in images]
        index, counts = NgramIndex.of([tokens for group in groups for tokens in group])
        group_of = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        statistics = bleu_statistics(
            captions,
            groups,
            index.count(captions),
            [entries.most_in_group(group_of) for entries in counts],
        )
        return np.asarray(bleu_from_statistics(statistics)[:, -1])
