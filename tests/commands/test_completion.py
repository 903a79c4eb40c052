"""Completion in shells: the scripts hold every flag, and complete as a user would see."""

import importlib
import shutil
import subprocess
from pathlib import Path

import pytest

from captioner.cli import main
from captioner.commands import COMMANDS
from captioner.commands.completion import SHELLS, Flag, all_flags, bash
from captioner.config.named import config_names
from captioner.config.parser import settings


@pytest.fixture(scope="module")
def commands() -> dict[str, list[Flag]]:
    return all_flags()


@pytest.fixture(scope="module")
def script(commands: dict[str, list[Flag]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "captioner"
    path.write_text(bash(commands))
    return path


def complete(script: Path, *words: str) -> set[str]:
    """What bash offers after these words, the last of which is being written."""
    line = " ".join(f"'{word}'" for word in words)
    program = (
        f"source '{script}'; COMP_WORDS=(captioner {line}); COMP_CWORD={len(words)}; "
        'set -u; _captioner; printf "%s\\n" ${COMPREPLY[@]+"${COMPREPLY[@]}"}'
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert not done.stderr
    return set(done.stdout.split())


def test_every_flag_of_every_command_is_known(commands: dict[str, list[Flag]]) -> None:
    assert set(commands) == set(COMMANDS)
    for command, flags in commands.items():
        names = {flag.name for flag in flags}
        parser = importlib.import_module(f"captioner.commands.{command}").build_parser()
        for action in parser._actions:
            long = {name for name in action.option_strings if name.startswith("--")}
            assert long <= names or action.metavar == "CONFIG"
    for command in ("train", "prepare", "study", "audit"):
        names = {flag.name for flag in commands[command]}
        assert {f"--{name}" for name in settings()} - names <= {"--output"}


def test_bash_completes(script: Path) -> None:
    assert complete(script, "") == {*COMMANDS, "--help", "--version"}
    assert complete(script, "ex") == {"export"}
    assert complete(script, "train", "--decoder.c") == {"--decoder.cell"}
    assert complete(script, "train", "--decoder.cell", "") == {"elman", "jordan", "lstm", "gru"}
    assert complete(script, "train", "--seed", "1", "--decoder.cell", "g") == {"gru"}
    assert complete(script, "train", "--config", "") == set(config_names())
    assert complete(script, "study", "--config", "") == set(config_names(studies=True))
    assert complete(script, "caption", "--format", "j") == {"jsonl"}
    assert "--beam-size" in complete(script, "caption", "x.jpg", "--b")
    assert complete(script, "caption", "--output", "") == set()  # bash offers files itself
    assert set(SHELLS) <= complete(script, "completion", "")
    assert complete(script, "unknown", "--x") == set()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert f"made by `captioner completion {shell}`" in text
    assert "decoder.cell" in text
    assert all(name in text for name in COMMANDS)
    if shutil.which(shell):
        flag = "--no-execute" if shell == "fish" else "-n"
        subprocess.run([shell, flag], input=text, text=True, check=True)


def test_an_unknown_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "invalid choice: 'tcsh'" in capsys.readouterr().err
