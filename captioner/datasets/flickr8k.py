"""Flickr8k (Hodosh, Young & Hockenmaier 2013): a caption file and a list of photos for each split.

The caption file is the official ``Flickr8k.token.txt``, with lines ``NAME.jpg#K<TAB>caption``, or
``captions.txt``, a table with the heading ``image,caption``. The lists are the official
``Flickr_8k.{train,dev,test}Images.txt``, a file name on each line.
"""

import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from captioner.datasets.records import Collector, Loaded
from captioner.errors import CaptionerError, UsageError, shown
from captioner.files.json_file import first_folder

CAPTION_FILES = ("Flickr8k.token.txt", "captions.txt")
SPLIT_LISTS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}

_PHOTO_FOLDERS = ("Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "images")


def load(root: Path, *, images: Path | None = None, annotations: Path | None = None) -> Loaded:
    """Read Flickr8k, or anything laid out like it.

    Args:
        root: Folder of the data set, with the lists; a list that is not there is an empty split.
        images: Folder of the photos; else ``Images`` or ``Flicker8k_Dataset`` under ``root``.
        annotations: The caption file; else the first of ``CAPTION_FILES`` that ``root`` holds.

    Returns:
        The records, whose ids are the file names. Captioned photos in no list are not used, and a
        note says how many: the official files have 92.

    Raises:
        UsageError: A file or folder is not there.
        CaptionerError: The caption file has another format.
    """
    file = annotations or _find_caption_file(root)
    lists = {split: root / name for split, name in SPLIT_LISTS.items() if (root / name).is_file()}
    if not lists:
        raise UsageError(
            f"no split lists in {root}: looked for {', '.join(SPLIT_LISTS.values())} "
            "(they come with the official text files, not with the image,caption table)"
        )
    folder = first_folder(
        [images] if images else [root / name for name in _PHOTO_FOLDERS], "photos"
    )
    collector = Collector()
    captions = _read_captions(collector, file)
    used = set()
    for split, split_list in lists.items():
        for place, line in collector.lines(split_list):
            name = line.strip()
            used.add(name)
            found = captions.get(name, [])
            places = [f"{place} of {file.name}" for place, _ in found]
            collector.add(
                image_id=name,
                folder=folder,
                name=name,
                captions=[caption for _, caption in found],
                split=split,
                file=split_list,
                place=place,
                caption_place=places.__getitem__,
            )
    if unused := len(captions.keys() - used):
        collector.note(f"{unused} photos with captions in {file} are in no split list: not used")
    return collector.loaded


def _find_caption_file(root: Path) -> Path:
    for name in CAPTION_FILES:
        if (root / name).is_file():
            return root / name
    raise UsageError(
        f"no caption file in {root}: looked for {', '.join(CAPTION_FILES)}; "
        "name another with data.annotations"
    )


def _read_captions(collector: Collector, file: Path) -> dict[str, list[tuple[str, str]]]:
    """Photo to its captions, each with its place."""
    lines = collector.lines(file)
    first = next(lines, None)
    if first is None:
        raise CaptionerError(f"{file}: holds no captions")
    heading = [title.strip().lower() for title in first[1].split(",")]
    if heading == ["image", "caption"]:
        rows = _table_rows(collector, file, lines)
    elif "\t" in first[1]:
        rows = _token_rows(collector, file, chain([first], lines))
    else:
        raise CaptionerError(
            f"{file}, {first[0]}: must be NAME.jpg#0<TAB>caption, or the heading image,caption"
        )
    captions: dict[str, list[tuple[str, str]]] = {}
    for place, name, caption in rows:
        captions.setdefault(name, []).append((place, caption))
    return captions


def _token_rows(
    collector: Collector, file: Path, lines: Iterator[tuple[str, str]]
) -> Iterator[tuple[str, str, str]]:
    seen: set[str] = set()
    for place, line in lines:
        key, tab, caption = line.partition("\t")
        name, hash_sign, number = key.strip().rpartition("#")
        if not (tab and hash_sign and name and number.isdecimal()):
            collector.report(file, place, f"must be NAME.jpg#0<TAB>caption, not {shown(line)}")
        elif key in seen:
            collector.report(file, place, f"{shown(key)} occurs twice: number the captions apart")
        else:
            seen.add(key)
            yield place, name, caption


def _table_rows(
    collector: Collector, file: Path, lines: Iterator[tuple[str, str]]
) -> Iterator[tuple[str, str, str]]:
    """Rows of the table, read line by line, so that a stray quote costs one caption and no more.

    A caption that does not begin with a quote is taken as it stands, commas and quotes included,
    as tables written without care have them.
    """
    for place, line in lines:
        name, comma, caption = line.partition(",")
        try:
            if name.startswith('"'):
                name, caption = next(csv.reader([line], strict=True))
            elif not comma:
                raise ValueError
            elif caption.startswith('"'):
                (caption,) = next(csv.reader([caption], strict=True))
        except (csv.Error, ValueError):
            collector.report(
                file,
                place,
                f'must be image,caption or image,"caption" with quotes doubled inside, '
                f"not {shown(line)}",
            )
        else:
            yield place, name.strip(), caption
