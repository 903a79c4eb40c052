"""What became of a photo: its captions as text, with the numbers that ranked them."""

from dataclasses import dataclass
from pathlib import Path

from captioner.decoding.hypotheses import Hypotheses
from captioner.text.vocabulary import END, Vocabulary


@dataclass(frozen=True)
class Candidate:
    """One of several captions of a photo.

    Attributes:
        caption: its text.
        log_prob: natural logarithm of its probability under the model, the end word included.
        score: what ranked it: `log_prob`, length-normalised if that was asked for, or what samples
            were ranked by.
        words: its words as the model wrote them ("man", "'s"), the end word last unless it was cut.
        word_log_probs: the log-probability of each of `words`; they sum to `log_prob`.
    """

    caption: str
    log_prob: float
    score: float
    words: tuple[str, ...]
    word_log_probs: tuple[float, ...]


@dataclass(frozen=True)
class Captioned:
    """What became of one photo: captions, best first, or the reason why there is none.

    Attributes:
        path: the photo.
        candidates: its captions, best first, or, if drawn and not re-ranked, in the order drawn;
            empty if there is none.
        error: why there is none.
    """

    path: Path
    candidates: tuple[Candidate, ...] = ()
    error: str | None = None

    @property
    def caption(self) -> str | None:
        """The best caption."""
        return self.candidates[0].caption if self.candidates else None


def candidates(found: Hypotheses, vocabulary: Vocabulary) -> list[tuple[Candidate, ...]]:
    """The captions of each image as text, in the order found."""
    longest = found.words.shape[2]
    columns = zip(
        found.captions(),
        found.log_probs.tolist(),
        found.scores.tolist(),
        found.word_log_probs.tolist(),
        strict=True,
    )
    listed = []
    for captions, *numbers in columns:
        own = []
        for ids, log_prob, score, parts in zip(captions, *numbers, strict=False):
            written = [*ids, END] if len(ids) < longest else ids
            words = tuple(vocabulary.words[i] for i in written)
            own.append(
                Candidate(
                    vocabulary.decode(ids), log_prob, score, words, tuple(parts[: len(written)])
                )
            )
        listed.append(tuple(own))
    return listed
