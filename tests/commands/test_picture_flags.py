"""`captioner caption` with `--attention FOLDER/`, `--attention-figures` and `--gallery`."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_photo, save_checkpoint, tiny_config
from PIL import Image

from captioner.cli import main
from captioner.config.schema import DecoderConfig, EncoderConfig
from captioner.inference.predictor import Predictor

ENCODER = EncoderConfig(
    name="squeezenet1_1", weights="none", size=48, fit="squash", features="grid"
)


@pytest.fixture(scope="module")
def attending(tmp_path_factory: pytest.TempPathFactory) -> Path:
    decoder = DecoderConfig(
        cell="gru", embedding_size=8, hidden_size=12, attention="adaptive", attention_size=6
    )
    config = tiny_config(encoder=ENCODER, decoder=decoder)
    return save_checkpoint(tmp_path_factory.mktemp("attending") / "a.ckpt", config)


def caption(checkpoint: Path, *arguments: object) -> int:
    return main(
        ["caption", "--checkpoint", str(checkpoint), "--device", "cpu", *map(str, arguments)]
    )


def test_attention_with_a_folder_draws(
    attending: Path, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("no photo")
    plain = caption(attending, *photos[:2], bad), capsys.readouterr().out
    out = tmp_path / "figures"
    assert caption(attending, *photos[:2], bad, "--attention", f"{out}/") == 1
    assert (1, capsys.readouterr().out) == plain  # the captions are those without figures
    assert sorted(file.name for file in out.iterdir()) == [
        "0.png.attention.png",
        "1.png.attention.png",
    ]
    # Again, now that the folder is there and holds figures.
    assert caption(attending, photos[2], "--attention", f"{out}/") == 0
    assert len(list(out.iterdir())) == 3
    with Image.open(out / "0.png.attention.png") as figure:
        assert figure.width > 300


def test_attention_before_photos_stays_a_flag(
    attending: Path, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As before there were figures: a photo or a folder of photos may follow it."""
    folder = f"{photos[0].parent}/"
    for arguments in (
        ("--format", "jsonl", "--attention", folder),
        ("--format", "jsonl", "--attention", folder, photos[0]),
        ("--format", "jsonl", "--attention", *photos),
    ):
        assert caption(attending, *arguments) == 0
        records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert len(records) >= 5
        assert all("attention" in record for record in records)
    assert len(list(photos[0].parent.iterdir())) == 5


def test_figures_of_each_caption_and_weights_in_records(
    attending: Path, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert caption(attending, photos[0], "--attention-figures", one) == 0
    capsys.readouterr()
    both = ("--attention", "--attention-figures", two, "--n-best", 2, "--format", "jsonl")
    assert caption(attending, photos[0], *both, "--output", tmp_path / "c.jsonl") == 0
    record = json.loads((tmp_path / "c.jsonl").read_text())
    assert "attention" in record["candidates"][1]
    heights = []
    for folder in (one, two):
        with Image.open(next(folder.iterdir())) as figure:
            heights.append(figure.height)
    assert heights[1] > heights[0]


def test_what_cannot_be_drawn_is_said_first(
    attending: Path,
    tiny_checkpoint: Path,
    photos: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert caption(tiny_checkpoint, photos[0], "--attention", f"{tmp_path}/new/") == 2
    assert "attention: the checkpoint has none" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert caption(attending, photos[0], "--attention-figures", photos[1]) == 2
    assert "is a file; name a folder" in capsys.readouterr().err
    assert caption(attending, photos[0], "--gallery", tmp_path / "no" / "g.html") == 2
    assert "no folder" in capsys.readouterr().err
    output = ("--output", f"{tmp_path}/captions/")
    assert caption(attending, photos[0], "--gallery", tmp_path / "g.html", *output) == 2
    assert "is a folder of captions" in capsys.readouterr().err
    assert not (tmp_path / "g.html").exists()


def test_a_gallery_of_a_folder(
    tiny_checkpoint: Path, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos[0].parent / "<b>&quot;.jpg").write_text("no photo")
    page = tmp_path / "g.html"
    arguments = (photos[0].parent, "--gallery", page, "--n-best", 2, "--format", "jsonl")
    assert caption(tiny_checkpoint, *arguments) == 1
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    html = page.read_text()
    assert html.count("<figure") == 6
    assert html.count("data:image/jpeg;base64,") == 5
    assert "6 photos, 1 without a caption" in html
    assert "<b>" not in html
    for record in records:
        assert record.get("caption", "") in html
    assert not re.search(r"(?:src|href)=\"(?!data:)", html)


def test_a_gallery_beside_an_output_holds_the_photos_of_a_run_that_resumes(
    tiny_checkpoint: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos[0].parent / "bad.jpg").write_text("no photo")
    page, output = tmp_path / "g.html", tmp_path / "c.jsonl"
    more = ("--n-best", 2, "--format", "jsonl", "--batch-size", 2, "--output", output)
    arguments = (photos[0].parent, "--gallery", page, *more)
    whole = Predictor._search

    def interrupted(predictor: Predictor, batch: Any) -> Any:
        if any(photo.path.name == "3.png" for photo in batch):
            raise KeyboardInterrupt
        return whole(predictor, batch)

    monkeypatch.setattr(Predictor, "_search", interrupted)
    assert caption(tiny_checkpoint, *arguments) == 130
    assert not page.exists()
    monkeypatch.undo()
    assert caption(tiny_checkpoint, *arguments) == 1  # for the bad one
    html = page.read_text()
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert html.count("<figure") == len(records) == 6
    assert html.count("data:image/jpeg;base64,") == 5
    for record in records:
        for candidate in record.get("candidates", []):
            assert candidate["caption"] in html


def test_the_predictor_says_where_the_grid_lies(attending: Path, photos: list[Path]) -> None:
    wide = make_photo(photos[0].parent / "wide.png", 9, (90, 41))
    predictor = Predictor.load(attending, device="cpu", attention=True, preview=30)
    found = predictor.caption(wide)
    attention, preview = found.attention, found.preview
    assert attention is not None
    assert preview is not None
    assert attention.size == (90, 41)
    assert attention.box == (0, 0, 90, 41)
    assert attention.grid == (2, 2)
    assert preview.shape == (14, 30, 3)
    captions, words, regions = attention.weights.shape
    assert (captions, regions) == (len(found.candidates), 4)
    assert attention.sentinel is not None
    of_words = attention.weights.sum(2) + attention.sentinel
    for k, candidate in enumerate(found.candidates):
        assert len(candidate.words) <= words
        assert of_words[k, : len(candidate.words)] == pytest.approx(1, abs=1e-5)
    assert Predictor.load(attending, device="cpu").caption(wide).preview is None
    assert preview.dtype == np.uint8
