"""A folder appears whole or not at all, and never replaces what is not ours."""

from pathlib import Path

import pytest

from captioner.errors import CaptionerError, UsageError
from captioner.files.whole_folder import check_replaceable, whole_folder

OWN = ("mark", "page", "data")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_appears_when_it_is_complete(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    with whole_folder(folder) as draft:
        (draft / "page").write_text("new")
        assert not folder.exists()
    assert content(folder) == {"page": "new"}
    assert names(tmp_path) == {"made"}


def test_replaces_an_older_one(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "page").write_text("old")
    (folder / "data").write_text("old")
    with whole_folder(folder) as draft:
        (draft / "page").write_text("new")
    assert content(folder) == {"page": "new"}
    assert names(tmp_path) == {"made"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, CaptionerError("full"), ValueError])
def test_a_failure_leaves_what_was_there(
    tmp_path: Path, error: BaseException | type[BaseException]
) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "page").write_text("old")

    def write() -> None:
        with whole_folder(folder) as draft:
            (draft / "page").write_text("new")
            raise error

    with pytest.raises((KeyboardInterrupt, CaptionerError, ValueError)):
        write()
    assert content(folder) == {"page": "old"}
    assert names(tmp_path) == {"made"}


def test_drafts_of_killed_writers_go_and_of_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    abandoned = tmp_path / ".made.0123456789abcdef.part"
    abandoned.mkdir()
    (abandoned / ".lock").touch()
    (tmp_path / ".made.backup").mkdir()
    (tmp_path / ".made.fedcba9876543210.part").mkdir()  # has no lock, so it may be somebody's
    with whole_folder(folder) as outer:
        (outer / "page").write_text("outer")
        assert not abandoned.exists()
        with whole_folder(folder) as inner:
            (inner / "page").write_text("inner")
            assert outer.exists()
        assert content(folder) == {"page": "inner"}
    assert content(folder) == {"page": "outer"}
    kept = {".made.backup", ".made.fedcba9876543210.part", "made"}
    assert names(tmp_path) == kept


def test_an_unwritable_place_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match="cannot be written"), whole_folder(tmp_path / "a/b"):
        pass


@pytest.mark.parametrize(
    ("held", "accepted"),
    [
        ((), True),
        (("mark",), True),
        (("mark", "page"), True),
        (("page",), False),
        (("mark", "notes.txt"), False),
        (("thesis.tex",), False),
    ],
)
def test_only_its_own_folders_may_be_replaced(
    tmp_path: Path, held: tuple[str, ...], accepted: bool
) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    for name in held:
        (folder / name).touch()
    if accepted:
        check_replaceable(folder, OWN, "--output")
    else:
        with pytest.raises(UsageError, match="which would be lost; name a new or an empty folder"):
            check_replaceable(folder, OWN, "--output")


def test_files_links_and_missing_parents_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("file", "link"):
        with pytest.raises(UsageError, match="is a file or a link; name a folder"):
            check_replaceable(tmp_path / name, OWN, "--output")
    with pytest.raises(UsageError, match=r"--output: no folder .*none"):
        check_replaceable(tmp_path / "none" / "made", OWN, "--output")
