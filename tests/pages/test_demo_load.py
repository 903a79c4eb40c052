"""The demo under load: 200 requests of eight clients, with good and bad photos."""

import http.client
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from conftest import make_photo, save_checkpoint, tiny_config
from PIL import Image

from captioner.cli import main
from captioner.config.schema import DecoderConfig, EncoderConfig

pytest.importorskip("uvicorn")

CLIENTS, REQUESTS = 8, 200
GROWTH = 24 * 2**20
"""Memory in bytes by which allocators may fragment between the first and the second half."""


@contextmanager
def served(*arguments: str) -> Iterator[tuple[str, int]]:
    """Run the command; yield the page's address and the number of the process."""
    command = [sys.executable, "-m", "captioner", "demo", "--port", "0", "--device", "cpu"]
    with subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert "http://" in line, line
            yield urlsplit(line[line.index("http://") :].split()[0]).netloc, process.pid
        finally:
            process.terminate()


def memory(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


def ask(address: str, photo: Path, settings: dict[str, str]) -> dict[str, object]:
    connection = http.client.HTTPConnection(address, timeout=300)
    query = urlencode({"name": photo.name, **settings})
    connection.request("POST", f"/caption?{query}", photo.read_bytes())
    response = connection.getresponse()
    content = response.read()
    connection.close()
    assert response.status == 200, content[:500]
    record: dict[str, object] = json.loads(content)["record"]
    return record


def load(address: str, pid: int, photos: list[Path], settings: dict[str, str]) -> list[int]:
    """Send the requests; return the answers by photo and the memory after each half."""
    order = random.Random(0).choices(photos, k=REQUESTS)
    after = []
    with ThreadPoolExecutor(CLIENTS) as clients:
        for half in (order[: REQUESTS // 2], order[REQUESTS // 2 :]):
            for photo, record in zip(
                half, clients.map(lambda one: ask(address, one, settings), half), strict=True
            ):
                assert record == EXPECTED[photo.name]
            after.append(memory(pid))
    return after


EXPECTED: dict[str, object] = {}


def good_and_bad(folder: Path) -> list[Path]:
    photos = [make_photo(folder / f"{i}.png", i, (60 + 90 * i, 80 + 40 * i)) for i in range(6)]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photos[3]).save(folder / "turned.jpg", exif=exif)
    Image.open(photos[4]).convert("CMYK").save(folder / "cmyk.tif")
    (folder / "cut.jpg").write_bytes((folder / "turned.jpg").read_bytes()[:2000])
    (folder / "notes.jpg").write_text("no photo")
    (folder / "empty.png").touch()
    (folder / "bomb.png").write_bytes(bomb())
    return sorted(folder.iterdir())


def bomb() -> bytes:
    """The header of a PNG of 60,000 x 60,000 pixels."""
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_answers_are_right_and_memory_is_flat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = EncoderConfig(
        name="squeezenet1_1", weights="none", size=48, fit="crop", resize=56, features="grid"
    )
    decoder = DecoderConfig(
        cell="lstm", embedding_size=8, hidden_size=12, attention="adaptive", attention_size=6
    )
    config = tiny_config(encoder=encoder, decoder=decoder)
    checkpoint = str(save_checkpoint(tmp_path / "a.ckpt", config))
    photos = good_and_bad(tmp_path / "photos")
    monkeypatch.chdir(tmp_path / "photos")
    flags = ["--n-best", "2", "--format", "jsonl", "--attention", "--batch-size", "1"]
    names = [photo.name for photo in photos]
    assert main(["caption", *names, "--checkpoint", checkpoint, "--device", "cpu", *flags]) == 1
    for line in capsys.readouterr().out.splitlines():
        record = json.loads(line)
        EXPECTED[record["image"]] = record
    with served("--checkpoint", checkpoint) as (address, pid):
        first, second = load(address, pid, photos, {"n_best": "2"})
    assert second - first < GROWTH
