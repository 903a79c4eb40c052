"""One value for how captions are searched for: what it takes, refuses and puts into a recipe."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from captioner import checkpoint
from captioner.decoding.options import Rerank, SampleOptions, SearchOptions
from captioner.errors import UsageError
from captioner.inference.phrases import Wording
from captioner.inference.predictor import Predictor
from captioner.inference.strategy import Strategy

BEAM = SearchOptions(beam_size=4)


def test_options_replace_those_of_the_checkpoint(tiny_checkpoint: Path) -> None:
    trained = checkpoint.load(tiny_checkpoint)
    own = trained.search()
    assert Strategy.of(trained, {}) == Strategy(own)
    assert Strategy.of(trained, {"beam_size": 7, "tf32": True}) == Strategy(
        replace(own, beam_size=7), tf32=True
    )
    assert Strategy.of(trained, {"n_best": 9}).search == replace(own, n_best=9, beam_size=9)
    assert Strategy.of(trained, {"search": BEAM, "wording": None}) == Strategy(BEAM)


def test_required_phrases_fit_the_options_of_the_search() -> None:
    doubled = Wording(require=["dog", "very very"])
    assert Strategy(BEAM, wording=doubled).wording is doubled
    with pytest.raises(UsageError, match="require: 'very very' says a word twice"):
        Strategy(replace(BEAM, no_repeat_word=True), wording=doubled)


def test_load_takes_options_or_a_strategy(tiny_checkpoint: Path) -> None:
    predictor = Predictor.load(tiny_checkpoint, device="cpu", beam_size=2, average="probability")
    assert predictor.strategy.search.beam_size == 2  # type: ignore[union-attr]
    strategy = Strategy(BEAM)
    assert Predictor.load(tiny_checkpoint, strategy=strategy).strategy is strategy
    with pytest.raises(UsageError, match="beam_size: set it in strategy, or leave strategy out"):
        Predictor.load(tiny_checkpoint, strategy=strategy, beam_size=3)
    with pytest.raises(UsageError, match="ensemble: no checkpoint is given"):
        Predictor.load([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beamsize": 3}, "unknown option beamsize; did you mean beam_size?"),
        ({"wordings": None}, "unknown option wordings; did you mean wording?"),
        ({"search": BEAM, "n_best": 2}, "n_best: set it in search, or leave search out"),
        ({"n_best": 0}, "n_best: 0 is not a whole number of at least 1"),
        ({"rerank": Rerank()}, "rerank: only samples are re-ranked"),
    ],
)
def test_wrong_options_are_named(
    tiny_checkpoint: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        Strategy.of(checkpoint.load(tiny_checkpoint), options)


def test_samples_cannot_require_phrases_or_keep_more_than_are_drawn() -> None:
    drawn = SampleOptions(samples=2)
    with pytest.raises(UsageError, match="require: samples cannot be made to say a phrase"):
        Strategy(drawn, wording=Wording(require=["dog"]))
    with pytest.raises(UsageError, match="n_best: 3 is more than the 2 captions drawn"):
        Strategy(drawn, rerank=Rerank(n_best=3))


def test_a_recipe_names_what_is_on_and_nothing_else(tiny_checkpoint: Path) -> None:
    plain = Strategy(BEAM).recipe([tiny_checkpoint])
    assert set(plain) == {"beam_size", "length_norm", "max_length", "checkpoint"}
    assert plain["checkpoint"].startswith(f"{tiny_checkpoint.name}@")
    wording = Wording(ban=["cat", "a dog"])
    strategy = Strategy(
        replace(BEAM, groups=2, length_norm="gnmt", no_repeat_word=True),
        wording=wording,
        agreement=0.25,
        tf32=True,
    )
    recipe = strategy.recipe([tiny_checkpoint] * 2, backward=tiny_checkpoint)
    assert recipe == {
        "beam_size": 4,
        "groups": 2,
        "diversity": 0.5,
        "length_norm": "gnmt",
        "length_alpha": 0.6,
        "max_length": 20,
        "ban": "cat, a dog",
        "no_repeat_word": "yes",
        "backward": plain["checkpoint"],
        "agreement": 0.25,
        "tf32": "yes",
        "ensemble": "probability",
        "checkpoint": f"{plain['checkpoint']}, {plain['checkpoint']}",
    }
    drawn = Strategy(SampleOptions(samples=3, seed=1), rerank=Rerank("consensus"))
    assert list(drawn.recipe([tiny_checkpoint]).items())[:4] == [
        ("sample", 3),
        ("seed", 1),
        ("temperature", 1.0),
        ("rerank", "consensus"),
    ]


def test_every_option_of_the_search_is_in_the_recipe_once_it_is_set(tiny_checkpoint: Path) -> None:
    """A new option of the search cannot be forgotten."""
    changed = SearchOptions(6, 15, 2, "gnmt", 0.7, 0.1, 2, 3, 0.4, no_repeat_word=True)
    recipe = Strategy(changed).recipe([tiny_checkpoint])
    names = {one.name for one in fields(SearchOptions)} - {"n_best"}  # the best one is scored
    assert {name: recipe.get(name) for name in names} == {
        name: getattr(changed, name) for name in names
    } | {"no_repeat_word": "yes"}
