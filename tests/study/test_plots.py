"""What the page of plots holds; how it looks is for the eye."""

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from written_runs import finish, make_data, ranked, study_of

from captioner.config.schema import Config, DecoderConfig, OptimizationConfig
from captioner.study.plan import Configuration
from captioner.study.plots import (
    choose_styles,
    gradient_curve,
    mean_curve,
    page,
    training_title,
)
from captioner.study.results import rank


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left").split(",")[0] for axes in figure.axes]


def configurations(*settings: dict[str, object]) -> list[Configuration]:
    return [Configuration(str(i), dict(values), ()) for i, values in enumerate(settings)]


def test_panels_of_losses_and_scores(tmp_path: Path, data: Path) -> None:
    study, ranking = ranked(tmp_path, data, [[0.9, 0.85], [0.1, 0.15]])
    figure = page(study, ranking)
    assert titles(figure) == ["Training loss", "Validation loss", "CIDEr-D x 100"]
    train, val, scores = figure.axes
    for axes, first in ((train, 0.5), (val, 1.0)):
        assert [list(line.get_xdata()) for line in axes.get_lines()] == [
            [first, first + 1, first + 2]
        ] * 2
    assert [label.get_text() for label in scores.get_yticklabels()] == [
        "hidden_size=2",
        "hidden_size=1",
    ]
    bar = scores.get_lines()[0].get_xdata()
    interval = ranking.results[0].intervals["CIDEr-D"]
    assert list(bar) == pytest.approx([100 * interval.low, 100 * interval.high])
    assert "line across: neighbours that are distinguishable" in scores.get_xlabel()


def test_the_training_loss_says_what_it_is_made_of() -> None:
    plain = Config(decoder=DecoderConfig(dropout=0.0))
    smoothed = replace(plain, optimization=OptimizationConfig(label_smoothing=0.1))
    assert training_title([plain]) == "Training loss"
    assert training_title([plain, Config()]) == "Training loss, with dropout"
    assert training_title([smoothed]) == "Training loss, with label smoothing"
    assert training_title([Config(), smoothed]) == (
        "Training loss, with dropout and label smoothing"
    )


def test_gradients_where_a_run_has_them(tmp_path: Path, data: Path) -> None:
    study = study_of(tmp_path, data, [1, 2], [0])
    finish(study.runs[0], 0.5, gradients=True)
    finish(study.runs[1], 0.2)
    figure = page(study, rank(study))
    assert len(figure.axes) == 4
    [line] = figure.axes[3].get_lines()
    assert list(line.get_xdata()) == list(range(9))
    assert list(line.get_ydata()) == pytest.approx([0.5**lag for lag in range(9)])
    assert figure.axes[3].get_yscale() == "log"


def test_gradients_of_the_last_look_in_the_top_layer(tmp_path: Path) -> None:
    rows = ["0,0,1,9", "0,1,1,9", "8,0,1,9", "8,1,1,4", "8,1,2,2", "8,1,3,0"]
    for name, factor in (("one", 1), ("two", 4)):
        (tmp_path / name).mkdir()
        text = "\n".join(f"{row},{i}" for i, row in enumerate(rows))
        if factor > 1:
            text = text.replace("8,1,1,4", "8,1,1,16")
        (tmp_path / name / "gradients.csv").write_text(
            f"step,layer,lag,norm,norm_of_whole_loss\n{text}\n"
        )
    folders = [tmp_path / "one", tmp_path / "two", tmp_path / "none"]
    assert dict(gradient_curve(folders)) == pytest.approx({1: 8.0, 2: 2.0})
    assert gradient_curve(folders[2:]) == []


def test_mean_where_all_curves_have_a_point() -> None:
    assert mean_curve([[(1, 2.0), (2, 4.0)], [(1, 4.0)]]) == [(1, 3.0)]
    assert mean_curve([[], []]) == []


def test_colours_for_the_first_setting_and_dashes_for_the_others() -> None:
    cells, sizes = ("lstm", "gru"), (8, 16, 32)
    grid = [
        {"decoder.cell": cell, "decoder.hidden_size": size, "decoder.layers": 1}
        for cell in cells
        for size in sizes
    ]
    styles, legend = choose_styles(configurations(*grid))
    assert len({style.colour for style in styles.values()}) == 2
    assert len({(style.colour, style.dash) for style in styles.values()}) == 6
    assert [entry.get_label() for entry in legend] == [
        "cell lstm",
        "cell gru",
        "hidden_size 8",
        "hidden_size 16",
        "hidden_size 32",
    ]


def test_a_colour_each_where_dashes_do_not_suffice() -> None:
    grid = [{"a.x": x, "a.y": y} for x in (1, 2) for y in range(6)]
    styles, legend = choose_styles(configurations(*grid))
    assert len({(style.colour, style.dash) for style in styles.values()}) == 12
    assert len(legend) == 12


def test_a_run_that_diverged(tmp_path: Path, data: Path) -> None:
    study, ranking = ranked(tmp_path, data, [[0.4]])
    rows = "".join(f"{epoch},{4 - epoch},nan\n" for epoch in range(5))
    (study.runs[0].folder / "metrics.csv").write_text("epoch,train/loss,val/loss\n" + rows)
    train, val, _ = page(study, ranking).axes
    assert train.get_ylim()[1] == pytest.approx(3.15), "the first epoch is cut off"
    assert len(val.get_lines()) == 1


def test_a_study_of_one_configuration(tmp_path: Path, data: Path) -> None:
    study, ranking = ranked(tmp_path, data, [[0.4]])
    assert len(page(study, ranking).axes) == 3
    (study.runs[0].folder / "metrics.csv").unlink()
    assert len(page(replace(study, split="val"), ranking).axes) == 3
