"""Benchmark beam search against the machine's limit and against other implementations.

All candidates run in turns in one process, around the same LSTM step with random weights. Each
number is the best of the rounds. Columns, for one row per batch size:

- limit: only the matrix products of the search (gates and vocabulary). On a GPU they are captured
  as a CUDA graph and replayed, so that launch overhead is not measured.
- captioner: `captioner.decoding.beam_search.beam_search` (on a GPU as CUDA graphs, with
  `captioner.decoding.cuda_graphs`), its share of the limit, and its share of its own products:
  those with weights laid out for few rows (`captioner.model.kernels.linear.FewRows`), which are
  faster than the limit on Intel CPUs.
- per image: a straightforward beam search over one image at a time.
- generate: Hugging Face `generate` with `num_beams`, if transformers is installed. "same step" uses
  the same step. "at most" is the speed-up of a search that costs nothing but the products. "usual"
  uses a step as it is usually written, with one `F.linear` each for gates and words. On a CPU,
  captioner's own decoder keeps weights laid out for few rows and caches the words' products with
  the gates (`captioner.model.kernels.input_cache`), as the step here does. On a GPU both steps are
  the same.
- early ends: captions that end after 6 to 14 words, as real ones do.
- same words: share of captions that `generate` finds too.

A second table (`--attention`: that one only) is of captioner's own decoder with attention over 196
regions; see `benchmark_attention_search.py`.

Example: `python scripts/benchmark_decoding.py --threads 2`.
"""

import argparse
import math
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from benchmark_json import add_json, write_json
from generate_search import END, START, Generate, State, Step, generate_around
from torch import Tensor

from captioner.cli import keep_freed_memory
from captioner.decoding.beam_search import SearchOptions
from captioner.decoding.cuda_graphs import RecordedSearch
from captioner.model.kernels.input_cache import WordProducts
from captioner.model.kernels.linear import FewRows, linear


class LstmStep:
    """A minimal LSTM decoder: embedding, gates and a projection to the vocabulary.

    Weights are random, and scaled so that a few words carry most of the probability, as in a
    trained model. The end word is never chosen; with `with_early_ends`, after 6 to 14 words.

    Args:
        vocab_size: Number V of words.
        hidden_size: Size H of the state and E of the embeddings.
        device: Device of the weights.
        usual: Whether the step is written as most code is, instead of as captioner's decoder.
    """

    def __init__(
        self, vocab_size: int, hidden_size: int, device: torch.device, *, usual: bool = False
    ) -> None:
        generator = torch.Generator().manual_seed(0)

        def weight(rows: int, columns: int, spread: float) -> Tensor:
            values = torch.randn(rows, columns, generator=generator)
            return (values * spread / math.sqrt(columns)).to(device)

        self.hidden_size = hidden_size
        self.embedding = weight(vocab_size, hidden_size, math.sqrt(hidden_size))
        self.gates = weight(4 * hidden_size, 2 * hidden_size, 2.0)
        self.words = weight(vocab_size, hidden_size, 12.0)
        self.bias = torch.zeros(vocab_size, device=device)
        self.bias[END] = -1e9
        self.usual = usual or device.type != "cpu"
        of_input, self.of_state = (part.contiguous() for part in self.gates.chunk(2, dim=1))
        self.by_state, self.by_words = FewRows(self.of_state), FewRows(self.words, self.bias)
        self.of_word = WordProducts(self.embedding, partial(linear, weight=of_input))

    def start(self, images: int) -> tuple[Tensor, State]:
        """Return start ids (B,) and a state (h, c), (B, H) each, different for each image."""
        device = self.bias.device
        generator = torch.Generator().manual_seed(1)
        h = torch.randn(images, self.hidden_size, generator=generator).tanh().to(device)
        return torch.full((images,), START, device=device), (h, torch.zeros_like(h))

    def __call__(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the logits (M, V) of the next word and the new state."""
        h, c = state
        if self.usual:
            gates = F.linear(torch.cat([self.embedding[ids], h], dim=1), self.gates)
        else:
            gates = self.of_word(ids) + self.by_state.forward(h)
        i, f, o, g = gates.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        if self.usual:
            return F.linear(h, self.words, self.bias), (h, c)
        return self.by_words.forward(h), (h, c)

    def with_early_ends(self, images: int) -> tuple[Step, State]:
        """Return a step and a start state whose captions end after 6 to 14 words."""
        _, (h, c) = self.start(images)
        length = lengths(images).to(h)

        def step(ids: Tensor, state: State) -> tuple[Tensor, State]:
            *inner, left = state
            logits, inner_state = self(ids, tuple(inner))
            logits[:, END] = 40 - 12 * left  # the best words have logits of about 40
            return logits, (*inner_state, left - 1)

        return step, (h, c, length)


def lengths(images: int) -> Tensor:
    """Return how many words the caption of each image has (B,): 6 to 14."""
    generator = torch.Generator().manual_seed(2)
    return torch.randint(6, 15, (images,), generator=generator).float()


def beams_of_one_image(step: Step, state: State, width: int, max_length: int) -> list[int]:
    """Run beam search as it is usually written: one image, lists and `.item()`."""
    ids = torch.tensor([START])
    beams: list[tuple[list[int], float]] = [([], 0.0)]
    ended: list[tuple[list[int], float]] = []
    for _ in range(max_length):
        logits, state = step(ids, state)
        values, words = logits.log_softmax(dim=1).topk(width, dim=1)
        continuations = [
            (beams[row][1] + values[row, j].item(), row, int(words[row, j].item()))
            for row in range(len(beams))
            for j in range(width)
        ]
        continuations.sort(reverse=True)
        chosen = []
        for log_prob, row, word in continuations[:width]:
            if word == END:
                ended.append((beams[row][0], log_prob))
            else:
                chosen.append((log_prob, row, word))
        if not chosen:
            break
        beams = [([*beams[row][0], word], log_prob) for log_prob, row, word in chosen]
        ids = torch.tensor([word for _, _, word in chosen])
        rows = torch.tensor([row for _, row, _ in chosen])
        state = tuple(tensor[rows] for tensor in state)
    return max(ended or beams, key=lambda beam: beam[1])[0]


def products(
    step: LstmStep, images: int, width: int, max_length: int, *, own: bool = False
) -> Callable[[], object]:
    """Return a function that computes only the matrix products of one search.

    Args:
        step: The decoder.
        images: Images of the batch.
        width: Beam size.
        max_length: Steps.
        own: Whether weights are laid out as the search has them, instead of as they are stored.
    """
    device, hidden = step.bias.device, step.hidden_size
    xs = [torch.randn(rows, 2 * hidden, device=device) for rows in (images, images * width)]
    hs = [x[:, :hidden].contiguous() for x in xs]

    def multiply() -> None:
        for t in range(max_length):
            x, h = xs[min(t, 1)], hs[min(t, 1)]
            if step.usual:
                F.linear(x, step.gates)
                F.linear(h, step.words, step.bias)
            elif own:
                step.by_state.forward(h)
                step.by_words.forward(h)
            else:
                linear(h, step.of_state)
                linear(h, step.words, step.bias)

    if device.type != "cuda":
        return multiply
    multiply()  # the set-up of the first product must not be captured
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        multiply()
    return partial(replay, graph, [*xs, *hs])


def replay(graph: torch.cuda.CUDAGraph, _inputs: list[Tensor]) -> None:
    """Replay a CUDA graph; its inputs are passed to keep their memory alive."""
    graph.replay()


def best_seconds(
    runs: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Return the shortest time of each run; runs take turns, so that noise affects all equally."""
    cuda = torch.cuda.is_available()
    best = dict.fromkeys(runs, math.inf)
    for _ in range(rounds + 1):  # the first round warms up, but also counts if it is the best
        for name, run in runs.items():
            began = clock()
            run()
            if cuda:
                torch.cuda.synchronize()
            best[name] = min(best[name], clock() - began)
    return best


def parse_arguments(about: str | None) -> argparse.Namespace:
    """Parse the command line, and set torch's threads.

    Args:
        about: The docstring of the script, whose first line describes it.
    """
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--beam-size", type=int, default=5)
    parser.add_argument("--max-length", type=int, default=20)
    parser.add_argument("--vocab-size", type=int, default=9488)
    parser.add_argument("--hidden-size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--attention", action="store_true", help="print the second table only")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="measure CPU seconds of one thread, which other programs affect less",
    )
    add_json(parser)
    arguments = parser.parse_args()
    if arguments.cpu_time:
        arguments.threads = 1
    keep_freed_memory(os.environ)  # as the commands do
    torch.set_num_threads(arguments.threads)
    return arguments


def measure(arguments: argparse.Namespace) -> None:
    """Print both tables, or with `--attention` the second one, and write the JSON."""
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    width, max_length = arguments.beam_size, arguments.max_length
    device = torch.device(arguments.device)
    generate = generate_around(width, max_length, arguments.vocab_size, device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    print(
        f"beam {width}, {max_length} words, V {arguments.vocab_size}, H {arguments.hidden_size}, "
        f"float32, {device.type} {name}, {arguments.threads} threads, torch {torch.__version__}"
    )
    if generate is None:
        print("transformers is not installed: no columns for generate")
    rows = [] if arguments.attention else print_plain(arguments, generate, device, clock)
    from benchmark_attention_search import print_attention  # imports this module

    with torch.no_grad():
        rows += print_attention(arguments, generate, clock)
    if arguments.json:
        settings = {name: value for name, value in vars(arguments).items() if name != "json"}
        write_json(arguments.json, rows, settings)


def print_plain(
    arguments: argparse.Namespace,
    generate: Generate | None,
    device: torch.device,
    clock: Callable[[], float],
) -> list[dict[str, Any]]:
    """Print the table of the minimal decoder, and return its rows."""
    width, max_length = arguments.beam_size, arguments.max_length
    rows: list[dict[str, Any]] = []
    step = LstmStep(arguments.vocab_size, arguments.hidden_size, device)
    usual_step = LstmStep(arguments.vocab_size, arguments.hidden_size, device, usual=True)
    options = SearchOptions(beam_size=width, max_length=max_length)
    print(
        "      |      images per second                   |  x per "
        "| x generate, same words                 || early ends | x generate, same words"
    )
    print(
        "batch |  limit | captioner | of limit | of its own |  image "
        "| same step | at most |    usual |  same || images/s   | same step |    usual |  same"
    )
    for images in arguments.batch_sizes:
        runs: dict[str, Callable[[], object]] = {
            "limit": products(step, images, width, max_length),
            "products": products(step, images, width, max_length, own=True),
        }
        found: dict[str, list[list[int]]] = {}
        for early in (False, True):
            prefix = "early " if early else ""
            ids, state = step.start(images)
            own: Step = step
            usual: Step = usual_step
            if early:
                own, state = step.with_early_ends(images)
                usual, _ = usual_step.with_early_ends(images)

            search = RecordedSearch(own, END, options, record_after=0)

            def ours(
                ids: Tensor = ids, state: State = state, search: RecordedSearch = search
            ) -> list[list[int]]:
                return [captions[0] for captions in search(ids, state).captions()]

            def theirs(
                ids: Tensor = ids, state: State = state, step: Step = own
            ) -> list[list[int]]:
                assert generate is not None
                rows = generate(step, ids, state).tolist()
                return [row[: row.index(END)] if END in row else row for row in rows]

            def slow(state: State = state, step: Step = own) -> list[list[int]]:
                return [
                    beams_of_one_image(step, tuple(x[i : i + 1] for x in state), width, max_length)
                    for i in range(len(state[0]))
                ]

            runs[prefix + "captioner"] = kept(found, prefix + "captioner", ours)
            if generate is not None:
                runs[prefix + "generate"] = kept(found, prefix + "generate", theirs)
                runs[prefix + "usual"] = partial(theirs, step=usual)
            if not early:
                runs["per image"] = slow
        with torch.no_grad():
            seconds = best_seconds(runs, arguments.rounds, clock)
        rate = {key: images / value for key, value in seconds.items()}
        rows.append({"table": "search", "batch": images, **compared(rate, found)})
        print(
            f"{images:5} | {rate['limit']:6.1f} | {rate['captioner']:9.1f} | "
            f"{rate['captioner'] / rate['limit']:8.0%} | "
            f"{rate['captioner'] / rate['products']:10.0%} | "
            f"{rate['captioner'] / rate['per image']:6.1f} | "
            f"{times(rate, 'captioner', 'generate'):>9} | {times(rate, 'limit', 'generate'):>7} | "
            f"{times(rate, 'captioner', 'usual'):>8} | {same(found, ''):>5} || "
            f"{rate['early captioner']:10.1f} | "
            f"{times(rate, 'early captioner', 'early generate'):>9} | "
            f"{times(rate, 'early captioner', 'early usual'):>8} | {same(found, 'early '):>5}",
            flush=True,
        )
    return rows


def compared(rate: dict[str, float], found: dict[str, list[list[int]]]) -> dict[str, Any]:
    """Return a row of the JSON: images per second, ratios, and how many captions are equal."""
    row: dict[str, Any] = {
        f"{name.replace(' ', '_')}_images_per_second": value for name, value in rate.items()
    }
    row["share_of_limit"] = rate["captioner"] / rate["limit"]
    if "products" in rate:
        row["share_of_own_products"] = rate["captioner"] / rate["products"]
    for prefix in ("", "early "):
        for other in ("generate", "usual"):
            if prefix + other in rate:
                ratio = rate[f"{prefix}captioner"] / rate[prefix + other]
                row[f"{prefix}times_{other}".replace(" ", "_")] = ratio
        if f"{prefix}generate" in found:
            row[f"{prefix}same_captions".replace(" ", "_")] = same_share(found, prefix)
    return row


def kept(
    found: dict[str, list[list[int]]], name: str, run: Callable[[], list[list[int]]]
) -> Callable[[], None]:
    """Return a run that stores its captions under a name."""

    def keep() -> None:
        found[name] = run()

    return keep


def times(rate: dict[str, float], ours: str, other: str) -> str:
    """Return the speed-up over another candidate as text."""
    return f"{rate[ours] / rate[other]:.2f}" if other in rate else "-"


def same(found: dict[str, list[list[int]]], prefix: str) -> str:
    """Return the share of images for which generate found the same caption, as text."""
    return f"{same_share(found, prefix):.0%}" if f"{prefix}generate" in found else "-"


def same_share(found: dict[str, list[list[int]]], prefix: str) -> float:
    """Return the share of images for which generate found the same caption."""
    pairs = list(zip(found[f"{prefix}captioner"], found[f"{prefix}generate"], strict=True))
    return sum(a == b for a, b in pairs) / len(pairs)


if __name__ == "__main__":
    measure(parse_arguments(__doc__))
