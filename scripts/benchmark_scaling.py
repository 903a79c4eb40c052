"""Compare the predictions of docs/scaling.md with measurements on this machine, in one table.

    python scripts/benchmark_scaling.py
    python scripts/benchmark_scaling.py --photos FOLDER --skip processes
    python scripts/benchmark_scaling.py --paper

All predictions start from three measured rates: a matrix product of the projection's shape, a
convolution, and memory bandwidth. The table has predicted and measured values for training steps of
the decoder, encoders, JPEG decoding, a step of two processes (gloo), and bytes per photo in the
feature store and in caption records. Everything runs on one thread and is measured in CPU seconds
of the process, which other programs affect little. Only the two processes are measured in
wall-clock time, and need two idle cores. The rates are measured again before every line. `--paper`
prints the page's numbers for GPUs, from the rates assumed there.

Letters: B images, W words of a batch, V vocabulary, E embedding, H hidden, F feature size,
P parameters, g products with the state (LSTM 4, GRU 3, Elman 1).
"""

import argparse
import io
import multiprocessing
import os
import platform
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import torch
from benchmark_json import add_json, write_json
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from captioner.datasets.batches import Batch, Item, collate
from captioner.features.journal import Entry
from captioner.features.writer import FeatureWriter
from captioner.inference.result import Candidate, PhotoCaptions
from captioner.inference.writers import RecordWriter
from captioner.model.captioner import Captioner
from captioner.model.cells import GRU, LSTM, Cell, Elman
from captioner.model.decoder import Decoder
from captioner.model.decoder_settings import RecurrenceSettings, WordSettings
from captioner.model.encoder import Encoder, torchvision_encoder
from captioner.model.kernels.linear import product
from captioner.photos.transform import Transform

CELLS: dict[str, tuple[Callable[[int, int], Cell], int, int]] = {
    "elman": (Elman, 1, 1),
    "gru": (GRU, 3, 1),
    "lstm": (LSTM, 4, 2),
}
"""Cell class, g, and the number of state parts that the image initialises."""

LENGTHS = {7: 2, 8: 14, 9: 19, 10: 19, 11: 15, 12: 11, 13: 8, 14: 5, 15: 3, 16: 4}
"""Caption lengths in words and their frequencies in percent, close to COCO's."""

NETWORKS = ("mobilenet_v2", "resnet50", "resnet101")
PARTS = ("training", "encoder", "jpeg", "processes", "bytes")


# The model


class Network(NamedTuple):
    """A decoder (`init`, one layer) and a batch for it: B images with five captions each."""

    cell: str
    embedding: int
    hidden: int
    vocabulary: int
    images: int
    features: int = 2048

    @property
    def macs(self) -> int:
        """Multiply-adds per word, forward: V H + g H (E + H)."""
        gates = CELLS[self.cell][1]
        return self.vocabulary * self.hidden + gates * self.hidden * (self.embedding + self.hidden)

    @property
    def parameters(self) -> int:
        """Parameters P: embedding, projection, cell with two biases, image, layer norm."""
        _, gates, states = CELLS[self.cell]
        cell = gates * self.hidden * (self.embedding + self.hidden + 2)
        image = states * self.hidden * (self.features + 1) + 2 * self.features
        words = self.vocabulary * (self.embedding + self.hidden + 1)
        return words + cell + image


def training_flops(network: Network, words: int) -> int:
    """Return the FLOPs of a step: forward, and backward to inputs and weights; 2 per multiply."""
    image = CELLS[network.cell][2] * network.hidden * network.features
    return 6 * (words * network.macs + network.images * image)


def training_bytes(network: Network, words: int) -> int:
    """Return the bytes a step moves besides its products: 28 P for the optimiser, 4x the logits."""
    return 28 * network.parameters + 16 * words * network.vocabulary


def all_reduce_bytes(parameters: int, processes: int) -> float:
    """Return the bytes each process of a ring sends: 2 (n - 1) / n float32 gradients."""
    return 2 * (processes - 1) / processes * 4 * parameters


# Measurements


class Row(NamedTuple):
    """One row of the table."""

    what: str
    predicted: float
    measured: float
    unit: str


class Rates(NamedTuple):
    """Rates of this machine: FLOP/s of products and convolutions, bytes/s of memory."""

    product: float
    convolution: float
    memory: float


def seconds(call: Callable[[], object], rounds: int, clock: Callable[[], float]) -> list[float]:
    """Return the seconds of each round, after two warm-up rounds."""
    found = []
    for turn in range(rounds + 2):
        began = clock()
        call()
        if turn >= 2:
            found.append(clock() - began)
    return found


def cpu(call: Callable[[], object], rounds: int = 7) -> float:
    """Return the median CPU seconds of a call."""
    return statistics.median(seconds(call, rounds, time.process_time))


def measure_rates() -> Rates:
    """Return median rates of a product (613, 512, 9488), a 3 x 3 convolution and a copy."""
    left, right = torch.randn(613, 512), torch.randn(9488, 512)
    convolution = nn.Conv2d(256, 256, 3, padding=1, bias=False)
    convolution = convolution.to(memory_format=torch.channels_last)
    maps = torch.randn(16, 256, 14, 14).contiguous(memory_format=torch.channels_last)
    one, other = torch.zeros(2**26), torch.zeros(2**26)
    with torch.inference_mode():
        return Rates(
            2 * 613 * 512 * 9488 / cpu(lambda: product(left, right)),
            2 * 16 * 14 * 14 * 9 * 256**2 / cpu(lambda: convolution(maps)),
            2 * 4 * 2**26 / cpu(lambda: one.copy_(other)),
        )


def make_batch(network: Network, seed: int = 0) -> Batch:
    """Return a batch with five captions per image, of random words and COCO's lengths."""
    rng = random.Random(seed)
    lengths, weights = list(LENGTHS), list(LENGTHS.values())
    return collate(
        [
            Item(
                image,
                torch.randn(network.features),
                [
                    [rng.randrange(4, network.vocabulary) for _ in range(length)]
                    for length in rng.choices(lengths, weights, k=5)
                ],
            )
            for image in range(network.images)
        ]
    )


class Loss(nn.Module):
    """The captioner's loss as a forward pass, which DistributedDataParallel requires."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        decoder = Decoder(
            network.vocabulary,
            network.features,
            RecurrenceSettings(CELLS[network.cell][0], network.hidden),
            words=WordSettings(network.embedding),
        )
        count = sum(weight.numel() for weight in decoder.parameters())
        assert count == network.parameters, f"{count:,} parameters, not {network.parameters:,}"
        self.captioner = Captioner(nn.Identity(), decoder)  # type: ignore[arg-type]

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        sizes = torch.tensor(batch.batch_sizes)
        return self.captioner.loss(batch.images, batch.inputs, batch.targets, sizes, batch.rows)


def training_step(loss: nn.Module, batch: Batch) -> Callable[[], None]:
    """Return a training step: forward, backward, update."""
    optimizer = torch.optim.Adam(loss.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()

    return step


TRAINED = (
    Network("elman", 256, 256, 2500, 32, 1280),
    Network("gru", 512, 512, 2500, 32, 1280),
    Network("lstm", 512, 512, 9488, 10),
    Network("lstm", 512, 1024, 9488, 64),
)


def check_training() -> list[Row]:
    """Return rows for (a): steps of the decoder."""
    rows = []
    for network in TRAINED:
        batch = make_batch(network)
        words, rates = len(batch.targets), measure_rates()
        work = training_flops(network, words) / rates.product
        moved = training_bytes(network, words) / rates.memory
        measured = cpu(training_step(Loss(network), batch))
        name = f"{network.cell} {network.embedding}/{network.hidden}, V {network.vocabulary:,}"
        name += f", {words:,} words"
        rows.append(Row(f"step, products alone: {name}", 1e3 * work, 1e3 * measured, "ms"))
        rows.append(Row("  with bytes", 1e3 * (work + moved), 1e3 * measured, "ms"))
    return rows


def count_macs(encoder: Encoder) -> int:
    """Return the multiply-adds for one photo of 224 pixels."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        encoder(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    return counter.get_total_flops() // 2


def count_activations(encoder: Encoder) -> int:
    """Return how many numbers the layers read and write per photo, without weights."""
    counted = 0

    def add(module: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> None:
        nonlocal counted
        counted += given[0].numel() + found.numel()

    hooks = [
        module.register_forward_hook(add)
        for module in encoder.trunk.modules()
        if not list(module.children())
    ]
    with torch.inference_mode():
        encoder(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    return counted


def check_encoders() -> list[Row]:
    """Return rows for (b): encoders with folded batch norm, in batches of 16."""
    rows = []
    for name in NETWORKS:
        encoder, _ = torchvision_encoder(name, "none", grid=False)
        encoder.fold_batch_norm()
        photos = torch.randint(0, 256, (16, 3, 224, 224), dtype=torch.uint8)
        rates = measure_rates()
        macs, moved = count_macs(encoder), 4 * count_activations(encoder)
        work, bytes_ = 2 * macs / rates.convolution, moved / rates.memory
        with torch.inference_mode():
            measured = 16 / cpu(lambda: encoder(photos), 5)  # noqa: B023
        what = f"{name}, {macs / 1e9:.2f} GMAC"
        rows.append(Row(f"{what}, products alone", 1 / work, measured, "photos/s"))
        rows.append(Row(f"  with {moved / 1e6:.0f} MB", 1 / (work + bytes_), measured, "photos/s"))
    return rows


def draw(width: int, height: int, grain: float = 14.0) -> bytes:
    """Return a JPEG of smooth colours with grain, with about COCO's bytes per pixel (0.5)."""
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    smooth = np.asarray(colours.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noisy = smooth + rng.normal(0, grain, (height, width, 1))
    found = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(found, "JPEG", quality=90)
    return found.getvalue()


def check_jpeg(folder: Path, photos: Sequence[Path]) -> list[Row]:
    """Return rows for (c): JPEGs decoded, resized to 256 and cropped to 224, on one core."""
    transform = Transform()
    sizes = ((640, 480), (500, 375), (1280, 960))
    rates = []
    for width, height in sizes:
        path = folder / f"{width}.jpg"
        path.write_bytes(draw(width, height))
        rates.append(1 / cpu(lambda: transform.load(path), 30))  # noqa: B023
    # The cost is proportional to the pixels, so the first size predicts the others.
    pixels = [width * height for width, height in sizes]
    rows = [
        Row(f"JPEG {w} x {h}, {(folder / f'{w}.jpg').stat().st_size // 1000} kB", p, m, "photos/s")
        for (w, h), p, m in zip(
            sizes, [rates[0] * pixels[0] / one for one in pixels], rates, strict=True
        )
    ]
    if photos:
        total = sum(width * height for width, height in map(_size, photos))
        predicted = rates[0] * pixels[0] * len(photos) / total
        began = time.process_time()
        for path in photos:
            transform.load(path)
        measured = len(photos) / (time.process_time() - began)
        rows.append(
            Row(f"{len(photos)} real photos, by their pixels", predicted, measured, "photos/s")
        )
    return rows


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as photo:
        return photo.size


SHARED = Network("lstm", 512, 512, 9488, 10)
"""Network that the two processes train, each with the full number of images."""


def share(rank: int, place: str, told: Any) -> None:
    """Measure one of two processes: its step alone, the all-reduce alone, and both; in seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{place}", rank=rank, world_size=2
    )
    batch = make_batch(SHARED, seed=rank)
    loss = Loss(SHARED)
    gradient = torch.zeros(SHARED.parameters)
    alone = training_step(loss, batch)
    together = training_step(nn.parallel.DistributedDataParallel(Loss(SHARED)), batch)

    def reduce() -> None:
        torch.distributed.all_reduce(gradient)

    # Each process alone, but at the same time, because the two cores share their memory.
    found = [
        statistics.median(seconds(call, 9, time.perf_counter)) for call in (alone, reduce, together)
    ]
    torch.distributed.destroy_process_group()
    told.put(found)


def check_processes() -> list[Row]:
    """Return rows for (d): two processes over gloo on this machine."""
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "meet")
        processes = [context.Process(target=share, args=(rank, place, told)) for rank in (0, 1)]
        for process in processes:
            process.start()
        found = [told.get(timeout=600) for _ in processes]
        for process in processes:
            process.join()
    step, reduce, together = (1e3 * max(pair) for pair in zip(*found, strict=True))
    moved = all_reduce_bytes(SHARED.parameters, 2)
    rate = moved / reduce * 1e3 / 1e9
    return [
        Row(
            f"two processes, {moved / 1e6:.0f} MB at {rate:.2f} GB/s after the step",
            step + reduce,
            together,
            "ms",
        ),
        Row("  beside its last two thirds", step / 3 + max(2 * step / 3, reduce), together, "ms"),
    ]


def check_bytes(folder: Path) -> list[Row]:
    """Return rows for (e) and (f): bytes per photo on disk."""
    rows = []
    for name, shape in (("pooled 1,280", (1280,)), ("grid 49 x 2,048", (49, 2048))):
        place, count = folder / f"store{len(shape)}", 200
        with FeatureWriter(place, {"encoder": "x"}, shape, "float16") as writer:
            for i in range(count):
                entry = Entry(
                    i, f"train2014/COCO_train2014_{i:012d}.jpg", 160_000, 10**18, "0" * 32
                )
                writer.append([entry], np.ones((1, *shape), np.float16))
        on_disk = sum(path.stat().st_size for path in place.iterdir())
        predicted = 2 * np.prod(shape) + 250
        rows.append(Row(f"feature store, {name}", float(predicted), on_disk / count, "bytes"))
    rng = random.Random(0)
    text = io.StringIO()
    writer_ = RecordWriter(text, "jsonl")
    path, words = Path("shards-000.tar/000000001.jpg"), ["a", "man", "riding", "wave", "on", "the"]
    lengths = rng.choices(list(LENGTHS), list(LENGTHS.values()), k=1000)
    for length in lengths:
        caption = " ".join(rng.choice(words) for _ in range(length))
        log_prob = -rng.uniform(3, 15)
        writer_.write(PhotoCaptions(path, (Candidate(caption, log_prob, log_prob, (), ()),)))
    letters = statistics.mean(map(len, words)) + 1
    predicted_record = 51 + len(str(path)) + letters * statistics.mean(lengths) - 1
    measured = len(text.getvalue().encode()) / len(lengths)
    rows.append(Row("a caption's record, JSON Lines", predicted_record, measured, "bytes"))
    return rows


# The page's numbers for other machines


class Device(NamedTuple):
    """A GPU with assumed rates: peak FLOP/s in TF32, the share of it in practice, bytes/s."""

    name: str
    peak: float
    share: float
    memory: float

    @property
    def rate(self) -> float:
        """FLOP/s in practice."""
        return self.peak * self.share


DEVICES = (Device("A100", 156e12, 0.3, 2.0e12), Device("H100", 495e12, 0.3, 3.35e12))
LINKS = (("NVLink", 400e9), ("PCIe", 25e9), ("100 Gb/s", 12.5e9))
COCO = Network("lstm", 512, 1024, 9491, 64)
WORDS = 5 * 11.7
"""Words per COCO image: five captions of 10.7 words plus the end word."""

STEPS = 17
"""Time steps of a batch, that is, words of its longest caption."""
LAUNCH = 50e-6
"""Assumed seconds per time step for small kernels in training, forward and backward."""
SEARCH = 500e-6
"""Assumed seconds per time step of the search, independent of the batch size."""
ENCODERS = {
    "mobilenet_v2": (0.299e9, 103e6),
    "resnet50": (4.087e9, 168e6),
    "resnet101": (7.799e9, 250e6),
}
"""Multiply-adds and activation bytes per photo, from `count_macs` and `count_activations`."""
JPEG = 200.0
"""Assumed number of 640 x 480 JPEGs that a core decodes and resizes per second."""
BEAM, BATCH = 5, 512
TRAINING_IMAGES, ALL_IMAGES, EPOCHS = 113_287, 123_287, 20


def print_paper() -> None:
    """Print step times, thresholds and hours from the assumed rates."""
    p = COCO.parameters
    print(f"P {p:,}; {6 * COCO.macs / 1e6:.1f} MFLOP per word; {4 * p / 1e6:.0f} MB of gradients")
    for device in DEVICES:
        image = training_flops(COCO._replace(images=1), 1) - 6 * COCO.macs + 6 * COCO.macs * WORDS
        fixed = 28 * p / device.memory + STEPS * LAUNCH
        moved = 16 * WORDS * COCO.vocabulary / device.memory
        slope = image / device.rate + moved
        print(
            f"{device.name}: {1e6 * slope:.0f} us per image + {1e3 * fixed:.2f} ms per step; ",
            end="",
        )
        print(f"B 64: {1e3 * (64 * slope + fixed):.2f} ms, ", end="")
        steps = EPOCHS * TRAINING_IMAGES / 64
        print(f"{EPOCHS} epochs {steps * (64 * slope + fixed):.0f} s")
        for name, bandwidth in LINKS:
            for n in (8, 64):
                reduce = all_reduce_bytes(p, n) / bandwidth
                least = max(0.0, (1.5 * reduce - fixed) / slope)
                hidden = max(64 * slope + fixed, 64 * slope / 3 + fixed + reduce)
                print(
                    f"  {name:8} n {n:2}: {1e3 * reduce:6.2f} ms; hidden from B {least:5.0f}; ",
                    end="",
                )
                print(f"B 64 efficiency {(64 * slope + fixed) / hidden:.0%}")

    decoding = 2 * BEAM * WORDS / 5 * COCO.macs
    print(f"decoding {decoding / 1e9:.2f} GFLOP per caption")
    for device in DEVICES:
        for name, (macs, moved) in ENCODERS.items():
            encoding = 2 * macs / device.rate + moved / device.memory
            searching = decoding / device.rate + STEPS * SEARCH / BATCH
            rate = 1 / (encoding + searching)
            print(
                f"{device.name} {name}: encoding {1e6 * encoding:.0f} us, search "
                f"{1e6 * searching:.0f} us, {rate:,.0f} photos/s, {rate / JPEG:.0f} cores, "
                f"100 M photos {1e8 / rate / 3600:.1f} h; COCO prepared in "
                f"{ALL_IMAGES * encoding:.0f} s"
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder of real JPEGs to decode as well")
    parser.add_argument("--skip", nargs="+", choices=PARTS, default=[])
    parser.add_argument("--paper", action="store_true", help="print only the page's GPU numbers")
    add_json(parser)
    options = parser.parse_args()
    if options.paper:
        print_paper()
        return
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rates = measure_rates()
    print(
        f"{platform.machine()} CPU, {os.cpu_count()} cores, 1 thread, float32, torch "
        f"{torch.__version__}, Pillow {PIL.__version__}; medians; rates: product "
        f"{rates.product / 1e9:.0f} GFLOP/s, convolution {rates.convolution / 1e9:.0f} GFLOP/s, "
        f"memory {rates.memory / 1e9:.1f} GB/s"
    )
    print(f"{'':64}{'predicted':>11}{'measured':>11}  measured/predicted", flush=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        photos = sorted(options.photos.glob("*.jpg")) if options.photos else []
        checks: dict[str, Callable[[], list[Row]]] = {
            "training": check_training,
            "encoder": check_encoders,
            "jpeg": lambda: check_jpeg(folder, photos),
            "processes": check_processes,
            "bytes": lambda: check_bytes(folder),
        }
        rows: list[dict[str, Any]] = []
        for name, check in checks.items():
            for row in check() if name not in options.skip else ():
                rows.append({"part": name, **row._asdict(), "ratio": row.measured / row.predicted})
                ratio = row.measured / row.predicted
                numbers = f"{row.predicted:11,.1f}{row.measured:11,.1f}"
                print(f"{row.what:64}{numbers} {row.unit:9}{ratio:6.2f}", flush=True)
    if options.json:
        write_json(options.json, rows, {"threads": 1, **rates._asdict()})


if __name__ == "__main__":
    main()
