"""One output file: nothing finished is lost, the same command resumes, a second run is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import make_photo, save_checkpoint, tiny_config

from captioner.cli import main
from captioner.errors import CaptionerError, UsageError
from captioner.inference.draft import Draft
from captioner.inference.result import Candidate, PhotoCaptions
from captioner.inference.writers import FORMATS
from captioner.photos.inputs import PhotoInput
from captioner.photos.source import PhotoSource

RECIPE = {"inputs": ["p"], "options": {"beam_size": 3}, "checkpoints": ["ab"]}


def echo(sources: Iterator[PhotoSource]) -> Iterator[PhotoCaptions]:
    """Captions that name the photo; those that begin with x are unreadable."""
    for source in sources:
        name = str(source.path)
        if name.startswith("x"):
            yield PhotoCaptions(source.path, error="not a picture")
        else:
            yield PhotoCaptions(
                source.path, (Candidate(f"a {name}", -0.5, -0.5, (name,), (-0.5,)),)
            )


def photos(names: str) -> list[PhotoInput]:
    return [PhotoInput(Path(name)) for name in names.split()]


def write(output: Path, names: str, form: str = "text", *, stop: int | None = None) -> list[str]:
    """Caption photos, interrupted after some; returns those that were captioned."""
    asked: list[str] = []
    with Draft(output, RECIPE, batch_size=2) as draft:
        for result in draft.caption(photos(names), echo, candidates=False):
            asked.append(str(result.path))
            if len(asked) == stop:
                raise KeyboardInterrupt
        draft.finish(form)
    return asked


@pytest.mark.parametrize("form", FORMATS)
def test_interrupted_anywhere_it_ends_as_undisturbed(tmp_path: Path, form: str) -> None:
    names = "a x1 b c/a x2 d e"
    write(tmp_path / "whole", names, form)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    for stop in range(1, 8):
        output = tmp_path / f"{stop}" / "out"
        output.parent.mkdir()
        output.write_text("captions of before")
        with pytest.raises(KeyboardInterrupt):
            write(output, names, form, stop=stop)
        assert output.read_text() == "captions of before"
        left = write(output, names, form)
        assert left == names.split()[stop // 2 * 2 :]  # whole batches are kept
        assert output.read_bytes() == (tmp_path / "whole").read_bytes()
        assert [path.name for path in output.parent.iterdir()] == ["out"]


def test_a_draft_cut_at_any_byte_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", "a b x c", stop=4)
    draft = tmp_path / "out.part"
    whole = draft.read_bytes()
    for size in range(len(whole)):
        draft.write_bytes(whole[:size])
        write(tmp_path / "out", "a b x c")
        text = (tmp_path / "out").read_text()
        assert text == "a\ta a\nb\ta b\nx\terror: not a picture\nc\ta c\n"
        assert not draft.exists()


def test_errors_of_before_count(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", "x1 x2 a b", stop=3)
    with Draft(tmp_path / "out", RECIPE, batch_size=2) as draft:
        assert (draft.count, draft.errors) == (2, 2)
        assert [str(c.path) for c in draft.caption(photos("x1 x2 a b"), echo, candidates=False)]
        assert (draft.count, draft.errors) == (4, 2)


@pytest.mark.parametrize("names", ["a c d e", "a", "", "a x b c"])
def test_other_photos_are_refused(tmp_path: Path, names: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", "a b c d", stop=2)
    with pytest.raises(CaptionerError, match=r"out\.part: photo [12] of the inputs is not the one"):
        write(tmp_path / "out", names)
    assert write(tmp_path / "out", "a b c d") == ["c", "d"]  # nothing was lost


def test_another_recipe_is_refused_and_says_how_to_start_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", "a b", stop=2)
    for changed, words in (
        ({"options": {"beam_size": 4}}, "--beam-size"),
        ({"checkpoints": ["cd"]}, "checkpoints"),
        ({"inputs": ["q"]}, "inputs"),
    ):
        with pytest.raises(UsageError, match=f"begun with other {words}; .* remove .*out.part"):
            Draft(tmp_path / "out", RECIPE | changed, batch_size=2)
    (tmp_path / "out.part").unlink()
    with Draft(tmp_path / "out", RECIPE | {"inputs": ["q"]}, batch_size=2) as draft:
        assert draft.count == 0


@pytest.mark.parametrize("content", ["precious", "precious\n", "[]\n", "{}\n", "[" * 9**5 + "\n"])
def test_a_file_that_is_no_draft_stays(tmp_path: Path, content: str) -> None:
    (tmp_path / "out.part").write_text(content)
    with pytest.raises(UsageError, match=r"out\.part is no draft of a caption run; remove it"):
        write(tmp_path / "out", "a")
    assert (tmp_path / "out.part").read_text() == content


def test_nothing_is_written_through_a_draft(tmp_path: Path) -> None:
    (mine := tmp_path / "mine").write_text("")
    part = tmp_path / "out.part"
    for make in (
        lambda: part.symlink_to(mine),
        lambda: part.symlink_to("nowhere"),
        lambda: part.hardlink_to(mine),
        lambda: os.mkfifo(part),
        part.mkdir,
    ):
        make()
        with pytest.raises(CaptionerError, match=r"out\.part"):
            write(tmp_path / "out", "a")
        assert mine.read_text() == ""
        assert not (tmp_path / "nowhere").exists()
        part.rmdir() if part.is_dir() else part.unlink()


def test_forged_and_damaged_records_end_what_is_kept(tmp_path: Path) -> None:
    for line in (
        '["c", {"image": 3, "caption": "x"}]',
        '["c", {"image": "c", "caption": null}]',
        '["c", {"image": "c", "caption": "x", "error": "y"}]',
        '{"c": 1}',
        '["c"]',
        "[" * 100_000,
        "",
    ):
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "out", "a b c d", stop=2)
        with (tmp_path / "out.part").open("a") as file:
            file.write(f'{line}\n["d", {{"image": "d", "caption": "x"}}]\n')
        assert write(tmp_path / "out", "a b c d") == ["c", "d"]


def test_two_runs_at_once(tmp_path: Path) -> None:
    with Draft(tmp_path / "out", RECIPE, batch_size=2):
        with pytest.raises(CaptionerError, match="out: another `captioner caption` is writing it"):
            Draft(tmp_path / "out", RECIPE, batch_size=2)
        (tmp_path / "link").symlink_to("out")
        with pytest.raises(CaptionerError, match="another `captioner caption`"):
            Draft(tmp_path / "link", RECIPE, batch_size=2)
    assert not (tmp_path / "out.part").exists()  # nothing was captioned


def test_a_full_disk_names_the_file_and_keeps_the_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CaptionerError, match="out: cannot be written: No space left"):
            write(tmp_path / "out", "a b c")
    assert [path.name for path in tmp_path.iterdir()] == ["out.part"]
    assert write(tmp_path / "out", "a b c") == ["c"]


# The command


def test_the_command_refuses_other_options_and_resumes(
    tiny_checkpoint: Path,
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from captioner.inference.predictor import Predictor

    out = tmp_path / "out.jsonl"
    given = ["caption", str(photos[0].parent), "--output", str(out), "--batch-size", "2",
             "--format", "jsonl"]  # fmt: skip
    mine = ["--checkpoint", str(tiny_checkpoint)]
    assert main([*given[:3], str(tmp_path / "whole"), *given[4:], *mine]) == 0
    caption = Predictor.caption

    def interrupted(self: Predictor, *args: object, **kwargs: object) -> Iterator[PhotoCaptions]:
        for number, result in enumerate(caption(self, *args, **kwargs)):  # type: ignore[arg-type]
            if number == 3:
                raise KeyboardInterrupt
            yield result

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "caption", interrupted)
        assert main([*given, *mine]) == 130
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        f"captioner: error: interrupted; 3 photos are saved in {out}.part; rerun the same command "
        "to resume"
    )
    other = str(save_checkpoint(tmp_path / "other.ckpt", tiny_config(), seed=1))
    for flags, words in ((["--checkpoint", other], "checkpoints"),
                         ([*mine, "--max-length", "3"], "--max-length")):  # fmt: skip
        assert main([*given, *flags]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert f"was begun with other {words}; rerun that command to resume, or" in line
    assert main([*given, *mine]) == 0
    assert "already holds 2 photos; resuming after them" in capsys.readouterr().err
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()
    assert not Path(f"{out}.part").exists()


def test_a_wrong_call_leaves_nothing(
    photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.ckpt").write_bytes(b"no checkpoint")
    command = ["caption", str(photos[0]), "--output", str(tmp_path / "out.txt")]
    assert main([*command, "--checkpoint", str(tmp_path / "bad.ckpt")]) != 0
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.glob("out.txt*"))


def test_an_output_that_is_a_fifo(
    tiny_checkpoint: Path, photos: list[Path], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    command = [sys.executable, "-c", "import sys; print(open(sys.argv[1]).read(), end='')"]
    with subprocess.Popen([*command, str(tmp_path / "fifo")], stdout=subprocess.PIPE) as reader:
        flags = ["--checkpoint", str(tiny_checkpoint), "--output", str(tmp_path / "fifo")]
        assert main(["caption", *map(str, photos[:2]), *flags]) == 0
        assert reader.stdout is not None
        assert reader.stdout.read().count(b"\n") == 2
    assert [path.name for path in tmp_path.glob("fifo*")] == ["fifo"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (signal.SIGINT, 130, "interrupted; "),
        (signal.SIGTERM, 143, "ended by SIGTERM; "),
        (signal.SIGKILL, -9, None),
    ],
)
def test_signals(
    tiny_checkpoint: Path, tmp_path: Path, number: int, code: int, message: str | None
) -> None:
    for i in range(4):
        make_photo(tmp_path / "p" / f"{i}.png", i)
    (tmp_path / "list").write_text("".join(f"{tmp_path}/p/{i % 4}.png\n" for i in range(400)))
    out = tmp_path / "out.csv"
    command = [sys.executable, "-m", "captioner", "caption", f"@{tmp_path}/list", "--format", "csv",
               "--checkpoint", str(tiny_checkpoint), "--batch-size", "4"]  # fmt: skip
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if started by `command &`
    process = subprocess.Popen([*command, "--output", str(out)], stderr=subprocess.PIPE, text=True)
    draft = Path(f"{out}.part")
    while process.poll() is None and not (draft.exists() and draft.stat().st_size > 1500):
        time.sleep(0.02)
    process.send_signal(number)
    _, told = process.communicate()
    assert process.returncode == code
    assert not out.exists()
    if message is not None:
        [line] = told.splitlines()
        assert line.startswith(f"captioner: error: {message}")
        assert f"are saved in {draft}; rerun the same command to resume" in line
    kept = len(draft.read_text().splitlines()) - 1
    again = subprocess.run([*command, "--output", str(out)], capture_output=True, text=True)
    assert again.returncode == 0
    assert kept >= 4
    assert "photos; resuming after them" in again.stderr
    rows = out.read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == (tmp_path / "list").read_text().splitlines()
    assert len(set(rows)) == 4  # captions do not depend on where the run was resumed
    assert not draft.exists()


def test_the_draft_is_plain_json_lines(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", "a b", stop=1)
    header, entry = map(json.loads, (tmp_path / "out.part").read_text().splitlines())
    assert header == {"captioner_draft": 1, **RECIPE}
    assert entry == ["a", {"image": "a", "caption": "a a", "log_prob": -0.5}]
