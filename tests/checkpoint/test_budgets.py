"""Budgets of checkpoints: bytes, values and work are counted before anything is loaded."""

import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_photo, save_checkpoint, tiny_config
from test_file import changed

from captioner import checkpoint
from captioner.checkpoint.plain import MAX_VALUES, check_own_search, check_plain
from captioner.cli import main
from captioner.config.schema import SearchConfig
from captioner.errors import CaptionerError, UsageError
from captioner.inference.predictor import Predictor


def laughs(levels: int, leaf: Any, wide: int = 1000) -> Any:
    for _ in range(levels):
        leaf = [leaf] * wide
    return leaf


def cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        laughs(4, 1),
        laughs(3, "word"),
        laughs(30, 1, wide=2),
        {"a": laughs(3, {"b": 1})},
        tuple(laughs(3, (1, 2))),
        cycle(),
        laughs(40, 1, wide=1),
        "x" * 5000,
        [1] * (MAX_VALUES + 1),
    ],
    ids=["lists", "words", "pairs", "objects", "tuples", "cycle", "deep", "text", "long"],
)
def test_amounts_are_counted_not_visited(value: Any) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"at most"):
            check_plain(value)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_large_descriptions_are_within_bounds() -> None:
    check_plain({"names": [f"layer{i}" for i in range(400_000)], "x": [1, (2.5, None)]})


@pytest.mark.parametrize("place", ["config", "transform", "wandb_run", "vocabulary", "encoder"])
def test_every_part_of_a_checkpoint_is_counted(
    place: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["captioner"][place] = laughs(3, {"a": 1})

    if place in ("config", "transform", "encoder"):

        def change(raw: dict[str, Any]) -> None:
            raw["captioner"][place]["name"] = laughs(3, {"a": 1})

    evil = changed(tiny_checkpoint, tmp_path / "evil.ckpt", change)
    began = time.process_time()
    with pytest.raises(CaptionerError, match=r"evil\.ckpt: damaged checkpoint: "):
        checkpoint.load(evil)
    assert time.process_time() - began < 10  # not 10^9 visits


@pytest.mark.parametrize(
    "word",
    ["a\nb", "a\tb", "\x1b[2J", "\x07", "a\x9bb", "\x7f", "\u2028", "\u202ea", "\ud800", "\u200f"],
)
def test_words_that_are_no_words(word: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["captioner"]["vocabulary"][5] = word

    evil = changed(tiny_checkpoint, tmp_path / "evil.ckpt", change)
    with pytest.raises(CaptionerError, match=r"vocabulary\[5\] must be printable text") as caught:
        checkpoint.load(evil)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("own", "given", "message"),
    [
        ({"beam_size": 101}, (), "own search.beam_size is 101; .* at most 100; .*--beam-size"),
        ({"max_length": 1001}, (), "own search.max_length is 1,001.*--max-length"),
        ({"max_length": 10_000}, ("beam_size",), "--max-length"),
        ({"beam_size": 10_000}, ("max_length",), "--beam-size"),
        ({"beam_size": 100, "max_length": 1000}, (), r"1\.0e\+12 multiply-adds"),
    ],
)
def test_a_checkpoints_own_search_is_bounded(
    own: dict[str, int], given: tuple[str, ...], message: str
) -> None:
    with pytest.raises(CaptionerError, match=message):
        check_own_search(SearchConfig(**own), 10**7, given, "p.ckpt")


@pytest.mark.parametrize(
    ("own", "given"),
    [
        ({"beam_size": 5, "max_length": 50}, ()),
        ({"beam_size": 100, "max_length": 100}, ()),
        ({"beam_size": 10_000}, ("beam_size",)),
        ({"beam_size": 10_000, "max_length": 10_000}, ("beam_size", "max_length")),
    ],
)
def test_who_captions_may_ask_for_more(own: dict[str, int], given: tuple[str, ...]) -> None:
    check_own_search(SearchConfig(**own), 10**7, given, "p.ckpt")


def test_captioning_with_a_checkpoint_that_asks_for_much(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["captioner"]["config"]["search"]["max_length"] = 10_000

    evil = str(changed(tiny_checkpoint, tmp_path / "evil.ckpt", change))
    photo = str(make_photo(tmp_path / "a.png", 1))
    assert main(["caption", photo, "--checkpoint", evil]) == 1
    assert "set it with --max-length" in capsys.readouterr().err
    assert main(["caption", photo, "--checkpoint", evil, "--max-length", "3"]) == 0
    with pytest.raises(CaptionerError, match="max_length"):
        Predictor([checkpoint.load(Path(evil))], torch.device("cpu"))


def flipped(path: Path, to: Path, tensor: torch.Tensor) -> Path:
    data = bytearray(path.read_bytes())
    at = data.index(tensor.numpy().tobytes())
    data[at + 1] ^= 1
    to.write_bytes(data)
    return to


def test_a_flipped_bit_of_a_weight(tiny_checkpoint: Path, tmp_path: Path) -> None:
    raw = torch.load(tiny_checkpoint, weights_only=True)
    name = next(n for n in raw["state_dict"] if n.endswith("projection.weight"))
    evil = flipped(tiny_checkpoint, tmp_path / "evil.ckpt", raw["state_dict"][name])
    with pytest.raises(CaptionerError, match=r"projection\.weight does not match the checksum"):
        checkpoint.load(evil)
    with pytest.raises(UsageError, match=r"damaged: the checksum of data/\d+ does not match"):
        checkpoint.check_whole(evil)
    checkpoint.check_whole(tiny_checkpoint)


def test_a_flipped_bit_elsewhere_matters_to_resuming_alone(tmp_path: Path) -> None:
    good = save_checkpoint(tmp_path / "good.ckpt", tiny_config())
    raw = torch.load(good, weights_only=True)
    raw["optimizer_states"] = [{"moment": torch.full((7,), 0.123)}]
    torch.save(raw, good)
    evil = flipped(good, tmp_path / "evil.ckpt", torch.full((7,), 0.123))
    checkpoint.load(evil)
    with pytest.raises(UsageError, match=r"damaged: the checksum of data/\d+ does"):
        checkpoint.check_whole(evil)
