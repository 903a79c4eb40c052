"""CSV and similar tables (`caption_table`), with one row per caption or per photo.

Rows of the same photo are merged. The splits come from a column, or from folders `train/`,
`validation/` and `test/` with a `metadata.csv` each (Hugging Face); otherwise `data.split` divides
the photos. The image id is the photo's name.
"""

from collections.abc import Mapping
from pathlib import Path

from captioner.datasets.caption_table import Row, read_table
from captioner.datasets.jsonl import files_of_splits
from captioner.datasets.records import Collector, Loaded
from captioner.errors import UsageError
from captioner.files.json_file import first_folder

_USUAL_NAMES = ("captions.csv", "captions.tsv", "captions.txt", "metadata.csv", "results.csv")
_PHOTO_FOLDERS = ("images", "Images", "photos", "flickr30k_images", "flickr30k-images")


def load(
    root: Path,
    *,
    images: Path | None = None,
    annotations: Path | None = None,
    columns: Mapping[str, str] | None = None,
    divided_later: bool = False,
) -> Loaded:
    """Read photos and captions from a table.

    Args:
        root: Folder of the data set.
        images: Folder of the photos. Default: `root` or a folder with a usual name in it.
        annotations: The table. Default: a file with a usual name, or the only `*.csv` or `*.tsv`.
        columns: Custom headings of image, caption and split.
        divided_later: Whether to accept photos without a split.

    Raises:
        UsageError: The file or folder does not exist, or there are several files.
        CaptionerError: The file is not a caption table.
    """
    collector = Collector(divided_later=divided_later)
    split_files = {} if annotations else files_of_splits(root, "metadata.csv")
    if split_files:
        for file, split in split_files.items():
            _add(collector, file, [images or root], f"{file.parent.name}/", columns, split)
        return collector.loaded
    file = annotations or _find_file(root)
    first = first_folder([images or root], "photos")
    others = [] if images else [root / name for name in _PHOTO_FOLDERS]
    _add(collector, file, [first, *others], "", columns, None)
    return collector.loaded


def _add(
    collector: Collector,
    file: Path,
    folders: list[Path],
    below: str,
    columns: Mapping[str, str] | None,
    split: str | None,
) -> None:
    by_image: dict[str, list[Row]] = {}
    for row in read_table(collector, file, columns):
        by_image.setdefault(row.image, []).append(row)
    for name, rows in by_image.items():
        splits = {row.split for row in rows}
        if len(splits) > 1:
            fault = f"photo {name!r} has rows in several splits; a photo belongs to one split"
            collector.report(file, rows[0].place, fault)
            continue
        places = [row.place for row in rows]
        collector.add(
            image_id=below + name,
            folder=folders[0],
            other_folders=folders[1:],
            name=below + name,
            captions=[row.caption for row in rows],
            split=split or splits.pop(),
            file=file,
            place=places[0],
            caption_place=places.__getitem__,
        )


def _find_file(root: Path) -> Path:
    for name in _USUAL_NAMES:
        if (root / name).is_file():
            return root / name
    found = sorted([*root.glob("*.csv"), *root.glob("*.tsv")])
    if not found:
        raise UsageError(
            f"no caption table in {root}: looked for {', '.join(_USUAL_NAMES)}, *.csv and "
            "*.tsv; set data.annotations to another file"
        )
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise UsageError(f"{root} has {names}; choose one with data.annotations")
    return found[0]
