"""`captioner report`: from files, from checkpoints, and its errors."""

import json
from pathlib import Path

import pytest
from conftest import make_photo, save_checkpoint, tiny_config, write_jsonl

from captioner.cli import main
from captioner.config.schema import DataConfig, DecoderConfig
from captioner.pages.report_sources import named_sources


def data_of(folder: Path) -> dict:
    text = (folder / "data.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("const REPORT = ").rstrip(";\n"))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """References of three photos, and results in two formats."""
    rows = [(f"p{at}.png", f"a {animal} runs") for at, animal in enumerate(("dog", "cat", "cow"))]
    references = [{"image": name, "captions": [text, "an animal"]} for name, text in rows]
    write_lines(tmp_path / "references.jsonl", references)
    (tmp_path / "one.json").write_text(
        json.dumps([{"image_id": name, "caption": text} for name, text in rows])
    )
    records = [
        {
            "image": f"elsewhere/{name}",
            "caption": text,
            "log_prob": -1.0,
            "candidates": [
                {"caption": text, "log_prob": -1.0},
                {"caption": "an animal", "log_prob": -2.0},
            ],
            "attention": {"grid": [1, 2], "words": ["a"], "weights": [[0.9, 0.1]]},
        }
        for name, text in rows
    ]
    write_lines(tmp_path / "two.jsonl", records)
    for at, (name, _) in enumerate(rows):
        make_photo(tmp_path / "photos" / name, at)
    return tmp_path


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def report(*arguments: object) -> int:
    return main(["report", *map(str, arguments), "--quiet"])


def test_files_give_a_report(files: Path) -> None:
    code = report(
        *("--results", files / "one.json", "--results", f"rich={files / 'two.jsonl'}"),
        *("--references", files / "references.jsonl", "--images", files / "photos"),
        *("--output", files / "report", "--metrics", "CIDEr-D", "--resamples", 10),
    )
    assert code == 0
    data = data_of(files / "report")
    plain, rich = data["models"]
    assert [plain["name"], rich["name"]] == ["one", "rich"]
    assert plain["captions"][0] == ["a dog runs"]
    assert rich["captions"][0] == ["a dog runs", "an animal"]
    assert rich["log_probs"][0] == [-1.0, -2.0]
    assert [plain["attention"], rich["attention"]] == [False, True]
    assert data["images"][0][1] == [40, 30]
    script = (files / "report" / "attention" / "000.js").read_text()
    assert script.startswith('attentionArrived(0, [[0, [1, 2, [0.0, 0.0, 1.0, 1.0], ["a"], "5", 0')


def test_a_checkpoint_captions_its_split(tmp_path: Path) -> None:
    root = write_jsonl(tmp_path / "data", test=4)
    paths = []
    for name, attention in (("plain", "none"), ("looking", "adaptive")):
        config = tiny_config(
            data=DataConfig(format="jsonl", root=str(root)),
            decoder=DecoderConfig(
                cell="lstm",
                embedding_size=8,
                hidden_size=12,
                attention=attention,
                attention_size=6,
            ),
        )
        if attention != "none":
            config = tiny_config(
                data=config.data,
                decoder=config.decoder,
                encoder=type(config.encoder)(
                    name="squeezenet1_1", weights="none", size=48, fit="squash", features="grid"
                ),
            )
        folder = tmp_path / name / "checkpoints"
        folder.mkdir(parents=True)
        paths.append(save_checkpoint(folder / "best.ckpt", config))
    code = report(
        *("--checkpoint", paths[0], "--checkpoint", paths[1], "--split", "test"),
        *("--output", tmp_path / "report", "--metrics", "CIDEr-D", "--resamples", 10),
    )
    assert code == 0
    data = data_of(tmp_path / "report")
    assert [model["name"] for model in data["models"]] == ["plain", "looking"]
    assert [model["attention"] for model in data["models"]] == [False, True]
    assert len(data["images"]) == 4
    assert len(data["models"][0]["captions"][0]) == 2  # the beam's width
    numbers = json.loads((tmp_path / "report" / "report.json").read_text())
    assert "training" in numbers["faults"][0]
    page = (tmp_path / "report" / "index.html").read_text()
    assert "looking compared with" not in page  # names are elements of their own
    assert "unknown" not in page  # the data set has training captions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "r"], "give --checkpoint P, or --results R.json"),
        (["--results", "a", "--checkpoint", "b", "--output", "r"], "give --checkpoint P, or"),
        (["--results", "a", "--output", "r"], "--results needs --references"),
        (["--checkpoint", "a", "--images", "x", "--output", "r"], "--images needs --results"),
        (
            ["--results", "a", "--references", "b", "--beam-size", "3", "--output", "r"],
            "--beam-size needs --checkpoint",
        ),
        (
            ["--results", "a", "--references", "b", "--images", "none", "--output", "r"],
            "--images: no folder none",
        ),
        (["--checkpoint", "a", "--resamples", "0", "--output", "r"], "--resamples 0: must be"),
        (["--checkpoint", "a", "--instances", "none", "--output", "r"], "no such file: none"),
        (["--checkpoint", "a", "--metrics", "blue", "--output", "r"], "unknown metric 'blue'"),
        (["--checkpoint", "a", "--output", "none/r"], "--output: no folder"),
        (["--checkpoint", "a"] * 9 + ["--output", "r"], "9 models; at most 8"),
        (["--checkpoint", "a"], "--output"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_others_is_refused_before_the_work(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--results", files / "one.json", "--references", files / "references.jsonl")
    assert report(*given, "--output", files / "photos") == 2
    assert "which would be lost" in capsys.readouterr().err
    assert len(list((files / "photos").iterdir())) == 3


def test_a_folder_without_the_photos_is_refused(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "empty").mkdir()
    given = ("--results", files / "one.json", "--references", files / "references.jsonl")
    assert report(*given, "--images", files / "empty", "--output", files / "report") == 1
    assert "has no photo of the 3 images, for example 'p0.png'" in capsys.readouterr().err


def test_a_damaged_record_is_one_line(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (files / "two.jsonl").read_text().splitlines()
    lines[1] = lines[1].replace('"grid": [1, 2]', '"grid": [7, 7]')
    (files / "two.jsonl").write_text("\n".join(lines))
    given = ("--results", files / "two.jsonl", "--references", files / "references.jsonl")
    assert report(*given, "--output", files / "report") == 1
    assert 'two.jsonl, line 2: invalid "attention"' in capsys.readouterr().err
    assert not (files / "report").exists()


def test_models_have_names() -> None:
    given = ["runs/gru/checkpoints/best.ckpt", "flickr8k", "mine=x/best.ckpt", "beam.json"]
    assert [name for name, _ in named_sources(given, "--checkpoint")] == [
        "gru",
        "flickr8k",
        "mine",
        "beam",
    ]
    with pytest.raises(Exception, match="2 models have the name best; name them"):
        named_sources(["a/best.ckpt", "b/best.ckpt"], "--checkpoint")
