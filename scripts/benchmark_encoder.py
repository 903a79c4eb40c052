"""Benchmark encoders in images per second, against the machine's limit of matrix products.

    python scripts/benchmark_encoder.py --threads 2
    python scripts/benchmark_encoder.py --networks resnet50 --compile --json encoder.json

The limit is what the network's multiply-adds would take at the speed of the machine's best float32
product. "plain" is the network as torchvision builds it. "ours" folds batch norm and stores
channels last, which is what captioning and `prepare` run. "compiled" is the same under
`torch.compile`, which takes a minute to start and so pays for long work only. Weights are random,
because the speed does not depend on them. Processor seconds count, so that a busy machine gives
nearly the same figures.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from benchmark_json import add_json, write_json
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from captioner.cli import keep_freed_memory
from captioner.model.encoder import Encoder, pretrained_encoder

NETWORKS = ("mobilenet_v2", "resnet50", "efficientnet_lite0")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--size", type=int, default=224, help="pixels of a side")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile")
    add_json(parser)
    options = parser.parse_args()
    keep_freed_memory(os.environ)  # as the commands do
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rate = best_product()
    print(f"{options.threads} threads; best product {rate / 1e9:.0f} G multiply-adds per second")
    print(f"{'network':20} {'form':9} {'batch':>5} {'images/s':>9} {'of the limit':>12}")
    rows: list[dict[str, Any]] = []
    for name in options.networks:
        for form, network in forms(name, options.size, options.compile):
            for batch in options.batches:
                row = measured(network, batch, options, rate)
                rows.append({"network": name, "form": form, "batch": batch, **row})
                print(
                    f"{name:20} {form:9} {batch:5} {row['images_per_second']:9.1f} "
                    f"{row['share_of_limit']:12.0%}",
                    flush=True,
                )
    if options.json:
        settings = {"threads": options.threads, "size": options.size, "rounds": options.rounds}
        write_json(options.json, rows, {**settings, "products_per_second": rate})


def forms(name: str, size: int, compiled: bool) -> list[tuple[str, nn.Module]]:
    """Return a network as torchvision builds it, as it is run here, and compiled."""
    plain, ours = (encoder(name, size) for _ in range(2))
    plain.trunk.to(memory_format=torch.contiguous_format)
    ours.fold_batch_norm()
    ours.trunk.to(memory_format=torch.channels_last)
    found: list[tuple[str, nn.Module]] = [("plain", plain), ("ours", ours)]
    if compiled:
        fast: Any = torch.compile(ours, dynamic=False)
        found.append(("compiled", fast))
    return found


def encoder(name: str, size: int) -> Encoder:
    """Return an encoder with random weights."""
    return pretrained_encoder(name, "none", grid=False, size=size)[0]


@torch.inference_mode()
def measured(
    network: nn.Module, batch: int, options: argparse.Namespace, rate: float
) -> dict[str, float]:
    """Return images per second, and their share of the limit."""
    photos = torch.randint(0, 256, (batch, 3, options.size, options.size), dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        getattr(network, "_orig_mod", network)(photos)
    work = counter.get_total_flops() / 2  # multiply-adds
    seconds = median_seconds(lambda: network(photos), options.rounds, options.threads)
    return {
        "images_per_second": batch / seconds,
        "share_of_limit": work / seconds / rate,
        "multiply_adds": work / batch,
    }


def median_seconds(work: Callable[[], object], rounds: int, threads: int) -> float:
    """Return the median of processor seconds per thread, after one run to warm up."""
    work()
    times: list[float] = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append((time.process_time() - began) / threads)
    return statistics.median(times)


@torch.inference_mode()
def best_product(sizes: Sequence[int] = (512, 1024, 2048)) -> float:
    """Return the most multiply-adds per second of square float32 products."""
    found = []
    for size in sizes:
        a, b = torch.randn(size, size), torch.randn(size, size)

        def product(a: Tensor = a, b: Tensor = b) -> Tensor:
            return a @ b

        found.append(size**3 / median_seconds(product, 5, torch.get_num_threads()))
    return max(found)


if __name__ == "__main__":
    main()
