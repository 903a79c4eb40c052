"""Captions written into photos: what changes, what is kept, and what is refused."""

import contextlib
import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photo
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from captioner.cli import main
from captioner.display import blank_out
from captioner.photos.limits import PhotoError
from captioner.photos.xmp import with_description


def jpeg(**options: object) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((30, 20), 80).convert("RGB").save(file, "JPEG", **options)
    return file.getvalue()


def description(content: bytes) -> str:
    with Image.open(io.BytesIO(content)) as photo:
        packet = ElementTree.fromstring(photo.info["xmp"].decode())
    (item,) = packet.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li")
    return item.text or ""


PHOTO = jpeg()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_text_is_found_again(text: str) -> None:
    described = with_description(PHOTO, text)
    assert description(described) == blank_out(text)
    with Image.open(io.BytesIO(described)) as one, Image.open(io.BytesIO(PHOTO)) as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_other_metadata_stays() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    before = jpeg(exif=exif, icc_profile=b"profile", comment=b"by ann")
    described = with_description(before, "a dog")
    with Image.open(io.BytesIO(described)) as photo:
        assert photo.getexif()[0x010F] == "a camera"
        assert photo.info["icc_profile"] == b"profile"
        assert photo.info["comment"] == b"by ann"
    with pytest.raises(PhotoError, match="has XMP metadata already"):
        with_description(described, "a cat")


@given(st.integers(0, len(PHOTO)), st.binary(max_size=8))
@example(cut=3, rest=b"")
def test_damaged_files_give_a_reason_or_a_file(cut: int, rest: bytes) -> None:
    damaged = PHOTO[:cut] + rest
    with contextlib.suppress(PhotoError):
        assert len(with_description(damaged, "a dog")) > len(damaged)


def test_text_too_long() -> None:
    with pytest.raises(PhotoError, match="too long"):
        with_description(PHOTO, "x" * 70_000)


def test_command(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo, png = tmp_path / "a.jpg", make_photo(tmp_path / "b.png", 1)
    photo.write_bytes(PHOTO)
    given = ["caption", str(tmp_path), "--write-xmp", "--checkpoint", str(tiny_checkpoint)]
    assert main(given) == 1
    error = capsys.readouterr().err
    assert f"{png}: a description can be written into JPEGs only" in error
    assert "1 photos described, 0 skipped that had a copy, 1 failed" in error
    assert (tmp_path / "a.jpg_original").read_bytes() == PHOTO
    written = photo.read_bytes()
    assert description(written)
    png.unlink()
    assert main(given) == 0
    assert "0 photos described, 1 skipped" in capsys.readouterr().err
    assert photo.read_bytes() == written
    assert main([*given, "--format", "jsonl"]) == 2
    assert "--format: --write-xmp writes into the photos" in capsys.readouterr().err
