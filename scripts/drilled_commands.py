"""Commands that `fault_drill.py` kills: their inputs, and what they must leave behind."""

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
    """A command to kill.

    Attributes:
        exit_code: Exit code of an undisturbed run; 1 if some photo is unreadable.
        signals: Signals that kill it.
        locks: Whether a second run on the same output is refused.
    """

    exit_code = 0
    signals: tuple[int, ...] = (signal.SIGKILL,)
    locks = False

    @abstractmethod
    def make(self, folder: Path) -> None:
        """Write the input of the command."""

    def begin(self, folder: Path, output: Path) -> None:
        """Create the output folder before the first start of the command."""
        output.mkdir()

    @abstractmethod
    def command(self, folder: Path, output: Path) -> list[str]:
        """Return the arguments of `captioner`, the same for the first start and after each kill."""

    @abstractmethod
    def remnants(self, expected: Path, found: Path) -> list[str]:
        """Return the forbidden remnants of a kill; empty if there are none."""

    @abstractmethod
    def differences(self, expected: Path, found: Path) -> list[str]:
        """Return the differences from the undisturbed output; empty if there are none."""


class TrainDrill(Drill):
    """`captioner train --resume auto`: weights, optimiser, log and the best checkpoint."""

    def make(self, folder: Path) -> None:
        """Write twelve photos with captions, a random encoder, and the features."""
        write_encoder(folder)
        write_data(folder, {"train": 9, "val": 3})
        run("prepare", *flags(settings_of(folder, folder / "prepared")))

    def command(self, folder: Path, output: Path) -> list[str]:
        """Return a run of 50 steps with dropout, a plateau schedule and the gradient watch."""
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
        """Return checkpoints that cannot be read."""
        for path in found.glob("checkpoints/*.ckpt"):
            torch.load(path, weights_only=True)
        return []

    def differences(self, expected: Path, found: Path) -> list[str]:
        """Compare states bit for bit and rows exactly, apart from clocks."""
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
    """`captioner prepare`: the vocabulary, and exactly one row per photo."""

    def make(self, folder: Path) -> None:
        """Write photos, some of them broken, and a random encoder."""
        write_encoder(folder)
        write_data(folder, {"train": 130, "val": 20}, broken=(3, 17, 18, 55, 90, 149))

    def command(self, folder: Path, output: Path) -> list[str]:
        """Return a run whose last batch is incomplete, with float32 rows."""
        changes = {
            "data.features": output / "features",
            "encoder.size": 128,
            "encoder.batch_size": 7,
            "encoder.dtype": "float32",
        }
        return ["prepare", *flags(settings_of(folder, output) | changes)]

    def remnants(self, expected: Path, found: Path) -> list[str]:
        """Return rows in the store that are damaged or wrong."""
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
        """Compare rows and reasons by photo; each photo has one line and at most one row."""
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
            different.append(f"{len(others)} rows, for example that of {others[0]}")
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
        """Write a checkpoint, and photos in a folder and in two tars, some of them broken."""
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
        """Return a run whose files end within folder and tars, and whose batches end earlier."""
        return ["caption", str(folder / "photos"), str(folder / "more-{0..1}.tar"),
                "--checkpoint", str(folder / "run/checkpoints/last.ckpt"),
                "--output", f"{output}/captions/", "--shard-size", "9", "--batch-size", "4",
                "--beam-size", "3", "--n-best", "2", "--device", "cpu"]  # fmt: skip

    def remnants(self, expected: Path, found: Path) -> list[str]:
        """Return incomplete files, and files of the manifest that are missing."""
        folder = found / "captions"
        names = [path.name for path in folder.glob("captions-*.jsonl")]
        wrong = differing(expected / "captions", folder, names)
        if (folder / "manifest.json").exists():
            shards = json.loads((folder / "manifest.json").read_bytes())["shards"].values()
            wrong += [f"{one['file']} is missing" for one in shards if one["file"] not in names]
        return wrong

    def differences(self, expected: Path, found: Path) -> list[str]:
        """Compare every file byte for byte, including the manifest."""
        names = [path.name for path in (expected / "captions").iterdir()]
        different = differing(expected / "captions", found / "captions", names)
        return different + other_names(expected, found)


class CaptionFileDrill(Drill):
    """`captioner caption --output FILE`: one file, and the draft from which it resumes."""

    signals = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
    locks = True

    def make(self, folder: Path) -> None:
        """Write a checkpoint and photos."""
        write_checkpoint(folder)
        (folder / "photos").mkdir()
        for i in range(90):
            (folder / "photos" / f"{i:03d}.png").write_bytes(picture(i))

    def command(self, folder: Path, output: Path) -> list[str]:
        """Return a run whose last batch is incomplete, in a format with a head and a tail."""
        return ["caption", str(folder / "photos"), "--format", "coco",
                "--checkpoint", str(folder / "run/checkpoints/last.ckpt"),
                "--output", str(output / "captions.json"), "--batch-size", "4",
                "--beam-size", "3", "--device", "cpu"]  # fmt: skip

    def remnants(self, expected: Path, found: Path) -> list[str]:
        """Return the file if it is incomplete."""
        return differing(expected, found, ["captions.json"], missing=False)

    def differences(self, expected: Path, found: Path) -> list[str]:
        """Compare the file byte for byte; no draft may remain."""
        return differing(expected, found, ["captions.json"]) + other_names(expected, found)


class EvaluateDrill(Drill):
    """`captioner evaluate` over earlier files: each file must be the old or the new one."""

    names = ("scores.json", "captions.json", "per_image.jsonl")

    def make(self, folder: Path) -> None:
        """Write a checkpoint, a test split, and an evaluation with other search settings."""
        write_checkpoint(folder)
        write_data(folder, {"train": 9, "val": 3, "test": 250})
        (folder / "earlier").mkdir()
        greedy = ["--beam-size", "1", "--max-length", "2"]
        run(*self.command(folder, folder / "earlier"), *greedy)

    def begin(self, folder: Path, output: Path) -> None:
        """Copy the earlier evaluation."""
        shutil.copytree(folder / "earlier", output)

    def command(self, folder: Path, output: Path) -> list[str]:
        """Return an evaluation that writes all files, with intervals."""
        files = [text for name, flag in zip(self.names, ("--output", "--captions", "--per-image"),
                                            strict=True)
                 for text in (flag, str(output / name))]  # fmt: skip
        return ["evaluate", "--checkpoint", str(folder / "run/checkpoints/last.ckpt"),
                "--metrics", "BLEU", "ROUGE-L", "CIDEr-D",
                "--intervals", "--resamples", "1000", "--device", "cpu", *files]  # fmt: skip

    def remnants(self, expected: Path, found: Path) -> list[str]:
        """Return files that are neither the earlier nor the new ones."""
        new = differing(expected, found, self.names)
        old = differing(expected.parent / "earlier", found, self.names)
        return [f"neither old nor new: {text}" for text in new if text in old]

    def differences(self, expected: Path, found: Path) -> list[str]:
        """Compare every file byte for byte."""
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
    """Return the settings of a small network on the data set in a folder."""
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
    """Return settings as command-line flags."""
    return [text for name, value in settings.items() for text in (f"--{name}", str(value))]


def run(*arguments: str) -> None:
    """Run a command that creates inputs.

    Raises:
        RuntimeError: The command failed.
    """
    if code := run_captioner(arguments):
        raise RuntimeError(f"captioner {arguments[0]}: exit code {code}")


def write_encoder(folder: Path) -> None:
    """Write random encoder weights."""
    from torchvision import models

    torch.manual_seed(0)
    torch.save(models.squeezenet1_1().state_dict(), folder / "encoder.pth")


def write_data(folder: Path, counts: Mapping[str, int], broken: tuple[int, ...] = ()) -> None:
    """Write a data set of noisy photos with two captions each, some of them broken."""
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
    """Write a network after a few training steps to the folder `run`."""
    write_encoder(folder)
    write_data(folder, {"train": 9, "val": 3})
    settings = flags(settings_of(folder, folder / "run") | {"trainer.max_epochs": 3})
    run("prepare", *settings)
    run("train", *settings)


def picture(number: int) -> bytes:
    """Return coloured noise as a PNG file."""
    noise = np.random.default_rng(number).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


# Comparisons


def differing(
    expected: Path, found: Path, names: list[str] | tuple[str, ...], *, missing: bool = True
) -> list[str]:
    """Return the files that differ from the expected bytes or, if `missing`, do not exist."""
    different = []
    for name in names:
        path = found / name
        if not path.exists():
            different += [f"{name} is missing"] * missing
        elif not (expected / name).exists() or path.read_bytes() != (expected / name).read_bytes():
            different.append(name)
    return different


def other_names(expected: Path, found: Path) -> list[str]:
    """Return the files that exist in only one of the folders, at any depth."""
    one, two = ({str(path.relative_to(root)) for path in root.rglob("*")}
                for root in (expected, found))  # fmt: skip
    return [f"{name}: in only one of the folders" for name in sorted(one ^ two)]


def store_of(output: Path) -> FeatureStore:
    """Return the single feature store of an output."""
    (header,) = output.glob("features/*/store.json")
    return FeatureStore.open(header.parent, json.loads(header.read_bytes())["key"])


def ids_of(store: FeatureStore) -> list[str]:
    """Return the ids of the drill's photos that have a row."""
    return [name for i in range(150) if (name := f"{i}.png") in store]


def same(one: Any, two: Any) -> bool:
    """Return whether nested states are equal, with bit-identical tensors."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file without the clock's column."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "words_per_second"} for row in rows]
