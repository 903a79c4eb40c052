"""Captions in text files beside the photos."""

import shutil

import pytest
from PIL import Image

from captioner.cli import main


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "deep.er").mkdir(parents=True)
    for name in ("a.jpg", "b.b.png", "deep.er/c.png"):
        Image.new("RGB", (20, 20), "blue").save(tmp_path / "in" / name)
    return tmp_path / "in"


def caption(folder, checkpoint, *flags):
    return main(["caption", str(folder), "--checkpoint", str(checkpoint), *flags])


def test_each_photo_has_its_caption_beside_it_once(folder, tiny_checkpoint, capsys):
    assert caption(folder, tiny_checkpoint, "--sidecar", ".txt", "--prefix", "x, ") == 0
    names = ["a.txt", "b.b.txt", "deep.er/c.txt"]
    texts = {name: (folder / name).read_text() for name in names}
    assert all(text.startswith("x, ") and text.endswith("\n") for text in texts.values())
    said = capsys.readouterr()
    assert said.out == ""
    assert "3 sidecars written, 0 photos skipped" in said.err
    # Again: only what has none is captioned, and nothing else changes.
    (folder / "a.txt").unlink()
    (folder / "b.b.txt").write_text("my own words")
    assert caption(folder, tiny_checkpoint, "--sidecar", ".txt", "--suffix", "!") == 0
    assert "1 sidecars written, 2 photos skipped" in capsys.readouterr().err
    assert (folder / "a.txt").read_text() == texts["a.txt"].removeprefix("x, ")[:-1] + "!\n"
    assert (folder / "b.b.txt").read_text() == "my own words"
    assert caption(folder, tiny_checkpoint, "--sidecar", ".txt", "--overwrite") == 0
    assert (folder / "b.b.txt").read_text() == texts["b.b.txt"].removeprefix("x, ")


def test_photos_never_share_or_become_a_sidecar(folder, tiny_checkpoint, capsys):
    shutil.copy(folder / "a.jpg", folder / "a.png")
    before = (folder / "a.jpg").read_bytes()
    assert caption(folder, tiny_checkpoint, "--sidecar", ".txt", "--overwrite") == 1
    assert "a.txt is the sidecar of a.jpg already" in capsys.readouterr().err
    for ending in (".jpg", ".JPG", ".png", ".webp"):
        assert caption(folder, tiny_checkpoint, "--sidecar", ending, "--overwrite") == 2
        assert "the ending of photos" in capsys.readouterr().err
    assert (folder / "a.jpg").read_bytes() == before


def test_an_unreadable_photo_gets_no_sidecar(folder, tiny_checkpoint, capsys):
    (folder / "broken.jpg").write_bytes(b"no photo")
    assert caption(folder, tiny_checkpoint, "--sidecar", ".caption") == 1
    assert "broken.jpg" in capsys.readouterr().err
    assert not (folder / "broken.caption").exists()
    assert (folder / "a.caption").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--prefix", "x"], "--prefix: requires --sidecar .txt"),
        (["--overwrite"], "--overwrite: requires --sidecar .txt"),
        (["--sidecar", "txt"], "write it as .txt"),
        (["--sidecar", "."], "write it as .txt"),
        (["--sidecar", "./x"], "write it as .txt"),
        (["--sidecar", ".txt", "--output", "o"], "--output: sidecars"),
        (["--sidecar", ".txt", "--format", "csv"], "--format: sidecars"),
    ],
)
def test_contradictions_are_refused_in_one_line(folder, tiny_checkpoint, capsys, flags, message):
    assert caption(folder, tiny_checkpoint, *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
