"""Folders as people have them: caches, litter, unread formats, tars, links, depth."""

import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from captioner.photos.folders import Found, Skipped, files_below, is_hidden
from captioner.photos.inputs import expand


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def walk(folder: Path) -> tuple[list[str], Skipped]:
    skipped = Skipped()
    found = [str(one.path.relative_to(folder)) for one in files_below(folder, skipped)]
    return found, skipped


def test_hidden_names_and_litter_are_skipped(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b/c.PNG", "._a.jpg", ".trashed-1-x.jpg", ".DS_Store", "Thumbs.db")
    for folder in (".ipynb_checkpoints", ".thumbnails", "@eaDir", "__MACOSX", "b/.cache/deep"):
        make(tmp_path, f"{folder}/a.jpg")
    found, skipped = walk(tmp_path)
    assert found == ["a.jpg", "b/c.PNG"]
    assert skipped.hidden == 4
    assert skipped.sentence() == "skipped 4 hidden files or folders"
    assert walk(tmp_path / ".thumbnails")[0] == ["a.jpg"]  # named itself it is read
    assert walk(tmp_path / "@eaDir")[0] == ["a.jpg"]


def test_what_is_not_read_is_counted_by_ending(tmp_path: Path) -> None:
    make(
        tmp_path, "a.jpg", "a.txt", "labels.json", "1.NEF", "2.nef", "x/3.jxl", "noending", "4.mpo"
    )
    found, skipped = walk(tmp_path)
    assert found == ["4.mpo", "a.jpg"]
    assert skipped.sentence() == (
        "skipped 4 files in formats that are not read (2 .nef, 1 without ending, 1 .jxl)"
    )
    make(tmp_path, *(f"many/{i}.x{i}" for i in range(20)), "many/5.\x1b[31m")
    sentence = walk(tmp_path / "many")[1].sentence()
    assert sentence is not None
    assert sentence.endswith("13 of other endings)")
    assert sentence.isprintable()


def test_heic_says_how_to_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioner.photos.folders.heif_is_read", lambda: False)
    make(tmp_path, "1.HEIC", "2.heif")
    found, skipped = walk(tmp_path)
    assert found == []
    assert str(skipped.sentence()).endswith("pip install 'captioner[heic]'")
    monkeypatch.setattr("captioner.photos.folders.heif_is_read", lambda: True)
    assert walk(tmp_path)[0] == ["1.HEIC", "2.heif"]


def test_links_to_folders_are_counted_not_followed(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "2.jpg").symlink_to("a/1.jpg")
    found, skipped = walk(tmp_path)
    assert found == ["2.jpg", "a/1.jpg"]
    assert skipped.links == 1
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path / "a")
    assert walk(linked)[0] == ["1.jpg"]  # named itself it is followed


def test_a_tar_in_a_folder_is_read_in_its_place(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "c.jpg", "in/1.jpg", "in/._1.jpg", "in/2.heix", "in/3.txt")
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.add(tmp_path / "in", "in")
    os.truncate(tmp_path / "in" / "1.jpg", 0)
    notes: list[str] = []
    found = list(expand([str(tmp_path)], note=notes.append))
    names = [str(photo.path.relative_to(tmp_path)) for photo in found]
    assert names == ["a.jpg", "b.tar/in/1.jpg", "c.jpg", "in/1.jpg"]
    assert notes == [f"{tmp_path}: skipped 2 files in formats that are not read (2 .heix)"]


@pytest.fixture
def deep() -> Iterator[Path]:
    """1,100 folders in each other, then past the longest path; too deep for pytest's clearing."""
    folder = Path(tempfile.mkdtemp())
    here = os.open(folder, os.O_RDONLY)
    for name in ["a"] * 1100 + ["b" * 200] * 10:
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    yield folder
    subprocess.run(["rm", "-r", folder], check=True)


def test_folders_of_any_depth(deep: Path) -> None:
    """Past the longest path of the system one folder is an error, and the rest is found."""
    make(deep, "zz.png")
    found = list(files_below(deep, Skipped()))
    assert found[-1] == Found(deep / "zz.png")
    assert len(found) == 2
    assert "cannot be listed: File name too long" in str(found[0].error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_folder_without_permission_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "b.jpg")
    (tmp_path / "a").chmod(0)
    try:
        found = list(files_below(tmp_path, Skipped()))
    finally:
        (tmp_path / "a").chmod(0o755)
    assert found[0].error == "the folder cannot be listed: Permission denied"
    assert found[1] == Found(tmp_path / "b.jpg")


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/1.jpg", "b.jpg")
    scan = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == "a":
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    photos = list(expand([str(tmp_path)]))
    assert [photo.path for photo in photos] == [tmp_path / "a", tmp_path / "b.jpg"]
    assert photos[0].source().error == "the folder cannot be listed: Permission denied"


def test_is_hidden() -> None:
    assert is_hidden(("a", "._b.jpg"))
    assert is_hidden(("__MACOSX", "b.jpg"))
    assert not is_hidden((".", "..", "b.jpg"))
