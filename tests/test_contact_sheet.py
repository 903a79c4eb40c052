"""The picture of photos with captions below, which quickstart.sh draws."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_photo, save_checkpoint, tiny_config
from PIL import Image

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "c.ckpt", tiny_config())


def draw(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / "contact_sheet.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_named_photos_and_folders(checkpoint: Path, tmp_path: Path) -> None:
    for number in range(6):
        make_photo(tmp_path / "folder" / f"{number}.png", number)
    (tmp_path / "broken.jpg").write_text("no photo")
    sheet = tmp_path / "made" / "sheet.png"
    flags = ("--checkpoint", checkpoint, "--output", sheet)
    done = draw(tmp_path / "folder", tmp_path / "broken.jpg", "gone.jpg", *flags)
    assert done.returncode == 1
    lines = dict(line.split("\t") for line in done.stdout.splitlines())
    assert list(lines) == [*(f"{number}.png" for number in range(6)), "broken.jpg", "gone.jpg"]
    assert lines["gone.jpg"] == "(no such file)"
    assert not any(lines[f"{number}.png"].startswith("(") for number in range(6))
    with Image.open(sheet) as picture:
        assert picture.width == 4 * 300


def test_what_cannot_be_drawn_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    flags = ("--checkpoint", checkpoint, "--output", tmp_path / "sheet.png")
    (tmp_path / "empty").mkdir()
    done = draw(tmp_path / "empty", *flags)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("contact_sheet: no photo in ")
    done = draw("x.jpg", *flags[2:], "--checkpoint", tmp_path / "none.ckpt")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "sheet.png").exists()
