"""A folder that `captioner export` writes; it is complete once its description exists."""

from collections.abc import Mapping
from pathlib import Path

from captioner.errors import UsageError
from captioner.files.atomic import remove_drafts, write_whole


def check_export_folder(folder: Path, names: tuple[str, ...]) -> None:
    """Refuse a folder with other files than those that will be written.

    Raises:
        UsageError: The folder contains other files, is a file, or its parent does not exist.
    """
    if not folder.parent.is_dir():
        raise UsageError(f"--output: no such folder: {folder.parent}")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output: {folder} is a file; name a folder")
    if folder.is_dir():
        for name in names:  # drafts of killed exports, of this or older versions
            remove_drafts(folder / name)
            (folder / f"{name}.part").unlink(missing_ok=True)
        strange = [path.name for path in folder.iterdir() if path.name not in names]
        if strange:
            raise UsageError(f"--output: {folder} holds {strange[0]}; name an empty folder")


def write_folder(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write the files of an export; the last one is its description.

    Raises:
        UsageError: See `check_export_folder`.
        CaptionerError: The folder cannot be written, for example because the disk is full.
    """
    check_export_folder(folder, tuple(files))
    folder.mkdir(exist_ok=True)
    (folder / list(files)[-1]).unlink(missing_ok=True)
    for name, content in files.items():
        write_whole(folder / name, content)
