"""What metrics refuse: text where a list belongs, which Python would take apart into letters."""

from collections.abc import Iterable, Sequence

from captioner.errors import CaptionerError, shown


def check_captions(captions: Sequence[Sequence[str]]) -> None:
    """Refuse captions that are not lists of words.

    Raises:
        CaptionerError: One is a text, or all are.
    """
    if isinstance(captions, str):
        raise CaptionerError(f"captions are one text, {shown(captions)}: give a list of captions")
    for caption in captions:
        if isinstance(caption, str):
            raise CaptionerError(f"a caption is the text {shown(caption)}: give a list of words")


def check_references(groups: Iterable[Sequence[Sequence[str]]]) -> None:
    """Refuse references that are not a list of captions, lists of words, for each image.

    Raises:
        CaptionerError: A text stands where a list belongs.
    """
    if isinstance(groups, str):
        raise CaptionerError(f"references are one text, {shown(groups)}: give a list per image")
    for group in groups:
        if isinstance(group, str):
            raise CaptionerError(
                f"the references of an image are one text, {shown(group)}: give a list of them"
            )
        for reference in group:
            if isinstance(reference, str):
                raise CaptionerError(
                    f"a reference is the text {shown(reference)}: give a list of words"
                )
