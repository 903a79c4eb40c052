"""Flickr8k (Hodosh, Young & Hockenmaier 2013): a caption file and a list of photos per split.

The caption file is the official `Flickr8k.token.txt`, with lines `NAME.jpg#K<TAB>caption`, or a
table (`caption_table`) such as `captions.txt` with the heading `image,caption` or Flickr30k's
`results.csv`. The lists are the official `Flickr_8k.{train,dev,test}Images.txt`, with one file name
per line. Without them, `data.split` divides the photos.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from captioner.datasets.caption_table import has_heading, read_table
from captioner.datasets.records import Collector, Loaded
from captioner.errors import CaptionerError, UsageError, shown
from captioner.files.json_file import first_folder

TOKEN_FILES = ("Flickr8k.token.txt", "results_20130124.token")
CAPTION_FILES = (TOKEN_FILES[0], "captions.txt", "results.csv", TOKEN_FILES[1])
SPLIT_LISTS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}

_PHOTO_FOLDERS = (
    *("Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "images"),
    *("flickr30k_images", "flickr30k-images"),
)


def load(
    root: Path,
    *,
    images: Path | None = None,
    annotations: Path | None = None,
    columns: Mapping[str, str] | None = None,
    divided_later: bool = False,
) -> Loaded:
    """Read Flickr8k, or a data set with the same layout.

    Args:
        root: Folder of the data set, with the lists. A missing list is an empty split.
        images: Folder of the photos. Default: `Images` or `Flicker8k_Dataset` under `root`.
        annotations: The caption file. Default: the first of `CAPTION_FILES` in `root`.
        columns: Custom headings of a table.
        divided_later: Whether to accept a data set without lists; its photos have no split.

    Returns:
        The records, with file names as ids. Captioned photos in no list are skipped and counted in
        a note; the official files have 92 of them.

    Raises:
        UsageError: A file or folder does not exist.
        CaptionerError: The caption file has the wrong format.
    """
    file = annotations or _find_caption_file(root)
    lists = {split: root / name for split, name in SPLIT_LISTS.items() if (root / name).is_file()}
    if not lists and not divided_later:
        raise UsageError(
            f"no split lists in {root}: looked for {', '.join(SPLIT_LISTS.values())} "
            "(they are part of the official text files, not of the image,caption table); "
            "otherwise set data.split 80/10/10"
        )
    folder = first_folder(
        [images] if images else [root / name for name in _PHOTO_FOLDERS], "photos"
    )
    collector = Collector(divided_later=divided_later)
    captions = read_captions(collector, file, columns)

    def add(name: str, split: str | None, split_list: Path, place: str) -> None:
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

    if not lists:
        for name, found in captions.items():
            add(name, None, file, found[0][0])
        return collector.loaded
    used = set()
    for split, split_list in lists.items():
        for place, line in collector.lines(split_list):
            used.add(line.strip())
            add(line.strip(), split, split_list, place)
    if unused := len(captions.keys() - used):
        collector.note(f"{unused} photos with captions in {file} skipped: in no split list")
    return collector.loaded


def _find_caption_file(root: Path) -> Path:
    for name in CAPTION_FILES:
        if (root / name).is_file():
            return root / name
    raise UsageError(
        f"no caption file in {root}: looked for {', '.join(CAPTION_FILES)}; "
        "set data.annotations to another file"
    )


def read_captions(
    collector: Collector, file: Path, columns: Mapping[str, str] | None = None
) -> dict[str, list[tuple[str, str]]]:
    """Read the captions of each photo with their locations.

    Raises:
        UsageError: There is no such file.
        CaptionerError: It has the wrong format.
    """
    first = next(collector.lines(file), None)
    if first is None:
        raise CaptionerError(f"{file}: no captions")
    captions: dict[str, list[tuple[str, str]]] = {}
    if is_token_line(first[1]):
        for place, name, caption in _token_rows(collector, file, collector.lines(file)):
            captions.setdefault(name, []).append((place, caption))
    elif has_heading(first[1], columns):
        for row in read_table(collector, file, columns):
            captions.setdefault(row.image, []).append((row.place, row.caption))
    else:
        raise CaptionerError(
            f"{file}, {first[0]}: expected NAME.jpg#0<TAB>caption or the heading image,caption"
        )
    return captions


def is_token_line(line: str) -> bool:
    """Return whether a line has the format of `Flickr8k.token.txt`."""
    key, tab, _ = line.partition("\t")
    return bool(tab) and "#" in key


def _token_rows(
    collector: Collector, file: Path, lines: Iterator[tuple[str, str]]
) -> Iterator[tuple[str, str, str]]:
    seen: set[str] = set()
    for place, line in lines:
        key, tab, caption = line.partition("\t")
        name, hash_sign, number = key.strip().rpartition("#")
        if not (tab and hash_sign and name and number.isdecimal()):
            collector.report(file, place, f"expected NAME.jpg#0<TAB>caption, not {shown(line)}")
        elif key in seen:
            collector.report(
                file, place, f"{shown(key)} occurs twice; number each caption differently"
            )
        else:
            seen.add(key)
            yield place, name, caption
