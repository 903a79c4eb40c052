"""The pretrained captioner learns 30 photos of a new kind and keeps its captions of the others."""

from pathlib import Path

import pytest

from captioner import checkpoint
from captioner.cli import main
from captioner.config.schema import DataConfig
from captioner.datasets import shapes
from captioner.errors import CaptionerError
from captioner.evaluation.scores import score
from captioner.inference.predictor import Predictor
from captioner.inference.split import caption_split

FLICKR8K = Path(__file__).resolve().parents[2].parent / "shared/data/flickr8k"

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, of many kinds


def cider(predictor: Predictor, data: DataConfig, split: str) -> float:
    system, _ = caption_split(predictor, data, split, batch_size=16)
    found = score(system.captions, system.references, metrics=["CIDEr-D"])
    return 100 * found.corpus["CIDEr-D"]


@pytest.mark.slow
def test_thirty_drawn_scenes(tmp_path: Path) -> None:
    try:
        checkpoint.load(Path("flickr8k"))
    except CaptionerError as error:
        pytest.skip(str(error))
    shapes.render(tmp_path / "drawn", train=24, val=3, test=3)
    flags = ["--from", "flickr8k", "--data.root", str(tmp_path / "drawn")]
    flags += ["--data.features", str(tmp_path / "features"), "--output", str(tmp_path / "run")]
    flags += ["--trainer.accelerator", "cpu", "--wandb.mode", "disabled"]
    assert main(["train", *flags]) == 0
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    before, after = Predictor.load("flickr8k"), Predictor.load(best)

    photos = sorted((tmp_path / "drawn").rglob("*.png"))
    assert len(photos) == 30
    old, new = ([found.caption for found in one.caption(photos)] for one in (before, after))
    assert sum(a != b for a, b in zip(old, new, strict=True)) >= 27
    drawn = DataConfig(format="coco", root=str(tmp_path / "drawn"))
    assert cider(after, drawn, "train") > 3 * cider(before, drawn, "train")

    if FLICKR8K.is_dir():
        lines = (FLICKR8K / "Flickr_8k.devImages.txt").read_text().splitlines()
        some = tmp_path / "some"
        some.mkdir()
        for name in ("Images", "Flickr8k.token.txt"):
            (some / name).symlink_to(FLICKR8K / name)
        (some / "Flickr_8k.devImages.txt").write_text("\n".join(lines[::5]) + "\n")
        general = DataConfig(format="flickr8k", root=str(some))
        assert cider(after, general, "val") > cider(before, general, "val") - 4
