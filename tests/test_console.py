"""Messages and progress: on standard error, whatever that is."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from captioner import console
from captioner.cli import main


class Full(io.StringIO):
    def flush(self) -> None:
        raise OSError(28, "No space left on device")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.Progress("photos", 3600, done=600) as progress:
        for _ in range(5):
            now[0] += 12
            progress.update(240)
    assert capsys.readouterr().err.splitlines() == [
        "1,320 of 3,600 photos, 20.0 photos/s, 1:54 left",
        "1,800 of 3,600 photos, 20.0 photos/s, 1:30 left",
    ]
    with console.Progress("photos") as progress:  # what is quick says nothing
        progress.update()
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal_that_messages_do_not_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with console.Progress("photos", 40) as progress:
        progress.update(10)
        console.say("a remark")
        with console.Progress("rows", 2) as inner:  # one bar at a time
            inner.update()
    shown = terminal.getvalue()
    assert "10/40" in shown
    assert "photos/s" in shown
    assert "a remark\n" in shown
    assert "rows" not in shown


def test_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    console.set_quiet(True)
    try:
        with console.Progress("photos", 4) as progress, console.StatusLine() as status:
            progress.update(4)
            console.say("a remark")
            status.show("a state")
        console.warn("a warning")
        console.error("an error\nin two lines")
    finally:
        console.set_quiet(False)
    assert terminal.getvalue() == (
        "captioner: a warning\ncaptioner: error: an error in two lines\n"
    )


def test_escapes_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for write in (console.say, console.warn, console.error):
        write("a\x1b[2Jb\u2028")
    assert "\x1b" not in capsys.readouterr().err


def test_the_flag_may_stand_anywhere_before_two_dashes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(arguments: list[str]) -> int:
        console.say("a remark")
        print(arguments)
        return 0

    monkeypatch.setattr("captioner.commands.words.run", command)
    assert main(["words", "a", "--quiet", "b"]) == 0
    assert capsys.readouterr() == ("['a', 'b']\n", "")
    assert main(["words", "--", "--quiet", "--debug"]) == 0
    assert capsys.readouterr() == ("['--', '--quiet', '--debug']\n", "a remark\n")


def test_a_stream_that_fails_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed, Full()):
        monkeypatch.setattr(sys, "stderr", stream)
        console.warn("nobody reads this")
        with console.Progress("photos", 2) as progress:
            progress.update()


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m captioner"
    text = command.replace("captioner", program)
    return subprocess.run(text, shell=True, capture_output=True, text=True, cwd=folder)


@pytest.mark.slow
def test_closed_streams(tiny_checkpoint: Path, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    call = f"captioner caption bad.png {photos[0]} --checkpoint {tiny_checkpoint}"
    result = shell(f"{call} --output o.txt 2>&-", tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "")
    assert len((tmp_path / "o.txt").read_text().splitlines()) == 2
    result = shell(f"{call} 2>&-", tmp_path)
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == 2
    result = shell(f"{call} >&-", tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "captioner: error: Bad file descriptor"
    assert shell("captioner --version 2>&- <&-", tmp_path).returncode == 0


@pytest.mark.slow
def test_a_full_standard_output_is_one_line(tmp_path: Path) -> None:
    result = shell("captioner --help > /dev/full", tmp_path)
    assert result.returncode == 1
    assert result.stderr == f"captioner: error: {os.strerror(28)}\n"
    result = shell("captioner nonsense 2> /dev/full", tmp_path)
    assert result.returncode == 2
