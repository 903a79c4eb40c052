"""The table of validation captions in W&B, and the figures of attention in it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WORDS, make_photo, tiny_config
from PIL import Image

from captioner.build import build_captioner, build_encoder
from captioner.config.schema import DecoderConfig, EncoderConfig
from captioner.datasets.batches import CaptionDataset
from captioner.datasets.records import Record
from captioner.decoding.options import SearchOptions
from captioner.text.vocabulary import Vocabulary
from captioner.training.sample_captions import SampleCaptions

pytestmark = pytest.mark.filterwarnings("ignore")  # W&B's own


class Logger:
    """Stands in for W&B's logger."""

    def __init__(self) -> None:
        self.tables: list[dict[str, Any]] = []

    def log_table(self, key: str, **table: Any) -> None:
        self.tables.append({"key": key, **table})


class Module:
    """What the callback uses of the training module."""

    device = torch.device("cpu")
    search = SearchOptions(beam_size=2, max_length=6)

    def __init__(self, attention: str) -> None:
        encoder_config = EncoderConfig(
            name="squeezenet1_1", weights="none", size=48, fit="squash", features="grid"
        )
        decoder = DecoderConfig(
            cell="gru", embedding_size=8, hidden_size=12, attention=attention, attention_size=6
        )
        torch.manual_seed(0)
        encoder, self.transform = build_encoder(encoder_config)
        self.vocabulary = Vocabulary(WORDS)
        config = tiny_config(encoder=encoder_config, decoder=decoder)
        self.captioner = build_captioner(config, encoder, vocab_size=len(WORDS))
        self.captioner.train()
        self.written: dict[str, str] = {}

    def features_of(self, images: torch.Tensor) -> torch.Tensor:
        return self.captioner.encode(images)


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    return [
        Record(f"{i}", make_photo(tmp_path / f"{i}.png", i, (80, 40)), ("a red dog",), "val")
        for i in range(4)
    ]


def logged(attention: str, records: list[Record]) -> tuple[dict[str, Any], Module]:
    module = Module(attention)
    module.written = {record.image_id: "a dog runs" for record in records[:3]}

    def source(record: Record) -> torch.Tensor:
        return module.transform.load(record.path)

    images = CaptionDataset(records, source, module.vocabulary, 10)
    logger = Logger()
    samples = SampleCaptions(images, 8, module.transform)
    samples._log_table(logger, module, 5)  # type: ignore[arg-type]
    (table,) = logger.tables
    return table, module


@pytest.mark.parametrize("attention", ["soft", "adaptive"])
def test_a_network_that_attends_shows_figures(attention: str, records: list[Record]) -> None:
    table, module = logged(attention, records)
    assert table["columns"] == ["image", "references", "caption", "attention"]
    assert [row[1:3] for row in table["data"]] == [["a red dog", "a dog runs"]] * 3
    for row in table["data"]:
        picture = row[3].image
        assert isinstance(picture, Image.Image)
        assert picture.width > 260
    assert module.captioner.training  # as before
    assert all(weight.grad is None for weight in module.captioner.parameters())


def test_drawing_uses_no_random_numbers(records: list[Record]) -> None:
    """A run that logs to W&B trains like one that does not."""
    module = Module("adaptive")
    images = CaptionDataset(
        records, lambda record: module.transform.load(record.path), module.vocabulary, 10
    )
    before = torch.random.get_rng_state()
    samples = SampleCaptions(images, 8, module.transform)
    assert len(samples.figures(module, [0, 1])) == 2  # type: ignore[arg-type]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_network_without_attention_shows_none(records: list[Record]) -> None:
    table, _ = logged("none", records)
    assert table["columns"] == ["image", "references", "caption"]
    assert len(table["data"]) == 3
