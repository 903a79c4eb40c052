"""Study files: grids, names, seeds; every mistake in one line; the shipped ones."""

from pathlib import Path

import pytest

from captioner.config.schema import Config
from captioner.errors import UsageError
from captioner.study.study_file import read_study

SHIPPED = Path(__file__).parents[2] / "configs" / "study"


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_study_parses(path: Path) -> None:
    study = read_study(path)
    assert len(study.runs) > 1
    assert str(study.output) == f"runs/{path.stem}"
    for run in study.runs:
        assert run.config.data.format == "flickr8k"


def test_cells_and_places_have_three_seeds_where_the_image_makes_the_state() -> None:
    study = read_study(SHIPPED / "cells_and_places.yaml")
    assert len(study.configurations) == 16
    for configuration in study.configurations:
        init = configuration.settings["decoder.place"] == "init"
        assert len(configuration.runs) == (3 if init else 1)
    first = [run.seed for run in study.runs[:16]]
    assert first == [0] * 16, "each configuration once before any is run twice"


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
output: here
set: {decoder.dropout: 0.1, optimization.learning_rate: 1e-2}
grid:
  decoder.cell: [lstm, gru]
  decoder.hidden_size: [8, 16]
seeds: [3, 4]
""",
    )
    study = read_study(path)
    assert [c.name for c in study.configurations] == [
        "cell=lstm,hidden_size=8",
        "cell=lstm,hidden_size=16",
        "cell=gru,hidden_size=8",
        "cell=gru,hidden_size=16",
    ]
    run = study.configurations[1].runs[1]
    assert (run.seed, run.config.seed) == (4, 4)
    assert run.folder == Path("here/cell=lstm,hidden_size=16/seed-4")
    assert run.config.decoder.cell == "lstm"
    assert run.config.decoder.hidden_size == 16
    assert run.config.decoder.dropout == 0.1
    assert run.config.optimization.learning_rate == 0.01
    assert run.config.wandb.group == "here"
    assert not run.config.trainer.enable_progress_bar
    assert study.score == "CIDEr-D"


def test_runs_beside_the_grid_and_names_that_end_alike(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
grid: {optimization.learning_rate: [0.1]}
runs:
- {encoder.learning_rate: 0.5, encoder.weights: "some/where ü.pth"}
- {encoder.train_from: null, trainer.deterministic: true}
""",
    )
    assert [c.name for c in read_study(path).configurations] == [
        "optimization.learning_rate=0.1",
        "encoder.learning_rate=0.5,weights=some-where-ü.pth",
        "train_from=null,deterministic=true",
    ]


def test_parts_have_their_own_seeds_and_what_two_name_is_run_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
seeds: [0]
parts:
- grid: {decoder.cell: [lstm, gru], decoder.layers: [1, 2]}
- runs: [{decoder.cell: gru}]
  seeds: [0, 7]
""",
    )
    seeds = {c.name: [run.seed for run in c.runs] for c in read_study(path).configurations}
    assert seeds == {
        "cell=lstm,layers=1": [0],
        "cell=lstm,layers=2": [0],
        "cell=gru,layers=1": [0, 7],
        "cell=gru,layers=2": [0],
    }


def test_names_stay_when_a_study_grows(tmp_path: Path) -> None:
    """Folders of runs that are done must be found again."""
    before = read_study(write(tmp_path, "grid: {decoder.cell: [lstm]}"))
    grown = "grid: {decoder.cell: [lstm]}\nruns: [{decoder.cell: gru, decoder.layers: 2}]"
    assert read_study(write(tmp_path, grown)).configurations[0] == before.configurations[0]


def test_layers_beside_the_file_and_overrides(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("decoder: {hidden_size: 7}\ntrainer: {max_epochs: 2}\n")
    (tmp_path / "two.yaml").write_text("decoder: {embedding_size: 9}\nseed: 5\noutput: old\n")
    path = write(
        tmp_path, "base: [one.yaml, two.yaml]\nset: {trainer.max_epochs: 3, data.root: here}\n"
    )
    study = read_study(path, ["--trainer.max_epochs", "4", "--data.workers=2"], output="there")
    [run] = study.runs
    assert run.folder == Path("there/base/seed-0")
    assert run.config.decoder.hidden_size == 7
    assert run.config.decoder.embedding_size == 9
    assert run.config.trainer.max_epochs == 4
    assert run.config.data.workers == 2
    assert run.config.data.root == "here"
    assert run.config.seed == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"mine\.yaml: the file needs some of base, output, .*, not None"),
        ("grids: {}", r"mine\.yaml: the file: unknown key grids; did you mean grid\?"),
        ("grid: [1]", r"grid: expected dotted names and values, not \[1\]"),
        ("grid: {decoder.cel: [gru]}", r"unknown setting decoder\.cel; did you mean decoder\.cell"),
        ("grid: {decoder.cell: gru}", r"grid decoder\.cell: expected a list of values, not 'gru'"),
        ("grid: {decoder.cell: []}", r"grid decoder\.cell: expected a list of values, not \[\]"),
        ("grid: {decoder.cell: [gruu]}", r"run cell=gruu: decoder\.cell: expected one of"),
        (
            "grid: {decoder.cell: [gru], decoder.hidden_size: [8, -3]}",
            r"run cell=gru,hidden_size=-3: decoder\.hidden_size: -3 is out of range",
        ),
        (
            "set: {decoder.dropout: null}",
            r"run base: decoder\.dropout: must have a value, not null",
        ),
        (
            "set: {finetune.checkpoint: flickr8k}",
            r"run base: finetune\.checkpoint: a study trains from the start; remove it",
        ),
        ("set: {decoder: {cell: gru}}", r"write the dotted name, for example decoder"),
        ("set: {seed: 3}", r"seed: seeds are set with `seeds: \[0, 1, 2\]`"),
        ("runs: [{output: x}]", r"output: the study's folder is set with `output` at the top"),
        ("runs: {decoder.cell: gru}", r"runs: expected a list of runs"),
        ("seeds: 3", r"seeds: expected a list of whole numbers, not 3"),
        ("seeds: [0, -1]", r"seeds: expected whole numbers from 0 to 4294967295, not -1"),
        ("seeds: [4294967296]", r"seeds: expected whole numbers from 0 to 4294967295, not 42"),
        ("seeds: [true]", r"seeds: expected whole numbers from 0 to 4294967295, not True"),
        ("score: CIDER-D", r"score: unknown 'CIDER-D'; did you mean CIDEr-D\?"),
        ("split: dev", r"split: unknown 'dev'; choose one of train, val, test"),
        ("output: 3", r"output: expected the path of a folder, not 3"),
        ("base: {a: b}", r"base: expected the path of a run configuration"),
        ("base: nowhere.yaml", r"--config: no file .*nowhere\.yaml"),
        ("parts: []", r"parts: expected a list of parts"),
        ("parts: [{seed: [1]}]", r"part 1: unknown key seed; did you mean seeds\?"),
        ("parts: [{grid: {}}, {seeds: x}]", r"part 2, seeds: expected a list of whole numbers"),
        ("parts: [{}]\ngrid: {}", r"grid: move it into one of the parts, or remove `parts`"),
        (
            "runs: [{encoder.weights: a/b}, {encoder.weights: a b}]",
            r"run weights=a-b: another configuration has the same name",
        ),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_study(write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "mine.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--decoder.hiden_size", "3"], r"unknown flag --decoder\.hiden_size; did you mean"),
        (["--decoder.cell", "gru"], r"--decoder\.cell: the study varies this setting"),
        (["--decoder.layers"], r"--decoder\.layers: expected a value"),
        (["--decoder.layers", "--data.root", "x"], r"--decoder\.layers: expected a value"),
        (["--decoder.layers", "two"], r"decoder\.layers: expected a whole number, not 'two'"),
        (["--seed", "3"], r"seed: seeds are set with"),
        (["--job", "3"], r"unknown flag --job; did you mean jobs\?"),
        (["stray"], r"unexpected argument 'stray'"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path: Path, overrides: list[str], message: str) -> None:
    path = write(tmp_path, "grid: {decoder.cell: [gru, lstm]}")
    with pytest.raises(UsageError, match=message) as caught:
        read_study(path, overrides)
    assert "\n" not in str(caught.value)


def test_defaults_are_those_of_a_run(tmp_path: Path) -> None:
    [run] = read_study(write(tmp_path, "seeds: [0]")).runs
    assert run.config.decoder == Config().decoder
    assert run.folder == Path("runs/mine/base/seed-0")


def test_a_base_by_name_is_found_from_any_folder(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: shapes\noutput: runs/mine\n")
    config = read_study(path).runs[0].config
    assert (config.data.format, config.encoder.name) == ("shapes", "alexnet")
