"""The command line, as a user calls it: records, formats, exit codes, one line for each mistake."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_photo

from captioner import __version__
from captioner.cli import main


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"captioner {__version__}\n"
    assert run("--help") == 0
    text = capsys.readouterr().out
    for command in ("prepare", "train", "evaluate", "caption"):
        assert command in text
    assert run() == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["export", "--output", "o"], "the following arguments are required: --checkpoint"),
        (["caption"], "no photo given"),
        (["caption", "x.jpg", "--chekpoint", "p"], "--checkpoint"),
        (["caption", "x", "--checkpoint", "p", "--bem-size", "3"], "did you mean --beam-size?"),
        (["caption", "x", "--checkpoint", "p", "--beam-size", "0"], "not a whole number of at"),
        (["caption", "x", "--checkpoint", "p", "--format", "xml"], "invalid choice: 'xml'"),
        (["caption", "x", "--checkpoint", "none.ckpt"], "none.ckpt: no such checkpoint"),
        (["evaluate"], "give --checkpoint P, or --results R.json --references A.json"),
        (["evaluate", "--results", "r.json"], "--results needs --references A.json"),
        (
            ["evaluate", "--checkpoint", "p", "--references", "a.json"],
            "--references needs --results or --compare",
        ),
        (
            ["evaluate", "--results", "r.json", "--references", "a.json", "--split", "val"],
            "--split needs --checkpoint",
        ),
        (
            ["evaluate", "--results", "r.json", "--references", "a.json", "--data.root", "d"],
            "--data.root needs --checkpoint",
        ),
        (["train", "--resume", "none.ckpt"], "--resume: no checkpoint none.ckpt"),
        (["train", "--decoder.cell", "gruu"], "decoder.cell: expected one of"),
        (["study"], "the following arguments are required: --config"),
        (["study", "--config", "nowhere.yaml"], "no file nowhere.yaml"),
        (["study", "--config", "s.yaml", "--jobs", "0"], "not a whole number of at least 1"),
        (["study", "--config", "s.yaml", "--devices", "0,,1"], "expected GPU numbers such as 0,1"),
        (["prepare", "--data.root", "nowhere", "--data.format", "coco"], "nowhere"),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert lines[-1].startswith("captioner: error: ")
    assert message in lines[-1]
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 4 GB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4 GB."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_runs_out(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr("captioner.commands.words.run", command)
    assert run("words") == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("captioner: error: out of memory (")
    assert "reduce --batch-size or --beam-size" in line


def test_a_fault_of_the_code_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def command(arguments: list[str]) -> int:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr("captioner.commands.words.run", command)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run("words")


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("caption", "x", "--checkpoint", "none.ckpt", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_text(
    tiny_checkpoint: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("caption", *photos[:2], "--checkpoint", tiny_checkpoint) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(path) for path in photos[:2]]
    assert all(line.split("\t")[1] for line in lines)


def test_jsonl_of_a_folder_with_a_bad_photo(
    tiny_checkpoint: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photos[0].parent
    (folder / "a bad one.jpg").write_text("no")
    make_photo(folder / "sub" / "ü ber.png", 9)
    (folder / "notes.txt").write_text("not a photo, and not taken for one")
    code = run("caption", folder, "--checkpoint", tiny_checkpoint, "--format", "jsonl")
    captured = capsys.readouterr()
    records = [json.loads(line) for line in captured.out.splitlines()]
    assert code == 1
    names = [Path(record["image"]).relative_to(folder).as_posix() for record in records]
    assert names == sorted(names)
    assert len(names) == 7
    assert "sub/ü ber.png" in names
    assert "not a picture" in next(r["error"] for r in records if "bad" in r["image"])
    assert sum("caption" in record for record in records) == 6
    assert "1 of 7 photos could not be captioned" in captured.err


def test_n_best_holds_candidates_with_scores(
    tiny_checkpoint: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--format", "jsonl", "--n-best", 3)
    assert run("caption", photos[0], "--checkpoint", tiny_checkpoint, *flags) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["candidates"]) == 3
    assert record["candidates"][0]["caption"] == record["caption"]
    scores = [candidate["score"] for candidate in record["candidates"]]
    assert scores == sorted(scores, reverse=True)


def test_csv_and_output_file(tiny_checkpoint: Path, photos: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "captions.csv"
    flags = ("--format", "csv", "--output", output)
    assert run("caption", *photos, "--checkpoint", tiny_checkpoint, *flags) == 0
    rows = list(csv.DictReader(io.StringIO(output.read_text())))
    assert [row["image"] for row in rows] == [str(path) for path in photos]
    assert all(row["caption"] and not row["error"] for row in rows)
    assert not list(tmp_path.glob("*.part"))


def test_coco_results(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = make_photo(tmp_path / "COCO_val2014_000000391895.png", 1)
    two = make_photo(tmp_path / "my dog.png", 2)
    flickr = make_photo(tmp_path / "1000268201_6930814054.png", 3)  # no number, for all its digits
    flags = ("--format", "coco")
    assert run("caption", one, two, flickr, "--checkpoint", tiny_checkpoint, *flags) == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["image_id"] for record in records] == [391895, "my dog.png", flickr.name]


def test_list_on_standard_input_and_globs(
    tiny_checkpoint: Path,
    photos: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{photos[3]}\n\n{photos[1]}\n"))
    pattern = photos[0].parent / "[0-1].png"
    assert run("caption", "-", pattern, "--checkpoint", tiny_checkpoint) == 0
    named = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert named == [str(photos[i]) for i in (3, 1, 0, 1)]


def test_a_pattern_without_matches_is_an_error_record(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("caption", tmp_path / "*.jpg", "--checkpoint", tiny_checkpoint, "--format", "jsonl")
    assert code == 1
    assert json.loads(capsys.readouterr().out)["error"] == "no such file"


def test_an_empty_folder(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("caption", tmp_path, "--checkpoint", tiny_checkpoint) == 1
    assert "no photo found" in capsys.readouterr().err


def test_output_into_no_folder(
    tiny_checkpoint: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--output", "/nowhere/at/all.txt")
    assert run("caption", photos[0], "--checkpoint", tiny_checkpoint, *flags) == 2
    assert "--output: no folder /nowhere/at" in capsys.readouterr().err


@pytest.mark.slow
def test_a_reader_that_leaves_early(tiny_checkpoint: Path, photos: list[Path]) -> None:
    """`captioner caption … | head -1` ends quietly."""
    names = " ".join(f"'{path}'" for path in photos)
    command = f"{sys.executable} -m captioner caption {names} --checkpoint {tiny_checkpoint}"
    result = subprocess.run(
        f"{command} --batch-size 1 | head -1", shell=True, capture_output=True, text=True
    )
    assert result.stdout.count("\n") == 1
    assert "Traceback" not in result.stderr


def test_a_folder_without_photos_leaves_an_older_file_alone(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    kept = tmp_path / "keep.txt"
    kept.write_text("captions of before")
    arguments = [tmp_path / "empty", "--checkpoint", tiny_checkpoint, "--output", kept]
    assert run("caption", *arguments) == 1
    assert kept.read_text() == "captions of before"
    assert list(tmp_path.glob("*.part")) == []


ENDING = """
import atexit, sys, threading, time
from captioner import cli

def late():
    time.sleep(0.2)
    print("thread")

atexit.register(print, "registered before")
sys.argv[1:] = {arguments!r}
cli.main = lambda: (threading.Thread(target=late).start(), atexit.register(print, "after"), 7)[-1]
cli.entry()
"""


@pytest.mark.parametrize("command", ["caption", "score", "train"])
def test_program_ends_like_any_other(command: str) -> None:
    code = ENDING.format(arguments=[command, "photo.jpg"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 7
    assert done.stdout.splitlines()[:2] == ["thread", "after"]  # standard output is a pipe: flushed


def test_program_shows_the_traceback_of_a_bug() -> None:
    code = "import sys\nfrom captioner import cli\nsys.argv[1:] = ['caption']\ncli.main = 0\n"
    done = subprocess.run([sys.executable, "-c", code + "cli.entry()"], capture_output=True)
    assert done.returncode == 1
    assert b"TypeError" in done.stderr
