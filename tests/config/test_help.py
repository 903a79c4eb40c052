"""Help of the commands that take every setting."""

import re

import pytest

from captioner.cli import main
from captioner.config.help import COMMON, sections
from captioner.config.parser import settings


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments])
    assert ended.value.code == 0
    return capsys.readouterr().out


def flags(text: str) -> set[str]:
    return set(re.findall(r"^ {2}--([^\s,]+)", text, re.MULTILINE))


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_what_is_common(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "--config", "shapes", flag)
    assert text.startswith("usage: captioner train [--config NAME] [--SECTION.SETTING VALUE ...]\n")
    assert len(text.splitlines()) <= 80
    assert {"config", "output", "seed", "resume", "initial", *COMMON} <= flags(text)
    listed = [line.split()[0] for line in text.partition("\nsections:\n")[2].splitlines()]
    assert listed == list(sections())
    assert "(default: lstm)" in text


def test_every_setting_is_in_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    found: set[str] = set()
    for name in sections():
        found |= flags(shown(capsys, "--help", name))
    assert found == {name for name in settings() if "." in name}
    assert flags(shown(capsys, "--help", "decoder.cell")) >= {"decoder.cell", "decoder.layers"}
    assert set(settings()) <= flags(shown(capsys, "--help-all"))


def test_an_unknown_section_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help", "optimisation"]) == 2
    expected = "captioner: error: --help: no section 'optimisation'; did you mean optimization?\n"
    assert capsys.readouterr().err == expected
