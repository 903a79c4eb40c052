"""Region features that the user gives, as the features of a data set.

They are read from their files at each epoch: no second copy on the disk. `prepare` reads all of
them once, so that a run does not fail at a damaged file hours later.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from captioner.config.schema import DataConfig
from captioner.console import Progress, say
from captioner.datasets.records import SPLITS, Record
from captioner.errors import CaptionerError
from captioner.files.arrays import ArrayError
from captioner.photos.regions import RegionFolder, names_of

TOLD = 10
"""Number of photos whose problems are printed."""

Records = Mapping[str, list[Record]]
"""Records by split."""


def open_regions(config: DataConfig) -> RegionFolder | None:
    """Return the folder of region features, None if photos are encoded.

    Raises:
        UsageError: There is no such folder.
    """
    return None if config.regions is None else RegionFolder(Path(config.regions).expanduser())


def with_regions(
    records: Records, folder: RegionFolder, config: DataConfig
) -> tuple[dict[str, list[Record]], int]:
    """Return the records that have a region file, and the size of a region's features.

    Only the first file is read.

    Raises:
        CaptionerError: Photos have no file, or one that belongs to another photo too, and
            `data.on_problem` is `refuse`; or the first file is not usable.
    """
    usable: dict[str, list[Record]] = {split: [] for split in SPLITS}
    owners: dict[Path, Record] = {}
    problems = []
    for split in SPLITS:
        for record in records[split]:
            path = folder.find(names_of(record.path, record.image_id))
            if path is None:
                problems.append(f"image {record.image_id!r} has no region file")
            elif path in owners:
                other = owners[path].image_id
                problems.append(f"image {record.image_id!r} shares {path.name} with {other!r}")
            else:
                owners[path] = record
                usable[split].append(record)
    _tell(problems, folder, config)
    first = next(iter(owners.values()), None)
    if first is None:
        raise CaptionerError(f"{folder.folder}: no region file belongs to a photo of the data set")
    return usable, read_row(folder, first).shape[1]


def check_regions(records: Records, folder: RegionFolder, config: DataConfig) -> None:
    """Read the region files of all photos once, and print what they hold.

    Raises:
        CaptionerError: As in `with_regions`; or a file is damaged, and `data.on_problem` is
            `refuse`.
    """
    usable, width = with_regions(records, folder, config)
    every = [record for split in SPLITS for record in usable[split]]
    least, most, boxes, problems = 2**31, 0, 0, []
    with Progress("region files", len(every)) as bar:
        for record in every:
            bar.update()
            try:
                found = folder.read(names_of(record.path, record.image_id))
            except ArrayError as error:
                problems.append(str(error))
                continue
            count = len(found.features)
            least, most = min(least, count), max(most, count)
            boxes += found.boxes is not None
    if problems:
        for problem in problems[:TOLD]:
            say(f"damaged: {problem}")
        raise CaptionerError(
            f"{folder.folder}: {len(problems):,} of {len(every):,} region files are not usable "
            f"(first: {problems[0]}); replace them, or remove them and set data.on_problem skip"
        )
    say(
        f"regions: {len(every):,} photos in {folder.folder} have {least:,} to {most:,} regions of "
        f"{width:,} numbers; {boxes:,} have boxes"
    )


def read_row(folder: RegionFolder, record: Record) -> Tensor:
    """Read the region features of a record's photo, (R, F) float32.

    Raises:
        ArrayError: There are none, or the file is damaged.
    """
    return torch.from_numpy(folder.read(names_of(record.path, record.image_id)).features)


def _tell(problems: list[str], folder: RegionFolder, config: DataConfig) -> None:
    if not problems:
        return
    if config.on_problem == "refuse":
        raise CaptionerError(
            f"{folder.folder}: {len(problems):,} photos cannot be used (first: {problems[0]}); "
            "add their files, or set data.on_problem skip to leave the photos out"
        )
    for problem in problems[:TOLD]:
        say(f"skipped: {problem}")
    say(f"skipped {len(problems):,} photos without a region file of their own")
