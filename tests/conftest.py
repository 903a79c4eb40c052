"""Small real things that many tests need: photos, a data set, a checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captioner import checkpoint
from captioner.config.schema import Config, DecoderConfig, EncoderConfig, SearchConfig

WORDS = ("<pad>", "<start>", "<end>", "<unk>", "a", "red", "dog", "cat", "runs", "sleeps", "on")


def make_photo(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> Path:
    """A picture of coloured noise under a colour of its own."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 60, (size[1], size[0], 3)) + rng.integers(0, 195, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise.astype(np.uint8)).save(path)
    return path


def tiny_config(**changes: object) -> Config:
    """A configuration whose network is small and random."""
    values: dict[str, object] = {
        "encoder": EncoderConfig(name="squeezenet1_1", weights="none", size=48, fit="squash"),
        "decoder": DecoderConfig(cell="gru", embedding_size=8, hidden_size=12),
        "search": SearchConfig(beam_size=2, max_length=6),
    }
    return Config(**(values | changes))  # type: ignore[arg-type]


def save_checkpoint(path: Path, config: Config, seed: int = 0) -> Path:
    """A checkpoint as training writes it, of a random network."""
    from captioner.build import build_captioner, build_encoder
    from captioner.text.vocabulary import END, Vocabulary

    torch.manual_seed(seed)
    encoder, transform = build_encoder(config.encoder)
    encoder.fold_batch_norm()
    vocabulary = Vocabulary(WORDS)
    captioner = build_captioner(config, encoder, vocab_size=len(vocabulary))
    decoder = captioner.decoder
    with torch.no_grad():
        # Captions that differ: what all photos have in common is taken out of their features.
        colours = torch.randint(0, 256, (16, 3, 1, 1), dtype=torch.uint8)
        side = transform.size
        common = (
            decoder.feature_norm(encoder(colours.expand(-1, -1, side, side))).flatten(0, -2).mean(0)
        )
        torch.nn.init.normal_(decoder.image.weight)
        decoder.image.bias.copy_(-decoder.image.weight @ common)
        decoder.projection.weight.mul_(3.0)
        decoder.projection.bias[END] = -3.0  # … and that are not empty
    state = {f"captioner.{name}": tensor for name, tensor in captioner.state_dict().items()}
    torch.save(
        {
            "state_dict": state,
            "global_step": 0,
            "captioner": checkpoint.contents(captioner, vocabulary, transform, config),
        },
        path,
    )
    return path


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny.ckpt", tiny_config())


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return [make_photo(tmp_path / "photos" / f"{i}.png", i) for i in range(5)]


def write_jsonl(root: Path, train: int = 8, val: int = 3, test: int = 2) -> Path:
    """A small data set of one's own, with captions that name the pictures apart."""
    lines = []
    seed = 0
    for split, count in (("train", train), ("val", val), ("test", test)):
        for i in range(count):
            name = f"{split}{i}.png"
            make_photo(root / name, seed)
            animal, does = ("dog", "cat")[seed % 2], ("runs", "sleeps")[seed // 2 % 2]
            captions = [f"a red {animal} {does}", f"a {animal} {does} on a red {animal}"]
            lines.append(json.dumps({"image": name, "captions": captions, "split": split}))
            seed += 1
    (root / "captions.jsonl").write_text("".join(line + "\n" for line in lines))
    return root


@pytest.fixture(autouse=True)
def _scores_that_need_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """What evaluating tells must not depend on whether METEOR's data are installed."""
    from captioner.evaluation.scores import METRICS

    monkeypatch.setattr("captioner.evaluation.report.REPORTED", METRICS)
    monkeypatch.setattr("captioner.evaluation.systems.REPORTED", METRICS)
