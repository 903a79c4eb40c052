"""Karpathy's split files `dataset_{coco,flickr8k,flickr30k}.json` (Karpathy & Fei-Fei 2015).

`{"images": [{"filename", "split", "sentences": [{"raw", "sentid"}], "filepath"?, "cocoid"?}]}`:
the splits of most published COCO and Flickr30k results. COCO's `restval` (official validation
photos used neither for validation nor for test) is added to the training split, as in the papers.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from captioner.datasets.records import Collector, ImageId, Loaded, check_id
from captioner.errors import UsageError, shown
from captioner.files.json_file import as_list, first_folder, read_json

FILES = ("dataset_coco.json", "dataset_flickr8k.json", "dataset_flickr30k.json")

_PHOTO_FOLDERS = ("images", "Images", "flickr30k-images", "flickr30k_images", "Flicker8k_Dataset")


def load(root: Path, *, images: Path | None = None, annotations: Path | None = None) -> Loaded:
    """Read one of Karpathy's files.

    Args:
        root: Folder of the data set.
        images: Folder of the photos. Default: `root` or `root/images` for entries with a
            `filepath` (`train2014`, `val2014`), otherwise a folder with a usual name.
        annotations: The file. Default: the only one of `FILES` in `root`.

    Returns:
        The records. The image id is `cocoid` if present, otherwise `filename`.

    Raises:
        UsageError: The file or folder does not exist, or there are several files.
        CaptionerError: The file has the wrong format.
    """
    file = annotations or _find_file(root)
    entries = as_list(read_json(file), file, "images")
    filepaths = sorted({_filepath(entry) for entry in entries} - {""})
    folder = first_folder([images], "photos") if images else _find_photos(root, filepaths)
    collector = Collector()
    for index, entry in enumerate(entries):
        _add(collector, file, folder, f"images[{index}]", entry)
    return collector.loaded


def read_captions(
    collector: Collector, file: Path
) -> Iterator[tuple[ImageId, str, str | None, list[object]]]:
    """Yield image id, name, split and captions of each photo; photos need not exist."""
    for index, entry in enumerate(as_list(read_json(file), file, "images")):
        place = f"images[{index}]"
        sentences = entry.get("sentences") if isinstance(entry, dict) else None
        if not isinstance(sentences, list):
            collector.report(file, place, f'"sentences" must be a list, not {shown(sentences)}')
            continue
        filename = entry.get("filename")
        try:
            image_id = check_id(entry.get("cocoid", filename))
        except ValueError as fault:
            collector.report(file, place, fault)
            continue
        filepath, split = _filepath(entry), entry.get("split")
        yield (
            image_id,
            f"{filepath}/{filename}" if filepath else str(filename),
            "train" if split == "restval" else str(split),
            [_raw(sentence) for sentence in sentences],
        )


def _find_file(root: Path) -> Path:
    found = [root / name for name in FILES if (root / name).is_file()]
    if not found:
        raise UsageError(
            f"no Karpathy split file in {root}: looked for {', '.join(FILES)}; "
            "set data.annotations to another file"
        )
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise UsageError(f"{root} has {names}; choose one with data.annotations")
    return found[0]


def _filepath(entry: object) -> str:
    value = entry.get("filepath") if isinstance(entry, dict) else None
    return value if isinstance(value, str) else ""


def _find_photos(root: Path, filepaths: list[str]) -> Path:
    if filepaths:
        wanted = [base / path for base in (root, root / "images") for path in filepaths]
        found = first_folder(wanted, "photos")
        return root if found in wanted[: len(filepaths)] else root / "images"
    return first_folder([root / name for name in _PHOTO_FOLDERS], "photos")


def _add(collector: Collector, file: Path, folder: Path, place: str, entry: object) -> None:
    if not isinstance(entry, dict):
        collector.report(file, place, f"must be an object, not {shown(entry)}")
        return
    filename = entry.get("filename")
    image_id = entry.get("cocoid", filename)
    if image_id is not None:
        place = f"image {shown(image_id)}"
    sentences = entry.get("sentences")
    if not isinstance(sentences, list):
        collector.report(file, place, f'"sentences" must be a list, not {shown(sentences)}')
        return
    filepath = _filepath(entry)
    split = entry.get("split")
    collector.add(
        image_id=image_id,
        folder=folder,
        name=f"{filepath}/{filename}" if filepath and isinstance(filename, str) else filename,
        captions=[_raw(sentence) for sentence in sentences],
        split="train" if split == "restval" else split,
        file=file,
        place=place,
        caption_place=lambda index: f"{place}, {_sentence_place(sentences[index], index)}",
    )


def _raw(sentence: object) -> object:
    return sentence.get("raw") if isinstance(sentence, dict) else sentence


def _sentence_place(sentence: Any, index: int) -> str:
    if isinstance(sentence, dict) and "sentid" in sentence:
        return f"sentence {shown(sentence['sentid'])}"
    return f"sentences[{index}]"
