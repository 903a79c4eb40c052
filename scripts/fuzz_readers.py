"""Fuzz every reader by mutation: damage valid files at random and read them.

    python scripts/fuzz_readers.py --mutants 10000 --seed 0
    python scripts/fuzz_readers.py --mutants 200 --reader tar --reader picture

Reading a mutant must give a valid result or a one-line `CaptionerError`. Anything else is reported
with the number of the mutant, and the exit code is 1: another exception, a hang of more than
`--seconds`, more than `--memory` MiB of additional memory, or an audit event (code compiled, a
process, a socket, a file written outside of the reader's folder). `--only N` repeats mutant N.
Every reader runs in its own process, so that even a crash is an outcome. The table's "MiB" is the
largest additional resident memory of a mutant, and "s" the longest time.

Memory is limited twice. The operating system refuses more address space than the limit, and such a
refusal counts as an outcome even if the reader turned it into a clear error. Only photos may do
that ("not enough memory to decode"), because a picture of allowed size takes up to 2 GiB by design.
"""

import argparse
import contextlib
import faulthandler
import gc
import io
import json
import multiprocessing
import random
import signal
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

WORDS = ("<pad>", "<start>", "<end>", "<unk>", "a", "red", "dog", "cat", "runs")
OUTCOMES = ("result", "clear error", "other exception", "hang", "memory", "event", "crash")

REFUSALS = ("can't allocate memory", "cannot allocate memory", "bad_alloc")
"""Messages of torch, the operating system and C++ that correspond to Python's `MemoryError`."""

NASTY: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 2**31, 1e308, float("nan"), float("inf"), "", "x" * 10_000),
    *("../../etc/passwd", "/etc/passwd", "\ud800", "\0", "\u2028", [], {}, [[[[]]]], "1", "3.5"),
)
"""Replacements for a value of a JSON text."""


class HangError(BaseException):
    """A mutant took too long; `except Exception` does not catch this."""


# Mutations


def mutate_bytes(content: bytes, generator: random.Random) -> bytes:
    """Damage one to four places anywhere."""
    data = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(data) + 1)
        length = min(generator.choice((1, 2, 4, 16, 200)), max(1, len(data) - at))
        kind = generator.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            data[at : at + length] = generator.randbytes(length)
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length] * generator.choice((1, 2, 50))
        elif kind == 4:
            data[at : at + 4] = generator.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
        elif kind == 5:
            data[at:at] = generator.choice((b"[" * 3000, b'{"a":' * 500, b"\0", b"\r", b"\xff\xfe"))
        elif generator.random() < 0.3:
            del data[at:]
    return bytes(data)


def mutate_value(value: Any, generator: random.Random) -> Any:
    """Copy plain values, with one value at any depth replaced, duplicated or removed."""
    if isinstance(value, (list, dict)) and value and generator.random() < 0.9:
        copy: Any = value.copy()
        key = generator.choice(list(value) if isinstance(value, dict) else range(len(value)))
        kind = generator.random()
        if kind < 0.05:
            del copy[key]
        elif kind < 0.1 and isinstance(copy, list):
            copy.extend(copy[key : key + 3])
        else:
            copy[key] = mutate_value(copy[key], generator)
        return copy
    return generator.choice(NASTY)


def mutate_json(content: bytes, generator: random.Random) -> bytes:
    """Replace a JSON value, or damage bytes."""
    if generator.random() < 0.3:
        return mutate_bytes(content, generator)
    return json.dumps(mutate_value(json.loads(content), generator)).encode()


def mutate_lines(content: bytes, generator: random.Random) -> bytes:
    """Apply `mutate_json` to one line of JSON Lines."""
    lines = content.splitlines()
    at = generator.randrange(len(lines))
    lines[at] = mutate_json(lines[at], generator)
    return b"\n".join(lines)


NASTY_YAML = (
    *(
        "2020-13-45",
        "!!timestamp x",
        "!!int abc",
        "!!float x",
        "!!bool 3",
        "!!binary x",
        "!!set {a}",
    ),
    *(
        "&a [*a]",
        "*b",
        "{<<: 3}",
        "!!python/object:os.system x",
        "~",
        "[",
        "{[1]: 2}",
        "- 1",
        "? a",
    ),
    *(
        "1e400",
        ".nan",
        "0x",
        "1_0",
        "yes",
        "|",
        ">2",
        "%",
        "@",
        "\x85",
        "\ufeff",
        '"\\ud800"',
        "---",
    ),
    "&a [x, x, x, x, x, x, x, x, x]",
    "[&b [x, x, x, x, x, x, x, x, x], &c [*b, *b, *b, *b, *b, *b], &d [*c, *c, *c, *c, *c, *c]]",
)
"""Replacements for a value or a line of a YAML text."""


def mutate_yaml(content: bytes, generator: random.Random) -> bytes:
    """Damage bytes, or replace a value or its text."""
    kind = generator.random()
    if kind < 0.3:
        return mutate_bytes(content, generator)
    if kind < 0.6:
        import yaml

        return json.dumps(mutate_value(yaml.safe_load(content), generator)).encode()
    lines = content.decode().splitlines()
    at = generator.randrange(len(lines))
    key, colon, _ = lines[at].partition(":")
    nasty = generator.choice(NASTY_YAML)
    lines[at] = f"{key}{colon} {nasty}" if generator.random() < 0.8 else nasty
    return "\n".join(lines).encode()


def mutate_zip(content: bytes, generator: random.Random) -> bytes:
    """Damage bytes of a torch file, or of one of the files inside it."""
    if generator.random() < 0.2:
        return mutate_bytes(content, generator)
    damaged = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(damaged, "w") as new:
        for name in old.namelist():
            part = old.read(name)
            new.writestr(name, mutate_bytes(part, generator) if name.endswith(".pkl") else part)
    return damaged.getvalue()


# Readers: each function writes valid files to a folder and returns how to read them.


Reading = tuple[list[Path], Callable[[bytes, random.Random], bytes], Callable[[], object]]
"""Files to damage, one per mutant; the mutation; and the reader."""


def picture(path: Path, seed: int = 0, mode: str = "RGB", **how: Any) -> Path:
    """Write a small picture of noise."""
    import numpy as np
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    photo = Image.fromarray(noise)
    if mode == "I;16":
        photo = Image.fromarray(noise[..., 0].astype(np.uint16) * 256)
    elif mode != "RGB":
        photo = photo.convert(mode)
    photo.save(path, **how)
    return path


def annotations(folder: Path) -> dict[str, Any]:
    """Return annotations in COCO's format, with two photos in `folder / "images"`."""
    for i in (1, 2):
        picture(folder / "images" / f"{i}.png", i)
    return {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in (1, 2)],
        "annotations": [
            {"id": 10 + i, "image_id": 1 + i % 2, "caption": f"a red dog {i}"} for i in range(4)
        ],
    }


def check_records(loaded: Any) -> None:
    """Check the properties of every source's records and problems."""
    for record in loaded.records:
        sound = (
            record.split in ("train", "val", "test") and record.path.is_file() and record.captions
        )
        texts = [*record.captions, str(record.image_id)]
        if not sound or not all(text.strip() and text.encode() for text in texts):
            raise AssertionError(f"wrong record {record!r:.200}")
    for sentence in [*map(str, loaded.problems), *loaded.notes]:
        if len(sentence.splitlines()) != 1:
            raise AssertionError(f"a problem of several lines: {sentence!r:.200}")


def _coco(folder: Path) -> Reading:
    from captioner.datasets.coco import load

    file = folder / "captions.json"
    file.write_text(json.dumps(annotations(folder)))
    splits = {"train": file, "val": None, "test": None}
    return [file], mutate_json, lambda: check_records(load(folder, annotations=splits))


def _karpathy(folder: Path) -> Reading:
    from captioner.datasets.karpathy import load

    annotations(folder)
    sentences = [{"raw": "a dog", "sentid": 1}, {"raw": "a cat", "sentid": 2}]
    entries = [
        {"filename": f"{i}.png", "cocoid": i, "split": "train", "sentences": sentences}
        for i in (1, 2)
    ]
    file = folder / "dataset_coco.json"
    file.write_text(json.dumps({"images": entries}))
    return [file], mutate_json, lambda: check_records(load(folder))


def _flickr8k(folder: Path) -> Reading:
    from captioner.datasets.flickr8k import load

    for i in (1, 2):
        picture(folder / "Images" / f"{i}.jpg", i)
    captions = folder / "Flickr8k.token.txt"
    captions.write_text("".join(f"{i}.jpg#{j}\ta dog runs\n" for i in (1, 2) for j in range(3)))
    train = folder / "Flickr_8k.trainImages.txt"
    train.write_text("1.jpg\n")
    val = folder / "Flickr_8k.devImages.txt"
    val.write_text("2.jpg\n")
    return [captions, train, val], mutate_bytes, lambda: check_records(load(folder))


def _captions_table(folder: Path) -> Reading:
    """Use Flickr8k's other format, a table with a header."""
    _, _, read = _flickr8k(folder)
    (folder / "Flickr8k.token.txt").unlink()
    table = folder / "captions.txt"
    rows = ("a dog runs", '"a dog, a ""red"" one"', "two, dogs")
    table.write_text("image,caption\n" + "".join(f"{i}.jpg,{r}\n" for i in (1, 2) for r in rows))
    return [table], mutate_bytes, read


def _jsonl(folder: Path) -> Reading:
    from captioner.datasets.jsonl import load

    annotations(folder)
    lines = [{"image": f"images/{i}.png", "captions": ["a dog"], "split": "train"} for i in (1, 2)]
    file = folder / "captions.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    return [file], mutate_lines, lambda: check_records(load(folder))


def _vocabulary(folder: Path) -> Reading:
    from captioner.text.vocabulary import Vocabulary

    file = folder / "vocabulary.txt"
    Vocabulary(WORDS).save(file)
    return [file], mutate_bytes, lambda: Vocabulary.load(file).encode("a red dog flies")


def _word_vectors(folder: Path) -> Reading:
    from captioner.text.word_vectors import read_vectors

    file = folder / "vectors.txt"
    file.write_text("5 4\n" + "".join(f"{word} 0.5 -1 2e-3 4\n" for word in WORDS[4:]))

    def read() -> None:
        found = read_vectors(file, WORDS, 4)
        if found.vectors.shape != (len(found.rows), 4) or not found.vectors.isfinite().all():
            raise AssertionError(f"wrong vectors {found.vectors.tolist()!r:.200}")

    return [file], mutate_bytes, read


def _results(folder: Path) -> Reading:
    from captioner.evaluation.result_files import read_candidates

    file = folder / "results.json"
    file.write_text(json.dumps([{"image_id": i, "caption": "a dog"} for i in (1, 2, 3)]))
    return [file], mutate_json, lambda: read_candidates(file)


def _result_lines(folder: Path) -> Reading:
    from captioner.evaluation.result_files import read_candidates

    file = folder / "results.jsonl"
    lines = [{"image": f"{i}.jpg", "caption": "a dog", "log_prob": -1.5} for i in (1, 2, 3)]
    file.write_text("\n".join(map(json.dumps, lines)))
    return [file], mutate_lines, lambda: read_candidates(file, images=[1, 2, 3])


def _references(folder: Path) -> Reading:
    from captioner.evaluation.result_files import read_references

    file = folder / "references.json"
    file.write_text(json.dumps(annotations(folder)))
    return [file], mutate_json, lambda: read_references(file)


def _instances(folder: Path) -> Reading:
    from captioner.evaluation.objects import read_instances, score_objects

    file = folder / "instances.json"
    document = annotations(folder) | {
        "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
        "annotations": [{"id": i, "image_id": 1 + i % 2, "category_id": 17 + i} for i in (0, 1)],
    }
    file.write_text(json.dumps(document))

    def read() -> object:
        found = read_instances(file)
        captions = dict.fromkeys(found, "a red dog")
        references = {image: [caption] for image, caption in captions.items()}
        return score_objects(captions, references, found) if found else None

    return [file], mutate_json, read


def _config(folder: Path) -> Reading:
    from captioner.config.parser import config_parser, parse_config

    file = folder / "run.yaml"
    file.write_text((Path(__file__).parent.parent / "configs" / "coco.yaml").read_text())
    parser = config_parser("train", "")
    return [file], mutate_yaml, lambda: parse_config(parser, ["--config", str(file)])


def _study(folder: Path) -> Reading:
    from captioner.study.study_file import read_study

    file = folder / "study.yaml"
    file.write_text(
        "score: CIDEr-D\nsplit: val\nseeds: [0, 1]\nset:\n  decoder.hidden_size: 8\nparts:\n"
        "- grid:\n    decoder.cell: [elman, gru]\n    decoder.place: [init, par]\n"
        "- runs:\n  - decoder.dropout: 0.5\n  seeds: [3]\n"
    )
    return [file], mutate_yaml, lambda: read_study(file)


def read_inputs(names: Iterable[str]) -> None:
    """Decode the named photos; a reason for failure must be one line."""
    import numpy as np

    from captioner.photos.inputs import expand
    from captioner.photos.source import read_pixels
    from captioner.photos.transform import Transform

    small = [Transform(size=16, resize=16)]
    for photo in expand(names):
        found = read_pixels(photo.source(), small)
        if isinstance(found, str):
            good = len(found.splitlines()) == 1
        else:
            good = [(p.shape, p.dtype) for p in found.pixels] == [((3, 16, 16), np.dtype(np.uint8))]
        if not good:
            raise AssertionError(f"wrong pixels or reason: {found!r:.200}")


def _photo_list(folder: Path) -> Reading:
    file = folder / "image_info.json"
    file.write_text(json.dumps(annotations(folder)))
    return [file], mutate_json, lambda: read_inputs([str(file)])


def _tar(folder: Path) -> Reading:
    photo = picture(folder / "1.png").read_bytes()
    files = []
    for name, form in (("a.tar", tarfile.PAX_FORMAT), ("b.tar", tarfile.GNU_FORMAT)):
        files.append(folder / name)
        with tarfile.open(files[-1], "w", format=form) as shard:
            for member in ("1.png", "long/" * 40 + "ü.png", "1.txt"):
                info = tarfile.TarInfo(member)
                info.size = len(photo)
                shard.addfile(info, io.BytesIO(photo))
    return files, mutate_bytes, lambda: read_inputs(map(str, files))


def _pictures(folder: Path) -> Reading:
    from PIL import features

    kinds = ("jpg", "png", "gif", "webp", "bmp", "ppm", "tif")
    files = [picture(folder / f"1.{kind}") for kind in kinds]
    files.append(picture(folder / "2.tif", compression="tiff_lzw"))
    files.append(picture(folder / "2.jpg", progressive=True))
    files.append(picture(folder / "3.jpg", mode="CMYK"))
    files.append(
        picture(folder / "4.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0")
    )
    files.append(picture(folder / "2.png", mode="I;16"))
    files.append(picture(folder / "3.png", mode="P", transparency=3))
    if features.check("avif"):
        files.append(picture(folder / "1.avif"))
    return files, mutate_bytes, lambda: read_inputs(map(str, files))


def _store(folder: Path) -> Reading:
    import numpy as np

    from captioner.features.journal import Entry
    from captioner.features.store import FeatureStore
    from captioner.features.writer import FeatureWriter

    key = {"encoder": "toy"}
    place = folder / "store"
    good = {i: np.array([i, -i, 0.5], dtype=np.float32) for i in range(6)}
    for share in (None, 2):
        with FeatureWriter(place, key, (3,), "float32", share=share) as writer:
            for i in range(3) if share is None else range(3, 6):
                writer.append([Entry(i, f"{i}.jpg", 1, 1, "x")], good[i][None])

    def read() -> None:
        found = FeatureStore.open(place, key)
        damaged = set(found.verify())
        for i, row in good.items():
            if i in found and i not in damaged and not (found.read([i])[0] == row).all():
                raise AssertionError(f"wrong features of image {i}")

    names = ("store.json", "index.jsonl", "features.bin", "index-2.jsonl")
    return [place / name for name in names], mutate_bytes, read


def _regions(folder: Path) -> Reading:
    import numpy as np

    from captioner.photos.regions import RegionFolder

    features = np.arange(24, dtype=np.float32).reshape(4, 6)
    boxes = np.ones((4, 4), np.float32)
    np.savez_compressed(folder / "1.npz", features=features, boxes=boxes, image_w=4, image_h=3)
    np.savez(folder / "2.npz", feat=features.astype(np.float64))
    np.save(folder / "3.npy", features)

    def read() -> None:
        for name in "123":
            found = RegionFolder(folder).read([name])
            if found.features.ndim != 2 or not np.isfinite(found.features).all():
                raise AssertionError(f"wrong features: {found.features!r:.100}")

    return [folder / name for name in ("1.npz", "2.npz", "3.npy")], mutate_bytes, read


def _encoder_weights(folder: Path) -> Reading:
    """Use the file that `encoder.weights PATH` names."""
    import torch
    from torch import nn

    from captioner.model.backbones.weights import load_weights, read_state_dict

    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    file = folder / "weights.pth"
    torch.save(trunk.state_dict(), file)

    def read() -> None:
        load_weights(trunk, read_state_dict(file, ["IMAGENET1K_V1"]), "weights.pth")

    return [file], mutate_zip, read


def a_checkpoint(path: Path) -> Path:
    """Write a checkpoint as training does, of a small untrained network."""
    import torch

    from captioner import checkpoint
    from captioner.build import build_captioner, build_encoder
    from captioner.config.schema import Config, DecoderConfig, EncoderConfig
    from captioner.text.vocabulary import Vocabulary

    config = Config(
        encoder=EncoderConfig(name="squeezenet1_1", weights="none", size=32, fit="squash"),
        decoder=DecoderConfig(cell="gru", embedding_size=8, hidden_size=12),
    )
    encoder, transform = build_encoder(config.encoder)
    known = Vocabulary(WORDS)
    captioner = build_captioner(config, encoder, vocab_size=len(known))
    state = {f"captioner.{name}": tensor for name, tensor in captioner.state_dict().items()}
    contents = checkpoint.contents(captioner, known, transform, config)
    torch.save({"state_dict": state, "captioner": contents}, path)
    return path


def _caption_with(path: Path, photo: Path) -> object:
    from captioner.inference.predictor import Predictor

    return list(Predictor.load(path, device="cpu").caption([photo]))


def _checkpoint_file(folder: Path) -> Reading:
    file = a_checkpoint(folder / "a.ckpt")
    photo = picture(folder / "1.png")
    return [file], mutate_zip, lambda: _caption_with(file, photo)


def _checkpoint_export(folder: Path) -> Reading:
    from captioner import checkpoint

    place, photo = folder / "exported", picture(folder / "1.png")
    checkpoint.export(a_checkpoint(folder / "a.ckpt"), place)
    return [place / "captioner.json"], mutate_json, lambda: _caption_with(place, photo)


def _safetensors(folder: Path) -> Reading:
    _, _, read = _checkpoint_export(folder)

    def mutate(content: bytes, generator: random.Random) -> bytes:
        head = 8 + int.from_bytes(content[:8], "little")
        if generator.random() < 0.3:  # numbers: huge and non-finite ones
            return content[:head] + mutate_bytes(content[head:], generator)
        return mutate_bytes(content[:head], generator) + content[head:]

    return [folder / "exported" / "weights.safetensors"], mutate, read


def _manifest(folder: Path) -> Reading:
    from captioner.inference.shards import Manifest, Shard

    begun = Manifest.begin(folder, {"inputs": ["a"], "options": {"x": 1}}, 10)
    begun.add(0, Shard("captions-00000.jsonl", 10, 0, "a", "b"))

    def read() -> object:
        return Manifest.begin(folder, {"inputs": ["a"], "options": {"x": 1}}, 10)

    return [folder / "manifest.json"], mutate_json, read


READERS: dict[str, Callable[[Path], Reading]] = {
    "coco": _coco,
    "karpathy": _karpathy,
    "flickr8k": _flickr8k,
    "flickr8k-table": _captions_table,
    "jsonl": _jsonl,
    "vocabulary": _vocabulary,
    "vectors": _word_vectors,
    "results": _results,
    "result-lines": _result_lines,
    "references": _references,
    "instances": _instances,
    "config": _config,
    "study": _study,
    "photo-list": _photo_list,
    "tar": _tar,
    "picture": _pictures,
    "store": _store,
    "regions": _regions,
    "weights": _encoder_weights,
    "checkpoint": _checkpoint_file,
    "export": _checkpoint_export,
    "safetensors": _safetensors,
    "manifest": _manifest,
}


# Execution


def work(name: str, numbers: Iterable[int], options: argparse.Namespace, told: Any) -> None:
    """Read mutants in a separate process, and report the outcome of each."""
    warnings.simplefilter("ignore")
    faulthandler.disable()
    with tempfile.TemporaryDirectory() as place:
        files, mutate, read = READERS[name](Path(place))
        read()  # checks that the valid files are readable, and imports everything
        gc.freeze()  # garbage collection then skips all objects of modules
        whole = {file: file.read_bytes() for file in files}
        limit_memory(options.memory)
        signal.signal(signal.SIGALRM, _hang)
        for number in numbers:
            generator = random.Random(f"{options.seed}/{name}/{number}")
            file = generator.choice(files)
            file.write_bytes(mutate(whole[file], generator))
            gc.collect()  # unmaps files of earlier mutants before measuring memory
            before, began = start_peak(), time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, options.seconds)
            outcome = watched_outcome_of(read, Path(place))
            signal.setitimer(signal.ITIMER_REAL, 0)
            took = time.perf_counter() - began
            told.send((outcome, Cost(peak() - before, took)))
            file.write_bytes(whole[file])
        gc.unfreeze()


class Cost(NamedTuple):
    """Cost of a mutant: additional MiB and seconds."""

    mebibytes: float
    seconds: float


def start_peak() -> float:
    """Reset the peak of resident memory; return the current MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> float:
    """Return the peak of resident memory since then in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def outcome_of(read: Callable[[], object]) -> tuple[str, str]:
    """Return the outcome of a call, with details if it is wrong."""
    from captioner.errors import CaptionerError

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            read()
    except CaptionerError as error:
        if refused_memory(error):
            return "memory", f"{error!r:.150}"
        text = str(error)
        one_line = len(text.splitlines()) == 1
        return ("clear error", "") if one_line else ("other exception", f"{text!r:.150}")
    except HangError:
        return "hang", ""
    except MemoryError:
        return "memory", ""
    except Exception as error:
        if refused_memory(error):  # the command line reports it in one line
            return "memory", f"{error!r:.150}"
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        ours = [f for f in traceback.extract_tb(error.__traceback__) if "captioner" in f.filename]
        place = ours[-1] if ours else where
        return "other exception", f"{error!r:.150} at {Path(place.filename).name}:{place.lineno}"
    return "result", ""


def watched_outcome_of(read: Callable[[], object], place: Path) -> tuple[str, str]:
    """Return the outcome of a call; a forbidden event outside of its folder is one too."""
    sys.path.insert(0, str(Path(__file__).parent))
    from audit_events import watched

    del sys.path[0]
    outcomes: list[tuple[str, str]] = []
    events = watched(lambda: outcomes.append(outcome_of(read)), folder=place)
    return ("event", events[0]) if events else outcomes[-1]


def refused_memory(error: BaseException | None) -> bool:
    """Return whether an error, or its cause, was a refusal of memory."""
    while error is not None:
        if isinstance(error, MemoryError) or any(text in str(error).lower() for text in REFUSALS):
            return True
        error = error.__cause__ or error.__context__
    return False


def limit_memory(mebibytes: int) -> None:
    """Limit this process to so much additional memory."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (mebibytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _hang(number: int, frame: FrameType | None) -> None:
    raise HangError


def fuzz(name: str, options: argparse.Namespace) -> tuple[Counter[str], list[str], Cost]:
    """Read all mutants of one reader; return outcomes, faults and the largest cost."""
    context = multiprocessing.get_context("spawn")
    most = Cost(0, 0)
    counts: Counter[str] = Counter()
    faults: list[str] = []
    last = options.mutants if options.only is None else options.only + 1
    following = options.only or 0
    while following < last:
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(name, range(following, last), options, theirs))
        process.start()
        theirs.close()
        while following < last:
            # The first outcome includes the time for imports and valid files.
            outcome, detail = "hang", ""
            if ours.poll(options.seconds + 60):
                try:
                    (outcome, detail), cost = ours.recv()
                    most = Cost(*map(max, most, cost))
                except EOFError:
                    process.join(10)
                    outcome, detail = "crash", f"exit code {process.exitcode}"
            counts[outcome] += 1
            if outcome not in OUTCOMES[:2]:
                faults.append(f"{name} {following}: {outcome} {detail}")
            following += 1
            if outcome in ("crash", "hang"):  # continue with the rest in a new process
                process.kill()
                break
        process.join(10)
        process.kill()
        process.join()
    return counts, faults, most


def main() -> int:
    """Print a table of readers and outcomes."""
    parser = argparse.ArgumentParser(description="Damage valid files at random and read them.")
    parser.add_argument("--mutants", type=int, default=1000, help="per reader; default: 1000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", choices=READERS, help="default: all")
    parser.add_argument("--only", type=int, metavar="N", help="only mutant N")
    parser.add_argument("--seconds", type=float, default=10, help="limit of a hang; default: 10")
    parser.add_argument("--memory", type=int, default=256, help="additional MiB; default: 256")
    options = parser.parse_args()
    heading = "".join(f"{outcome:>17}" for outcome in OUTCOMES)
    print(f"{'reader':14}{heading}{'MiB':>6}{'s':>6}", flush=True)
    every: list[str] = []
    for name in options.reader or READERS:
        counts, faults, most = fuzz(name, options)
        every += faults
        row = "".join(f"{counts[outcome]:17,}" for outcome in OUTCOMES)
        print(f"{name:14}{row}{most.mebibytes:6.0f}{most.seconds:6.2f}", flush=True)
    for fault in every[:50]:
        print(fault)
    return 1 if every else 0


if __name__ == "__main__":
    sys.exit(main())
