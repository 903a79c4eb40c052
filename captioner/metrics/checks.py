"""Input checks of the metrics: refuse a string where a list belongs.

Python would iterate over its letters, and the metric would return a plausible but wrong score.
"""

from collections.abc import Iterable, Sequence

from captioner.errors import CaptionerError, shown


def check_captions(captions: Sequence[Sequence[str]]) -> None:
    """Check that captions are lists of words.

    Raises:
        CaptionerError: A string was passed instead of a list.
    """
    if isinstance(captions, str):
        raise CaptionerError(f"captions: one string, {shown(captions)}; expected a list")
    for caption in captions:
        if isinstance(caption, str):
            raise CaptionerError(f"caption: the string {shown(caption)}; expected a list of words")


def check_references(groups: Iterable[Sequence[Sequence[str]]]) -> None:
    """Check that references are, for each image, a list of lists of words.

    Raises:
        CaptionerError: A string was passed instead of a list.
    """
    if isinstance(groups, str):
        raise CaptionerError(f"references: one string, {shown(groups)}; expected a list per image")
    for group in groups:
        if isinstance(group, str):
            raise CaptionerError(
                f"references of an image: one string, {shown(group)}; expected a list of captions"
            )
        for reference in group:
            if isinstance(reference, str):
                raise CaptionerError(
                    f"reference: the string {shown(reference)}; expected a list of words"
                )
