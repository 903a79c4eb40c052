"""Report how many caption words a vocabulary covers, and how many captions are truncated."""

from collections.abc import Iterator, Sequence

from captioner.config.schema import VocabularyConfig
from captioner.errors import CaptionerError
from captioner.text.vocabulary import UNKNOWN, Vocabulary

MOST_UNKNOWN = 0.2
"""Share of unknown words in training captions above which `prepare` and `train` warn."""


LISTED = 12
"""Number of added words that a message lists."""


def added_words(known: Vocabulary, vocabulary: Vocabulary) -> str:
    """Return a sentence about the words that a vocabulary has beyond a known one."""
    new = vocabulary.words[len(known) :]
    if not new:
        return f"no new word; the checkpoint's {len(known):,} words are kept"
    listed = ", ".join(new[:LISTED]) + (", …" if len(new) > LISTED else "")
    words = "1 word" if len(new) == 1 else f"{len(new):,} words"
    return f"{words} added to the checkpoint's {len(known):,}: {listed}"


def tell_coverage(
    vocabulary: Vocabulary, captions: Sequence[str], settings: VocabularyConfig
) -> Iterator[str]:
    """Yield lines that state the share of unknown words and the number of truncated captions.

    Raises:
        CaptionerError: The vocabulary knows no word of the captions.
    """
    ids = [vocabulary.encode(caption) for caption in captions]
    words = sum(map(len, ids))
    unknown = sum(caption.count(UNKNOWN) for caption in ids)
    if unknown == words:
        why = f"no word occurs vocabulary.min_count ({settings.min_count}) times or more"
        right = "; lower vocabulary.min_count" if words else ""
        raise CaptionerError(
            f"vocabulary: {why if words else 'there is no word'} in the {len(captions):,} training "
            f"captions{right}"
        )
    share = unknown / words
    yield f"vocabulary: {share:.1%} of the words of training captions are unknown"
    if share > MOST_UNKNOWN:
        yield (
            f"warning: vocabulary: more than {MOST_UNKNOWN:.0%} of the words are unknown, so "
            f"captions will be poor; lower vocabulary.min_count ({settings.min_count}) or raise "
            "vocabulary.max_size"
        )
    cut = sum(len(caption) > settings.max_length for caption in ids)
    if cut:
        yield (
            f"captions: {cut:,} of {len(ids):,} training captions are truncated to "
            f"vocabulary.max_length ({settings.max_length} words)"
        )
