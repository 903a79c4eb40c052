"""The commands that `fault_drill.py` kills: what each is given, and what it must leave behind."""

import csv
import io
import json
import shutil
import signal
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from captioner.cli import main as run_captioner
from captioner.features.store import FeatureStore

Settings = Mapping[str, object]


class Drill(ABC):
    """A command that is killed.

    Attributes:
        exit_code: with which it ends when nobody kills it; 1 where some photo cannot be read.
        signals: what it is killed by.
        locks: whether a second run on the same output is refused.
    """

    exit_code = 0
    signals: tuple[int, ...] = (signal.SIGKILL,)
    locks = False

    @abstractmethod
    def make(self, folder: Path) -> None:
        """Write the input of the command."""

    def begin(self, folder: Path, output: Path) -> None:
        """Make the folder of an output, before the first start of the command."""
        output.mkdir()

    @abstractmethod
    def command(self, folder: Path, output: Path) -> list[str]:
        """Arguments of `captioner`, the same at the first start and after each kill."""

    @abstractmethod
    def remnants(self, expected: Path, found: Path) -> list[str]:
        """What a kill has left that it must not leave; empty if nothing."""

    @abstractmethod
    def differences(self, expected: Path, found: Path) -> list[str]:
        """In what an output is not the undisturbed one; empty if in nothing."""


class TrainDrill(Drill):
    """`captioner train --resume auto`: weights, optimiser, log and the best checkpoint."""

    def make(self, folder: Path) -> None:
        """Twelve pictures with captions, a random encoder, and the features."""
        write_encoder(folder)
        write_data(folder, {"train": 9, "val": 3})
        run("prepare", *flags(settings_of(folder, folder / "prepared")))

    def command(self, folder: Path, output: Path) -> list[str]:
        """A run of 50 steps with dropout, a plateau schedule and the gradient watched."""
        changes = {
            "data.batch_size": 2,
            "optimization.schedule": "plateau",
            "optimization.warmup_steps": 7,
            "search.beam_size": 2,
            "trainer.max_epochs": 10,
            "checkpoint.every_steps": 3,
            "watch.gradient_every": 4,
            "watch.gradient_steps": 2,
        }
        return ["train", *flags(settings_of(folder, output) | changes), "--resume", "auto"]

    def remnants(self, expected: Path, found: Path) -> list[str]:
        """Every checkpoint that has its name can be read."""
        for path in found.glob("checkpoints/*.ckpt"):
            torch.load(path, weights_only=True)
        return []

    def differences(self, expected: Path, found: Path) -> list[str]:
        """States to the bit, rows to the letter; clocks apart."""
        different = []
        for name in ("last.ckpt", "best.ckpt"):
            one, two = (
                torch.load(run / "checkpoints" / name, weights_only=True)
                for run in (expected, found)
            )
            parts = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "counts", "epoch")
            different += [f"{name}: {part}" for part in parts if not same(one[part], two[part])]
        one, two = (rows_of(run / "metrics.csv") for run in (expected, found))
        if one != two:
            different.append(f"metrics.csv: {len(one)} and {len(two)} rows")
        if rows_of(expected / "gradients.csv") != rows_of(found / "gradients.csv"):
            different.append("gradients.csv")
        return different + other_names(expected, found)


class PrepareDrill(Drill):
    """`captioner prepare`: the vocabulary, and every photo's row once."""

    def make(self, folder: Path) -> None:
        """Pictures, some of which are none, and a random encoder."""
        write_encoder(folder)
        write_data(folder, {"train": 130, "val": 20}, broken=(3, 17, 18, 55, 90, 149))

    def command(self, folder: Path, output: Path) -> list[str]:
        """Batches that do not come out even, rows in single precision."""
        changes = {
            "data.features": output / "features",
            "encoder.size": 128,
            "encoder.batch_size": 7,
            "encoder.dtype": "float32",
        }
        return ["prepare", *flags(settings_of(folder, output) | changes)]

    def remnants(self, expected: Path, found: Path) -> list[str]:
        """What is in the store already is sound, and right."""
        wrong = differing(expected, found, ["vocabulary.txt"], missing=False)
        if not any(found.glob("features/*/store.json")):
            return wrong
        whole, store = store_of(expected), store_of(found)
        there = [image_id for image_id in ids_of(whole) if image_id in store]
        if not np.array_equal(store.read(there), whole.read(there)):
            wrong.append("rows of other photos")
        if damaged := store.verify():
            wrong.append(f"{len(damaged)} damaged rows")
        return wrong

    def differences(self, expected: Path, found: Path) -> list[str]:
        """The same rows and reasons, by photo; one line and at most one row each."""
        whole, store = store_of(expected), store_of(found)
        different = differing(expected, found, ["vocabulary.txt"]) + store.damage()
        if store.errors != whole.errors:
            different.append(f"{len(store.errors)} unreadable photos, not {len(whole.errors)}")
        ids = ids_of(whole)
        if len(store) != len(ids) or any(image_id not in store for image_id in ids):
            return [*different, f"{len(store)} photos have rows, not {len(ids)}"]
        rows = zip(ids, store.read(ids), whole.read(ids), strict=True)
        others = [image_id for image_id, one, two in rows if not np.array_equal(one, two)]
        if others:
            different.append(f"{len(others)} rows, that of {others[0]} for one")
        lines = (store.folder / "index.jsonl").read_bytes().count(b"\n")
        if lines != len(store) + len(store.errors):
            different.append(f"{lines} lines for {len(store) + len(store.errors)} photos")
        n_bytes = (store.folder / "features.bin").stat().st_size
        if n_bytes != (whole.folder / "features.bin").stat().st_size:
            different.append(f"features.bin: {n_bytes} bytes")
        return different + other_names(expected, found)


class CaptionDrill(Drill):
    """`captioner caption --output FOLDER/`: files of captions and their manifest."""

    exit_code = 1
    signals = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
    locks = True

    def make(self, folder: Path) -> None:
        """A checkpoint; photos in a folder and in two tars, some broken."""
        write_checkpoint(folder)
        (folder / "photos").mkdir()
        for i in range(40):
            content = b"no picture" if i % 13 == 5 else picture(i)
            (folder / "photos" / f"{i:03d}.png").write_bytes(content)
        for number in range(2):
            with tarfile.open(folder / f"more-{number}.tar", "w") as tar:
                for i in range(30):
                    content = b"no picture" if i % 11 == 7 else picture(100 * number + 100 + i)
                    info = tarfile.TarInfo(f"{number}/{i:03d}.png")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))

    def command(self, folder: Path, output: Path) -> list[str]:
        """Files that end within folder and tars, batches that end before them."""
        return ["caption", str(folder / "photos"), str(folder / "more-{0..1}.tar"),
                "--checkpoint", str(folder / "run/checkpoints/last.ckpt"),
                "--output", f"{output}/captions/", "--shard-size", "9", "--batch-size", "4",
                "--beam-size", "3", "--n-best", "2", "--device", "cpu"]  # fmt: skip

    def remnants(self, expected: Path, found: Path) -> list[str]:
        """Every file that has its name is whole, and those of the manifest are there."""
        folder = found / "captions"
        names = [path.name for path in folder.glob("captions-*.jsonl")]
        wrong = differing(expected / "captions", folder, names)
        if (folder / "manifest.json").exists():
            shards = json.loads((folder / "manifest.json").read_bytes())["shards"].values()
            wrong += [f"{one['file']} is missing" for one in shards if one["file"] not in names]
        return wrong

    def differences(self, expected: Path, found: Path) -> list[str]:
        """Every file to the byte, the manifest too."""
        names = [path.name for path in (expected / "captions").iterdir()]
        different = differing(expected / "captions", found / "captions", names)
        return different + other_names(expected, found)


class CaptionFileDrill(Drill):
    """`captioner caption --output FILE`: one file, and the draft from which it resumes."""

    signals = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
    locks = True

    def make(self, folder: Path) -> None:
        """A checkpoint and photos."""
        write_checkpoint(folder)
        (folder / "photos").mkdir()
        for i in range(90):
            (folder / "photos" / f"{i:03d}.png").write_bytes(picture(i))

    def command(self, folder: Path, output: Path) -> list[str]:
        """Batches that do not come out even, a format that has a head and a tail."""
        return ["caption", str(folder / "photos"), "--format", "coco",
                "--checkpoint", str(folder / "run/checkpoints/last.ckpt"),
                "--output", str(output / "captions.json"), "--batch-size", "4",
                "--beam-size", "3", "--device", "cpu"]  # fmt: skip

    def remnants(self, expected: Path, found: Path) -> list[str]:
        """The file is whole, or not there."""
        return differing(expected, found, ["captions.json"], missing=False)

    def differences(self, expected: Path, found: Path) -> list[str]:
        """The file to the byte, and no draft."""
        return differing(expected, found, ["captions.json"]) + other_names(expected, found)


class EvaluateDrill(Drill):
    """`captioner evaluate` where an earlier evaluation's files are: old or new, never a half."""

    names = ("scores.json", "captions.json", "per_image.jsonl")

    def make(self, folder: Path) -> None:
        """A checkpoint, a test split, and an evaluation with another search."""
        write_checkpoint(folder)
        write_data(folder, {"train": 9, "val": 3, "test": 250})
        (folder / "earlier").mkdir()
        greedy = ["--beam-size", "1", "--max-length", "2"]
        run(*self.command(folder, folder / "earlier"), *greedy)

    def begin(self, folder: Path, output: Path) -> None:
        """The earlier evaluation."""
        shutil.copytree(folder / "earlier", output)

    def command(self, folder: Path, output: Path) -> list[str]:
        """All files that an evaluation writes, with intervals."""
        files = [text for name, flag in zip(self.names, ("--output", "--captions", "--per-image"),
                                            strict=True)
                 for text in (flag, str(output / name))]  # fmt: skip
        return ["evaluate", "--checkpoint", str(folder / "run/checkpoints/last.ckpt"),
                "--metrics", "BLEU", "ROUGE-L", "CIDEr-D",
                "--intervals", "--resamples", "1000", "--device", "cpu", *files]  # fmt: skip

    def remnants(self, expected: Path, found: Path) -> list[str]:
        """Each file is that of the earlier evaluation, or the new one."""
        new = differing(expected, found, self.names)
        old = differing(expected.parent / "earlier", found, self.names)
        return [f"neither old nor new: {text}" for text in new if text in old]

    def differences(self, expected: Path, found: Path) -> list[str]:
        """Every file to the byte."""
        return differing(expected, found, self.names) + other_names(expected, found)


DRILLS: dict[str, Drill] = {
    "prepare": PrepareDrill(),
    "train": TrainDrill(),
    "caption": CaptionDrill(),
    "caption-file": CaptionFileDrill(),
    "evaluate": EvaluateDrill(),
}


# Inputs


def settings_of(folder: Path, output: Path) -> dict[str, object]:
    """A small network on the data set of a folder."""
    return {
        "output": output,
        "data.format": "jsonl",
        "data.root": folder / "data",
        "data.features": folder / "features",
        "vocabulary.min_count": 1,
        "encoder.name": "squeezenet1_1",
        "encoder.weights": folder / "encoder.pth",
        "encoder.size": 48,
        "decoder.embedding_size": 8,
        "decoder.hidden_size": 16,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "trainer.log_every_n_steps": 1,
        "wandb.mode": "disabled",
    }


def flags(settings: Settings) -> list[str]:
    """Settings as they are written on the command line."""
    return [text for name, value in settings.items() for text in (f"--{name}", str(value))]


def run(*arguments: str) -> None:
    """Carry out a command that inputs are made with.

    Raises:
        RuntimeError: it did not.
    """
    if code := run_captioner(arguments):
        raise RuntimeError(f"captioner {arguments[0]}: exit code {code}")


def write_encoder(folder: Path) -> None:
    """Weights as no training made them."""
    from torchvision import models

    torch.manual_seed(0)
    torch.save(models.squeezenet1_1().state_dict(), folder / "encoder.pth")


def write_data(folder: Path, counts: Mapping[str, int], broken: tuple[int, ...] = ()) -> None:
    """A data set of noisy pictures with two captions each, some of which are no pictures."""
    data = folder / "data"
    data.mkdir(exist_ok=True)
    splits = [split for split, count in counts.items() for _ in range(count)]
    lines = []
    for i, split in enumerate(splits):
        (data / f"{i}.png").write_bytes(b"no picture" if i in broken else picture(i))
        animal, does = ("dog", "cat", "bird")[i % 3], ("runs", "sleeps")[i // 3 % 2]
        captions = [f"a {animal} {does}", f"the {animal} that {does} is red"]
        lines.append(json.dumps({"image": f"{i}.png", "captions": captions, "split": split}))
    (data / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_checkpoint(folder: Path) -> None:
    """A network after a few steps of training, in the folder ``run``."""
    write_encoder(folder)
    write_data(folder, {"train": 9, "val": 3})
    settings = flags(settings_of(folder, folder / "run") | {"trainer.max_epochs": 3})
    run("prepare", *settings)
    run("train", *settings)


def picture(number: int) -> bytes:
    """Coloured noise as a PNG file."""
    noise = np.random.default_rng(number).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


# Comparisons


def differing(
    expected: Path, found: Path, names: list[str] | tuple[str, ...], *, missing: bool = True
) -> list[str]:
    """Those files, by name, that are not byte for byte as expected, or (if that counts) missing."""
    different = []
    for name in names:
        path = found / name
        if not path.exists():
            different += [f"{name} is missing"] * missing
        elif not (expected / name).exists() or path.read_bytes() != (expected / name).read_bytes():
            different.append(name)
    return different


def other_names(expected: Path, found: Path) -> list[str]:
    """Files that are in one folder or below and not in the other: litter, mostly."""
    one, two = ({str(path.relative_to(root)) for path in root.rglob("*")}
                for root in (expected, found))  # fmt: skip
    return [f"{name}: only in one of both" for name in sorted(one ^ two)]


def store_of(output: Path) -> FeatureStore:
    """The one feature store of an output."""
    (header,) = output.glob("features/*/store.json")
    return FeatureStore.open(header.parent, json.loads(header.read_bytes())["key"])


def ids_of(store: FeatureStore) -> list[str]:
    """Photos of the drill that have a row."""
    return [name for i in range(150) if (name := f"{i}.png") in store]


def same(one: Any, two: Any) -> bool:
    """Whether nested states are equal, tensors to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file without the clock's column."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "words_per_second"} for row in rows]
