"""The configuration: every shipped file parses, every mistake is told in one line."""

import tracemalloc
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from captioner.config.checks import check
from captioner.config.parser import config_parser, parse_config, read_config, read_yaml, settings
from captioner.config.schema import Config
from captioner.config.settings import from_dict
from captioner.errors import UsageError

CONFIGS = Path(__file__).parents[2] / "configs"

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""Nine lines of aliases that stand for a thousand million values."""


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_file_parses(path: Path) -> None:
    config = read_config(path)
    assert isinstance(config, Config)


def test_base_holds_every_setting_with_its_default() -> None:
    values = yaml.safe_load((CONFIGS / "base.yaml").read_text())
    assert values == asdict(Config())


def test_later_layers_win(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("seed: 1\ndecoder: {cell: gru, hidden_size: 32}\n")
    two.write_text("decoder: {hidden_size: 64}\n")
    arguments = ["--config", str(one), f"--config={two}", "--seed", "7"]
    config, _ = parse_config(config_parser("train", ""), arguments)
    assert (config.seed, config.decoder.cell, config.decoder.hidden_size) == (7, "gru", 64)


def test_dictionary_round_trip() -> None:
    config = from_dict(Config, {"seed": 3, "trainer": {"devices": "auto"}, "future": {"x": 1}})
    assert config.trainer.devices == "auto"
    assert from_dict(Config, asdict(config)) == config


def test_every_setting_has_a_help_text(capsys: pytest.CaptureFixture[str]) -> None:
    parser = config_parser("train", "")
    text = " ".join(parser.format_help().split())
    assert "Numbers in a hidden state (H)." in text
    for name in settings():
        assert f"--{name}" in text
        action = next(a for a in parser._actions if a.dest == name)
        assert action.help
        assert action.help != "%(default)s", name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--decoder.hiden_size 3", r"unknown flag --decoder.hiden_size; did you mean decoder.hidd"),
        ("--decodr.hidden_size 3", r"unknown flag --decodr.hidden_size; did you mean decoder.hidd"),
        ("--decoder.hidden_size big", r"decoder.hidden_size: expected a whole number, not 'big'"),
        ("--decoder.cell gruu", r"decoder.cell: expected one of .*gru.*, not 'gruu'"),
        ("--trainer.gradient_clip_val x", r"expected a number or null, not 'x'"),
        ("--decoder.hidden_size -3", r"decoder.hidden_size: -3 is out of range; .* at least 1"),
        ("--decoder.dropout 1", r"decoder.dropout: 1.0 is out of range; it must be from 0 up to"),
        ("--trainer.devices 0", r"trainer.devices: 0 is out of range"),
        ("--decoder.cell jordn", r"decoder.cell: expected one of .*jordan.*, not 'jordn'"),
        ("--decoder.place beside", r"decoder.place: expected one of .*merge.*, not 'beside'"),
        ("--decoder.transition_depth 0", r"decoder.transition_depth: 0 is out of range"),
        ("--decoder.output_depth -1", r"decoder.output_depth: -1 is out of range"),
        ("--decoder.image_dropout 1.5", r"decoder.image_dropout: 1.5 is out of range"),
        (
            "--decoder.cell gru --decoder.peepholes true",
            r"decoder.peepholes: True does not apply to the cell gru, only to lstm",
        ),
        (
            "--decoder.cell lstm --decoder.activation relu",
            r"decoder.activation: 'relu' does not apply .* lstm, only to elman and jordan",
        ),
        ("--decoder.reset_after false", r"reset_after: False does not apply .*, only to gru"),
        ("--decoder.teacher word", r"teacher: 'word' does not apply .*, only to jordan"),
        ("--decoder.residual true", r"decoder.residual: needs decoder.layers of 2 or more"),
        (
            "--decoder.tie_embeddings true --decoder.hidden_size 64",
            r"embeddings of 512 numbers cannot be tied to outputs of 64; set "
            r"decoder.embedding_size 64, or decoder.output_depth 1",
        ),
        (
            "--decoder.tie_embeddings true --decoder.place merge",
            r"embeddings of 512 numbers cannot be tied to outputs of 1024; set decoder.output_d",
        ),
        ("--search.word_reward 1e9", r"search.word_reward: 1000000000.0 is out of range; .* 1000"),
        ("--search.word_reward .nan", r"search.word_reward: nan is out of range; .* -1000 to 1000"),
        ("--search.length_alpha 1e400", r"search.length_alpha: inf is out of range; .* 0 to 1000"),
        ("--watch.gradient_every 0", r"watch.gradient_every: 0 is out of range"),
        ("--config nowhere.yaml", r"--config: no file nowhere.yaml"),
        ("stray", r"unexpected argument 'stray'; settings are given as --name value"),
        ("--seed", r"--seed: expected one argument"),
        ("--seed 4294967296", r"seed: 4294967296 is out of range; it must be from 0 to 4294967295"),
    ],
)
def test_mistakes_on_the_command_line(arguments: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_config(config_parser("train", ""), arguments.split())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "decoder: {hiden_size: 3}",
            r"unknown setting decoder.hiden_size; did you mean decoder.hi",
        ),
        ("decodr: {}", r"unknown setting decodr; did you mean"),
        ("decoder: 3", r"decoder must hold settings \(cell, place, .*\), not 3"),
        ("- 3", r"the file must hold settings \(output, seed, .*\), not \[3\]"),
        ("decoder: [1", r"line \d: not valid YAML"),
        ("decoder: {hidden_size: big}", r"decoder.hidden_size: expected a whole number, not 'big'"),
        ("seed: 1.5", r"seed: expected a whole number, not '1.5'"),
        ("seed: 2020-13-45", r"a value that cannot be read: month must be in 1..12"),
        ("seed: !!int abc", r"a value that cannot be read: invalid literal for int"),
        ("seed: !!timestamp x", r"a value that cannot be read: "),
        ("seed: !!bool 3", r"a value that cannot be read: '3'"),
        ('output: "\\uD800"', r"a value that cannot be read: .*surrogates not allowed"),
        pytest.param("[" * 3000, r"nested too deeply", id="nested"),
        ("wandb: &a {tags: [*a]}", r"too many values, or nested too deeply"),
        pytest.param(BOMB, r"too many values, or nested too deeply", id="bomb"),
        pytest.param("# \n" * 50_000, r"more than 131,072 bytes: no file of settings", id="long"),
    ],
)
def test_mistakes_in_a_file_name_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"mine\.yaml.*{message}") as caught:
        read_config(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["data.batch_size", "data.root", "encoder.name", "search.beam_size"]
)
def test_null_where_a_value_must_be(tmp_path: Path, name: str) -> None:
    group, _, setting = name.partition(".")
    path = tmp_path / "mine.yaml"
    path.write_text(f"{group}: {{{setting}: null}}")
    with pytest.raises(UsageError, match=rf"{name}: must have a value, not null"):
        read_config(path)


def test_defaults_are_in_range() -> None:
    check(Config())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "a: &a {" + ", ".join(f"k{i}: 1" for i in range(100)) + "}\n"
            "b: &b {<<: [" + ", ".join(["*a"] * 1000) + "]}\n"
            "c: &c {<<: [" + ", ".join(["*b"] * 1000) + "]}\n"
            "d: {<<: [" + ", ".join(["*c"] * 1000) + "]}\n",
            "too many values",
            id="merges",
        ),
        pytest.param("a: &a {<<: *a}", "undefined alias|in itself|too many", id="merge of itself"),
        pytest.param(
            "seed: 1\noutput: x\nseed: 2", "line 3: the key 'seed' stands twice", id="twice"
        ),
        pytest.param("data: {root: a, root: b}", "the key 'root' stands twice", id="inner"),
        pytest.param("seed: " + "9" * 5000, "a number of 5,000 digits", id="digits"),
        pytest.param("seed: 0x" + "f" * 5000, "a number of 5,002 digits", id="hexadecimal"),
        pytest.param("seed: " + "1:" * 3000 + "1", "a number of", id="sexagesimal"),
        pytest.param("[" * 120 + "]" * 120, "nested too deeply", id="deep"),
    ],
)
def test_yaml_is_bounded_before_values_are_made(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=rf"mine\.yaml.*({message})"):
            read_yaml(path)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_anchors_and_merges_of_a_normal_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\n")
    assert read_yaml(path)["b"] == {"x": 1, "y": 3}
