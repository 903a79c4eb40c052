"""Tars: what `tarfile` writes is read, and whatever else a tar may hold is refused, at no cost."""

import gzip
import io
import random
import tarfile
import time
from pathlib import Path

import pytest

from captioner.photos import tar as tar_photos
from captioner.photos.folders import is_shard
from captioner.photos.tar import TarError, members

LONG = "folder/" * 30 + "a" * 90 + ".jpg"


def make_tar(path: Path, names: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    mode = "w" if path.suffix == ".tar" else "w:gz"
    with tarfile.open(path, mode, format=form) as tar:
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def read(path: Path) -> list[tuple[str, bytes | str]]:
    return [
        (member.name, member.content() if member.error is None else member.error)
        for member in members(path)
    ]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.TGZ"])
def test_what_tarfile_writes(tmp_path: Path, form: int, name: str) -> None:
    names = {
        "1.jpg": b"one",
        "1.txt": b"a text",
        "1.json": b"{}",
        "2.PNG": b"x" * 2000,
        "e.gif": b"",
    }
    if form != tarfile.USTAR_FORMAT:
        names |= {LONG: b"long", "ü/日本.webp": b"names"}
    else:
        names |= {"folder/" * 18 + "b.jpg": b"prefix"}
    path = make_tar(tmp_path / name, names, form)
    assert read(path) == [(n, c) for n, c in names.items() if not n.endswith((".txt", ".json"))]


def test_members_that_nobody_reads_are_passed_over(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", {f"{i}.jpg": b"%d" % i * 700 for i in range(9)})
    odd = [member.content() for i, member in enumerate(members(path)) if i % 2]
    assert odd == [b"%d" % i * 700 for i in (1, 3, 5, 7)]


def test_what_is_no_plain_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        kinds = {
            "link.jpg": tarfile.SYMTYPE,
            "hard.jpg": tarfile.LNKTYPE,
            "null.jpg": tarfile.CHRTYPE,
            "disk": tarfile.BLKTYPE,
            "pipe.jpg": tarfile.FIFOTYPE,
            "folder.jpg": tarfile.DIRTYPE,
        }
        for name, kind in kinds.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name in ("../out.jpg", "/etc/out.jpg", "a/../../out.jpg", "in.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 2
            tar.addfile(info, io.BytesIO(b"ok"))
    assert read(path) == [
        ("link.jpg", "a link, not a photo"),
        ("hard.jpg", "a link, not a photo"),
        ("null.jpg", "a device, not a photo"),
        ("disk", "a device, not a photo"),
        ("pipe.jpg", "a pipe, not a photo"),
        ("../out.jpg", "its name leads outside the tar"),
        ("/etc/out.jpg", "its name leads outside the tar"),
        ("a/../../out.jpg", "its name leads outside the tar"),
        ("in.jpg", b"ok"),
    ]


def test_too_large_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_photos, "MAX_BYTES", 1000)
    path = make_tar(tmp_path / "a.tar", {"big.jpg": b"x" * 1001, "fit.jpg": b"x" * 1000})
    (_, error), (_, content) = read(path)
    assert error == "the file has 1,001 bytes: more than the 1,000 allowed"
    assert len(content) == 1000


def header(name: bytes, size: bytes, kind: bytes) -> bytes:
    block = bytearray(512)
    block[: len(name)] = name
    block[124 : 124 + len(size)] = size
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"no tar", "not a tar file"),
        (b"x" * 5000, "not a tar file"),
        (header(b"a.jpg", b"77777777777\0", b"0"), "truncated or damaged at byte 0"),
        (header(b"a.jpg", b"\xff" * 12, b"0"), "truncated or damaged at byte 0"),
        (header(b"a.jpg", b"99\0", b"0"), "a damaged header at byte 0"),
        (header(b"a.jpg", b"5\0", b"0") + b"ab", "truncated or damaged at byte 0"),
        (header(b"", b"20000000\0", b"x") + bytes(2**22), "a header of 4,194,304 bytes at byte 0"),
        (header(b"", b"5\0", b"x") + b"0 a=b" + bytes(507), "a damaged header at byte 512"),
        (header(b"", b"5\0", b"x") + b"9 a=b" + bytes(507), "a damaged header at byte 512"),
    ],
)
def test_damaged(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(TarError, match=message):
        read(tmp_path / "a.tar")


def test_a_compressed_header_of_gigabytes_costs_nothing(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.tgz", "wb") as file:
        file.write(header(b"", b"77777777777\0", b"L"))
    with pytest.raises(TarError, match="a header of 8,589,934,591 bytes"):
        read(tmp_path / "a.tgz")


def test_missing_and_folders(tmp_path: Path) -> None:
    with pytest.raises(TarError, match="no such file"):
        read(tmp_path / "none.tar")
    (tmp_path / "folder.tar").mkdir()
    with pytest.raises(TarError, match="a folder, not a tar"):
        read(tmp_path / "folder.tar")


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
def test_cut_short_or_changed_anywhere(tmp_path: Path, name: str) -> None:
    """Whatever happens to a tar, its members are right, or an error says that it is damaged."""
    names = {f"{i}.jpg": b"%d" % i * 300 for i in range(4)} | {LONG: b"long"}
    whole = make_tar(tmp_path / name, names).read_bytes()
    generator = random.Random(0)
    for _ in range(300):
        content = bytearray(whole)
        if generator.random() < 0.5:
            del content[generator.randrange(len(content)) :]
        else:
            content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        (tmp_path / name).write_bytes(content)
        try:
            found = read(tmp_path / name)
        except TarError:
            continue
        assert len(found) <= len(names)


def test_is_shard() -> None:
    assert is_shard("a.tar")
    assert is_shard("A.TAR.GZ")
    assert not is_shard("a.tar.jpg")


def test_pax_headers_of_many_records_are_refused_at_once(tmp_path: Path) -> None:
    content = b"6 a=b\n" * (2**20 // 6)
    block = header(b"", b"%o\0" % len(content), b"x") + content + bytes(-len(content) % 512)
    (tmp_path / "a.tar").write_bytes(block * 20)
    began = time.perf_counter()
    with pytest.raises(TarError, match="more than 1,000 records"):
        read(tmp_path / "a.tar")
    assert time.perf_counter() - began < 0.5


def test_what_a_compressed_tar_may_unpack_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar_photos, "MAX_UNPACKED", 2**20)
    path = tmp_path / "a.tgz"
    noise = random.Random(0).randbytes(2**21)
    assert len(read(make_tar(path, {"1.jpg": noise, "2.jpg": b"x"}))) == 2
    make_tar(path, {f"{i}.txt": bytes(2**20) for i in range(20)} | {"2.jpg": b"x"})
    with pytest.raises(TarError, match=r"it unpacks to more than [0-9,]+ bytes"):
        read(path)


def test_hidden_members_and_nested_tars_are_passed_over(tmp_path: Path) -> None:
    names = ("._1.jpg", "__MACOSX/._1.jpg", ".cache/2.jpg", "PaxHeader/../3.jpg", "in.tar", "4.jpg")
    found = read(make_tar(tmp_path / "a.tar", dict.fromkeys(names, b"x")))
    assert found == [("PaxHeader/../3.jpg", "its name leads outside the tar"), ("4.jpg", b"x")]
