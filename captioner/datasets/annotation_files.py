"""Find the annotation files of a folder: one for all photos, or one in the folder of each split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.datasets.records import SPLIT_NAMES
from captioner.errors import UsageError


@dataclass(frozen=True)
class AnnotationFile:
    """An annotation file.

    Attributes:
        path: The file.
        split: Split of its photos; None if its entries name their splits.
        prefix: Folder that its photos' names are relative to, with a slash; "" for the root.
    """

    path: Path
    split: str | None = None
    prefix: str = ""


@dataclass(frozen=True)
class Names:
    """Names of a format's annotation files.

    Attributes:
        what: What such a file is called in messages.
        usual: Names in the root of a data set. The first one present is used.
        endings: Extensions. Without a usual name, the only file with one of them is used.
        in_splits: Name in the folders `train/`, `validation/` and `test/` (Hugging Face), which
            precedes the others.
    """

    what: str
    usual: Sequence[str]
    endings: Sequence[str]
    in_splits: str

    def find(self, root: Path) -> list[AnnotationFile]:
        """Return the files to read; several that belong to no split are a choice to be made."""
        found = [
            AnnotationFile(file, split, f"{folder}/")
            for folder, split in SPLIT_NAMES.items()
            if (file := root / folder / self.in_splits).is_file()
        ]
        usual = [root / name for name in self.usual if (root / name).is_file()]
        others = sorted(file for ending in self.endings for file in root.glob(f"*{ending}"))
        return found or [AnnotationFile(file) for file in usual[:1] or others]


def annotation_files(root: Path, given: Path | None, names: Names) -> list[AnnotationFile]:
    """Return the annotation files of a data set.

    Args:
        root: Folder of the data set.
        given: The file, if the user names one.
        names: Names to look for otherwise.

    Raises:
        UsageError: There is no such file, or there are several.
    """
    if given is not None:
        return [AnnotationFile(given)]
    found = names.find(root)
    if not found:
        *first, last = [*names.usual, *(f"*{ending}" for ending in names.endings)]
        raise UsageError(
            f"no {names.what} in {root}: looked for {', '.join(first)} and {last}; "
            "set data.annotations to another file"
        )
    if len(found) > 1 and found[0].split is None:
        listed = ", ".join(file.path.name for file in found)
        raise UsageError(f"{root} has {listed}; choose one with data.annotations")
    return found
