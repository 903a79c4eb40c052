"""Inputs are regular files within a bound: nothing blocks, nothing fills the memory."""

import os
import socket
import tracemalloc
from pathlib import Path

import pytest

from captioner.config.parser import read_yaml
from captioner.errors import CaptionerError
from captioner.files import regular
from captioner.files.json_file import read_json
from captioner.files.regular import NotRegularError, open_regular, read_regular
from captioner.files.tensors import read_tensors
from captioner.model.backbones.weights import read_state_dict
from captioner.text.vocabulary import Vocabulary
from captioner.text.word_vectors import read_vectors

READERS = {
    "json": read_json,
    "yaml": read_yaml,
    "tensors": read_tensors,
    "weights": lambda path: read_state_dict(path, ["IMAGENET1K_V1"]),
    "vocabulary": Vocabulary.load,
    "vectors": lambda path: read_vectors(path, ["dog"], 3),
}


def special(kind: str, folder: Path) -> Path:
    if kind == "device":
        return Path("/dev/zero")
    path = folder / kind
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        socket.socket(socket.AF_UNIX).bind(str(path))
    return path


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", ["device", "fifo", "link", "socket"])
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_opens_what_is_no_file(
    reader: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((CaptionerError, NotRegularError)):
        READERS[reader](special(kind, tmp_path))


def test_the_message_names_the_kind(tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match="fifo: cannot be read: is a FIFO, not a regular file"):
        read_json(special("fifo", tmp_path))
    with pytest.raises(OSError, match="a character device"):
        open_regular(Path("/dev/null"))
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(OSError, match="not a valid file name"):
        open_regular(Path("a\0b"))


def test_a_file_exchanged_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo, file = special("fifo", tmp_path), tmp_path / "file"
    file.touch()
    opened = os.open

    def exchanged(path: Path, flags: int) -> int:
        return opened(fifo if path == file else path, flags)

    monkeypatch.setattr(regular.os, "open", exchanged)
    with pytest.raises(NotRegularError):
        open_regular(file)


def test_links_to_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 3) == b"abc"


def test_a_file_beyond_the_bound_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "big"
    with file.open("wb") as stream:
        stream.truncate(2**32)  # a hole: it takes no disk
    tracemalloc.start()
    try:
        with pytest.raises(CaptionerError, match="big: has more than the 1,000 bytes allowed"):
            read_regular(file, 1000)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc")
def test_a_file_that_does_not_know_its_size(tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match="has more than the 10 bytes allowed"):
        read_regular(Path("/proc/self/maps"), 10)
