"""CSV and similar tables (`caption_table`), with one row per caption or per photo.

Rows of the same photo are merged. The splits come from a column, or from folders `train/`,
`validation/` and `test/` with a `metadata.csv` each (Hugging Face); otherwise `data.split` divides
the photos. The image id is the photo's name.
"""

from collections.abc import Mapping
from pathlib import Path

from captioner.datasets.annotation_files import AnnotationFile, Names, annotation_files
from captioner.datasets.caption_table import Row, read_table
from captioner.datasets.records import Collector, Loaded
from captioner.files.json_file import first_folder

NAMES = Names(
    "caption table",
    ("captions.csv", "captions.tsv", "captions.txt", "metadata.csv", "results.csv"),
    (".csv", ".tsv"),
    "metadata.csv",
)
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
    first = first_folder([images or root], "photos")
    others = [] if images else [root / name for name in _PHOTO_FOLDERS]
    for file in annotation_files(root, annotations, NAMES):
        _add(collector, file, [first, *others], columns or {})
    return collector.loaded


def _add(
    collector: Collector, source: AnnotationFile, folders: list[Path], columns: Mapping[str, str]
) -> None:
    file = source.path
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
            image_id=source.prefix + name,
            folder=folders[0],
            other_folders=folders[1:],
            name=source.prefix + name,
            captions=[row.caption for row in rows],
            split=source.split or splits.pop(),
            file=file,
            place=places[0],
            caption_place=places.__getitem__,
        )
