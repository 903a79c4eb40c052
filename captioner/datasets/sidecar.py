"""Photos with their captions beside them: `beach.jpg` and `beach.txt`, one caption per line.

Folders of any depth are read. Where the root holds `train/`, `val/` and `test/` (or other
names of splits), these are the splits; else `data.split` divides the photos. Photos without a text
file are left out and counted. The image id is the photo's path below the root.
"""

from pathlib import Path

from captioner.datasets.records import SPLIT_NAMES, Collector, Loaded
from captioner.errors import CaptionerError
from captioner.files.json_file import first_folder
from captioner.photos.folders import Skipped, files_below, is_photo

SUFFIXES = (".txt", ".caption")
"""Endings of files with captions; the first that is there is read."""


def load(root: Path, *, images: Path | None = None, divided_later: bool = False) -> Loaded:
    """Read photos and the captions beside them.

    Args:
        root: Folder of the data set.
        images: Folder of photos and captions, if it is another one.
        divided_later: Accept photos outside the folders of splits.

    Raises:
        UsageError: A folder is not there.
        CaptionerError: No photo has captions beside it.
    """
    folder = first_folder([images or root], "photos")
    collector = Collector(divided_later=divided_later)
    bare = 0
    skipped = Skipped()
    for found in files_below(folder, skipped):
        photo = found.path
        if found.error is not None:
            collector.report(photo, "folder", found.error)
            continue
        if not is_photo(photo.name):
            continue
        beside = [photo.with_suffix(suffix) for suffix in SUFFIXES]
        beside += [photo.with_name(photo.name + suffix) for suffix in SUFFIXES]
        file = next((path for path in beside if path.is_file()), None)
        if file is None:
            bare += 1
            continue
        name = photo.relative_to(folder)
        lines = list(collector.lines(file))
        places = [place for place, _ in lines]
        collector.add(
            image_id=name.as_posix(),
            folder=folder,
            name=name.as_posix(),
            captions=[line for _, line in lines],
            split=SPLIT_NAMES.get(name.parts[0].lower()) if len(name.parts) > 1 else None,
            file=file,
            place=places[0] if places else "line 1",
            caption_place=places.__getitem__,
        )
    if not collector.loaded.records and not collector.loaded.problems:
        raise CaptionerError(f"{folder}: no photo has a text file beside it, as a.jpg and a.txt")
    if bare:
        some = "1 photo" if bare == 1 else f"{bare:,} photos"
        collector.note(f"{some} in {folder} without a text file beside: not used")
    if sentence := skipped.sentence():
        collector.note(f"{folder}: {sentence}")
    return collector.loaded
