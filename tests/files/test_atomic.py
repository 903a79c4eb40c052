"""Files that appear whole, whatever fails and whatever lies in the folder."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from captioner.errors import CaptionerError, UsageError
from captioner.files.atomic import (
    check_folder,
    named_output,
    remove_drafts,
    whole_file,
    write_output,
    write_whole,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_text_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace = Path.replace

    def moved(draft: Path, path: Path) -> Path:
        done.append("moved")
        return replace(draft, path)

    monkeypatch.setattr(os, "fsync", lambda _: done.append("on the disk"))
    monkeypatch.setattr(Path, "replace", moved)
    write_whole(tmp_path / "a.txt", "one\r\ntwo\n")
    assert done == ["on the disk", "moved", "on the disk"]  # the file, its name, the folder
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"one\r\ntwo\n"


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CaptionerError, match=r"a\.txt: cannot be written: No space left"):
        write_whole(tmp_path / "a.txt", "new")
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_any_error_inside_leaves_what_was_there(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.txt", b"old")

    def interrupted(error: BaseException) -> None:
        with whole_file(tmp_path / "a.txt") as file:
            file.write(b"half")
            raise error

    for error in (ValueError("no"), KeyboardInterrupt(), BrokenPipeError()):
        with pytest.raises(type(error)):
            interrupted(error)
        assert names(tmp_path) == ["a.txt"]
        assert (tmp_path / "a.txt").read_text() == "old"


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="photo"), whole_file(tmp_path / "a.txt"):
        (tmp_path / "elsewhere" / "photo.jpg").read_bytes()


def test_nothing_in_the_folder_is_written_through(tmp_path: Path) -> None:
    (mine := tmp_path / "mine").write_text("precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.txt.part", "a.txt.0123456789abcdef.part", "a.txt"):
        (folder / name).symlink_to(mine)
    write_whole(folder / "a.txt", "new")
    assert mine.read_text() == "precious"
    assert not (folder / "a.txt").is_symlink()
    assert (folder / "a.txt").read_text() == "new"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_is_the_umasks_or_that_of_the_file_before(
    tmp_path: Path, mask: int, mode: int
) -> None:
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "a.txt", "new")
        (tmp_path / "b.txt").touch()
        (tmp_path / "b.txt").chmod(0o640)
        write_whole(tmp_path / "b.txt", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "b.txt").stat().st_mode) == 0o640


def test_drafts_of_the_killed_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from captioner.files.atomic import whole_file\n"
        "with whole_file(Path(sys.argv[1])) as file: file.write(b'half'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.txt")], check=False)
    assert len(names(tmp_path)) == 1
    (tmp_path / "a.txt.part").write_text("of someone else")
    (tmp_path / "b.txt.0123456789abcdef.part").write_text("a draft of another file")
    with whole_file(tmp_path / "a.txt") as one:
        one.write(b"one")
        with whole_file(tmp_path / "a.txt") as two:
            assert len(names(tmp_path)) == 4
            two.write(b"two")
        assert (tmp_path / "a.txt").read_bytes() == b"two"
    assert (tmp_path / "a.txt").read_bytes() == b"one"
    remove_drafts(tmp_path / "a.txt")
    assert names(tmp_path) == ["a.txt", "a.txt.part", "b.txt.0123456789abcdef.part"]


def test_a_name_as_long_as_can_be(tmp_path: Path) -> None:
    name = "ü" * 125 + ".json"  # 255 bytes
    write_whole(tmp_path / name, "whole")
    assert names(tmp_path) == [name]


def test_an_output_that_is_a_link_is_written_at_its_target(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "real.txt", tmp_path / "link.txt"
    link.symlink_to("there/real.txt")
    check_folder(str(link), "--output")
    for text in ("dangling before", "there before"):
        write_output(str(link), text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert names(target.parent) == ["real.txt"]


def test_links_that_cannot_be_outputs(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "nowhere").symlink_to("not/there")
    for name, message in (("a", r"--output: .*a: "), ("nowhere", "--output: no folder .*not")):
        with pytest.raises(UsageError, match=message):
            check_folder(str(tmp_path / name), "--output")


def test_a_fifo_and_a_device_are_written_to_and_stay(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(fifo.read_bytes()))
    reader.start()
    write_output(str(fifo), "through it")
    reader.join()
    assert found == [b"through it"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    write_output("/dev/null", "away")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(CaptionerError, match="/dev/full: cannot be written: No space left"):
        write_output("/dev/full", "too much")


def test_open_files_by_number(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log:
        log.write(b"before\n")
        log.flush()
        with named_output(f"/dev/fd/{log.fileno()}") as file:
            file.write(b"after\n")
    assert (tmp_path / "log").read_text() == "before\nafter\n"
    assert names(tmp_path) == ["log"]
    with pytest.raises(CaptionerError, match="/dev/fd/987: cannot be written: Bad file"):
        write_output("/dev/fd/987", "nowhere")
