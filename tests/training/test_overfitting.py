"""Every network of the family overfits eight captions, run from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

CAPTIONS = (
    "two dogs chase a ball along the wet beach",
    "a man in a yellow helmet climbs a wall of rock",
    "the girl jumps over a puddle while her brother watches",
    "a boat with red sails leaves the harbour at dawn",
    "an old woman sells oranges from a wooden cart",
    "two dogs sleep in front of a fire",
    "a child rides a bicycle down the stairs",
    "three men play cards at a table in the street",
)
COPIES = 20
COLOURS = (
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)),
    *((0, 255, 255), (255, 0, 255), (255, 255, 255), (0, 0, 0)),
)

NETWORKS = {
    **{
        f"{cell} {place}": {"cell": cell, "place": place}
        for cell in ("elman", "jordan", "lstm", "gru")
        for place in ("init", "pre", "par", "merge")
    },
    "peepholes": {"cell": "lstm", "peepholes": "true"},
    "reset before": {"cell": "gru", "reset_after": "false"},
    "two layers": {"cell": "gru", "layers": "2", "residual": "true"},
    "deep transition": {"cell": "gru", "transition_depth": "2"},
    "deep output": {"cell": "lstm", "output_depth": "1", "tie_embeddings": "true"},
    "backward": {"cell": "gru", "direction": "backward"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create eight photos, each under many training names, so that an epoch has many steps."""
    from torchvision import models

    root = tmp_path_factory.mktemp("eight")
    torch.manual_seed(0)
    network = models.mobilenet_v3_small()
    for module in network.modules():  # random, but not so that all pictures look alike to it
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.orthogonal_(module.weight, 1.4)
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the statistics are the mean of what it sees, here of one batch
    pictures = [np.asarray(picture(i).resize((64, 64))) for i in range(len(CAPTIONS))]
    with torch.no_grad():
        network.train()(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 128 - 1)
    torch.save(network.state_dict(), root / "network.pth")
    lines = []
    for i, caption in enumerate(CAPTIONS):
        names = [(f"train{i}_{copy}.png", "train") for copy in range(COPIES)]
        for name, split in [*names, (f"val{i}.png", "val")]:
            picture(i).save(root / name)
            lines.append(json.dumps({"image": name, "captions": [caption], "split": split}))
    (root / "captions.jsonl").write_text("\n".join(lines) + "\n")
    assert main(["prepare", *arguments(root, {})]) == 0
    return root


def picture(i: int) -> Image.Image:
    """Draw stripes of two colours whose colours, width and direction differ by photo."""
    on = np.arange(48) // (3, 6, 12, 24)[i % 4] % 2 == 0
    pixels = np.empty((48, 48, 3), np.uint8)
    pixels[:] = COLOURS[i]
    pixels[on] = COLOURS[(i + 3) % 8]
    return Image.fromarray(pixels if i < 4 else pixels.transpose(1, 0, 2))


def arguments(root: Path, decoder: dict[str, str]) -> list[str]:
    settings = {
        "output": str(root / "run" / "-".join(decoder.values())),
        "data.format": "jsonl",
        "data.root": str(root),
        "data.features": str(root / "features"),
        "data.batch_size": "8",
        "vocabulary.min_count": "1",
        "encoder.name": "mobilenet_v3_small",
        "encoder.weights": str(root / "network.pth"),
        "encoder.size": "64",
        "encoder.fit": "squash",
        "decoder.embedding_size": "64",
        "decoder.hidden_size": "96",
        "decoder.dropout": "0",
        "optimization.learning_rate": "0.004",
        "optimization.schedule": "cosine",
        "trainer.max_epochs": "60",
        "trainer.check_val_every_n_epoch": "60",
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "wandb.mode": "disabled",
        **{f"decoder.{name}": value for name, value in decoder.items()},
    }
    place = decoder.get("place")
    seen_once = place in ("init", "pre")
    if place == "pre" or (seen_once and decoder["cell"] == "jordan"):
        # A gate that starts open lets little of one input in.
        settings |= {"trainer.max_epochs": "120", "trainer.check_val_every_n_epoch": "120"}
    if seen_once and decoder["cell"] == "jordan":
        # All that it remembers of the image passes through the distribution over words, which is
        # deaf to it, and its gradient 0, once it is certain of one word (docs/networks.md).
        settings |= {
            "optimization.label_smoothing": "0.4",
            "optimization.learning_rate": "0.003",
        }
    return [part for name, value in settings.items() for part in (f"--{name}", value)]


@pytest.mark.parametrize("decoder", NETWORKS.values(), ids=NETWORKS.keys())
def test_learns_eight_captions_by_heart(
    data: Path, decoder: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments(data, decoder)]) == 0
    checkpoint = Path(capsys.readouterr().out.strip())
    photos = [str(data / f"val{i}.png") for i in range(len(CAPTIONS))]
    assert main(["caption", *photos, "--checkpoint", str(checkpoint), "--beam-size", "1"]) == 0
    written = [line.split("\t")[-1] for line in capsys.readouterr().out.splitlines()]
    assert written == list(CAPTIONS)
