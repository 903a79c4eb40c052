"""Sidecar files: photos with captions in a text file beside them, `beach.jpg` and `beach.txt`.

A text file has one caption per line. Folders are read recursively. If the root has `train/`, `val/`
and `test/` (or other names of splits), these are the splits; otherwise `data.split` divides the
photos. Photos without a text file are skipped and counted. The image id is the photo's path
relative to the root.
"""

from pathlib import Path

from captioner.datasets.records import SPLIT_NAMES, Collector, Loaded
from captioner.errors import CaptionerError
from captioner.files.json_file import first_folder
from captioner.photos.folders import Skipped, files_below, is_photo

SUFFIXES = (".txt", ".caption")
"""Extensions of caption files. The first one present is read."""


def load(root: Path, *, images: Path | None = None, divided_later: bool = False) -> Loaded:
    """Read photos and the captions beside them.

    Args:
        root: Folder of the data set.
        images: Folder of photos and captions. Default: `root`.
        divided_later: Whether to accept photos outside split folders.

    Raises:
        UsageError: A folder does not exist.
        CaptionerError: No photo has a caption file.
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
        file = captions_of(photo)
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
        raise CaptionerError(
            f"{folder}: no photo has a caption file beside it; expected a.jpg and a.txt"
        )
    if bare:
        some = "1 photo" if bare == 1 else f"{bare:,} photos"
        collector.note(f"{some} in {folder} skipped: no caption file beside")
    if sentence := skipped.sentence():
        collector.note(f"{folder}: {sentence}")
    return collector.loaded


def captions_of(photo: Path) -> Path | None:
    """Return the caption file beside a photo, if there is one."""
    beside = [photo.with_suffix(suffix) for suffix in SUFFIXES]
    beside += [photo.with_name(photo.name + suffix) for suffix in SUFFIXES]
    return next((path for path in beside if path.is_file()), None)


def first_caption_file(folder: Path) -> Path | None:
    """Return the caption file of the first photo in a folder that has one."""
    photos = (found.path for found in files_below(folder, Skipped()) if found.error is None)
    files = (captions_of(photo) for photo in photos if is_photo(photo.name))
    return next((file for file in files if file is not None), None)
