"""Benchmark beam search of a decoder with attention; `benchmark_decoding.py` prints this table too.

    python scripts/benchmark_attention_search.py --cpu-time

An LSTM with random weights attends to 196 regions. Keys and values are precomputed. Columns:

- limit: only the matrix products of the search: state, query, scores, context and vocabulary.
- captioner: the project's search, and its share of the limit.
- generate: Hugging Face `generate` around the same step, which shares the regions of an image among
  its beams too; and the share of images for which both find the same caption.
- usual: `generate` around a step of the same weights as it is usually written: one `F.linear` for
  the gates, and keys and values repeated for each beam. Only for `spatial`.
- early ends: images per second of captioner where captions end after 6 to 14 words, as real ones
  do. The columns after it compare that search.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from benchmark_decoding import (
    best_seconds,
    compared,
    kept,
    lengths,
    measure,
    parse_arguments,
    replay,
    same,
    times,
)
from generate_search import END, START, Generate, State, Step
from torch import Tensor

from captioner.decoding.cuda_graphs import RecordedSearch
from captioner.decoding.options import SearchOptions
from captioner.model.attention import Kind, Regions
from captioner.model.cells import LSTM
from captioner.model.decoder import Decoder
from captioner.model.decoder_settings import AttentionSettings, RecurrenceSettings, WordSettings
from captioner.model.kernels.linear import linear

REGIONS = 196
KINDS: tuple[Kind, ...] = ("spatial", "adaptive")


def print_attention(
    arguments: argparse.Namespace, generate: Generate | None, clock: Callable[[], float]
) -> list[dict[str, Any]]:
    """Print the table of attention, and return its rows."""
    print(
        f"\nattention over {REGIONS} regions\n"
        "kind     | batch |  limit | captioner | of limit | x generate | same words | x usual "
        "|| early ends | x generate | same words | x usual"
    )
    rows = []
    for kind in KINDS:
        decoder = decoder_of(kind, arguments)
        for images in arguments.batch_sizes:
            row = print_row(kind, decoder, images, arguments, generate, clock)
            rows.append({"table": "attention", "attention": kind, "batch": images, **row})
    return rows


def decoder_of(kind: Kind, arguments: argparse.Namespace) -> Decoder:
    """Return a decoder with random weights, in which a few words carry most of the probability."""
    hidden = arguments.hidden_size
    torch.manual_seed(0)
    decoder = Decoder(
        arguments.vocab_size,
        hidden,
        RecurrenceSettings(LSTM, hidden),
        words=WordSettings(hidden),
        attention=AttentionSettings(kind, hidden),
    )
    decoder.eval().requires_grad_(False).to(arguments.device)
    decoder.projection.weight *= 12.0
    decoder.projection.bias[END] = -1e9
    return decoder


def print_row(
    kind: Kind,
    decoder: Decoder,
    images: int,
    arguments: argparse.Namespace,
    generate: Generate | None,
    clock: Callable[[], float],
) -> dict[str, Any]:
    """Print the row of a batch size, and return what the JSON says of it."""
    device = torch.device(arguments.device)
    options = SearchOptions(beam_size=arguments.beam_size, max_length=arguments.max_length)
    features = torch.randn(images, REGIONS, arguments.hidden_size, device=device)
    state, regions = decoder.begin(features)
    assert regions is not None
    ids = torch.full((images,), START, device=device)
    own_step = decoder.search_step()
    found: dict[str, list[list[int]]] = {}
    length = lengths(images).to(device)

    def flat_step(words: Tensor, cells: State) -> tuple[Tensor, State]:
        logits, new = own_step(words, (cells,), regions)
        return logits, new[0]  # without the attention weights, which generate does not return

    runs: dict[str, Callable[[], object]] = {
        "limit": attention_products(decoder, regions, arguments)
    }
    for prefix in ("", "early "):
        early = bool(prefix)
        search = RecordedSearch(
            ending_early(own_step) if early else own_step, END, options, record_after=0
        )
        start: Any = (state, length) if early else state

        def ours(search: RecordedSearch = search, start: Any = start) -> list[list[int]]:
            return [captions[0] for captions in search(ids, start, regions).captions()]

        runs[prefix + "captioner"] = kept(found, prefix + "captioner", ours)
        if generate is None:
            continue
        flat = flat_ending_early(flat_step) if early else flat_step
        begin = (*state[0], length) if early else state[0]

        def theirs(step: Step = flat, begin: State = begin) -> list[list[int]]:
            assert generate is not None
            rows = generate(step, ids, begin).tolist()
            return [row[: row.index(END)] if END in row else row for row in rows]

        runs[prefix + "generate"] = kept(found, prefix + "generate", theirs)
        if kind == "spatial":
            usual = usual_step(decoder, regions, arguments.beam_size)
            runs[prefix + "usual"] = partial(
                theirs, flat_ending_early(usual) if early else usual, begin
            )
    seconds = best_seconds(runs, arguments.rounds, clock)
    rate = {name: images / value for name, value in seconds.items()}
    print(
        f"{kind:8} | {images:5} | {rate['limit']:6.1f} | {rate['captioner']:9.1f} | "
        f"{rate['captioner'] / rate['limit']:8.0%} | {times(rate, 'captioner', 'generate'):>10} | "
        f"{same(found, ''):>10} | {times(rate, 'captioner', 'usual'):>7} || "
        f"{rate['early captioner']:10.1f} | "
        f"{times(rate, 'early captioner', 'early generate'):>10} | {same(found, 'early '):>10} | "
        f"{times(rate, 'early captioner', 'early usual'):>7}",
        flush=True,
    )
    return compared(rate, found)


def end_when_due(logits: Tensor, left: Tensor) -> None:
    """Make the end the best word of rows with no word left (M,), and unlikely before."""
    logits[:, END] = logits.amax(1) + 6 - 12 * left


def ending_early(step: Callable[..., tuple[Tensor, Any]]) -> Callable[..., tuple[Tensor, Any]]:
    """Return a step whose state also counts the words left, (M,)."""

    def counting(ids: Tensor, state: Any, regions: Regions) -> tuple[Tensor, Any]:
        inner, left = state
        logits, inner = step(ids, inner, regions)
        end_when_due(logits, left)
        return logits, (inner, left - 1)

    return counting


def flat_ending_early(step: Step) -> Step:
    """Return the same for a step of `generate`, whose state is one tuple of tensors."""

    def counting(ids: Tensor, state: State) -> tuple[Tensor, State]:
        *cells, left = state
        logits, new = step(ids, tuple(cells))
        end_when_due(logits, left)
        return logits, (*new, left - 1)

    return counting


def usual_step(decoder: Decoder, regions: Regions, width: int) -> Step:
    """Return a step of a decoder with spatial attention, as it is usually written."""
    cell, attention = decoder.cells[0], decoder.attention
    weights = [cell.get_parameter(f"recurrence.weight_{name}_l0") for name in ("ih", "hh")]
    biases = [cell.get_parameter(f"recurrence.bias_{name}_l0") for name in ("ih", "hh")]
    gates, bias = torch.cat(tuple(weights), 1), biases[0] + biases[1]
    keys = regions.keys.repeat_interleave(width, 0)
    values = regions.values.repeat_interleave(width, 0)

    def step(words: Tensor, cells: State) -> tuple[Tensor, State]:
        h, c = cells
        x = decoder.embedding.weight[words]
        i, f, g, o = F.linear(torch.cat((x, h), 1), gates, bias).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        query = F.linear(h, attention.query.weight, attention.query.bias)
        scores = torch.bmm(keys, query.unsqueeze(2)).squeeze(2) * attention.scale
        context = torch.bmm(scores.softmax(1).unsqueeze(1), values).squeeze(1)
        projection = decoder.projection
        return F.linear(h + context, projection.weight, projection.bias), (h, c)

    return step


def attention_products(
    decoder: Decoder, regions: Regions, arguments: argparse.Namespace
) -> Callable[[], object]:
    """Return a function that computes only the matrix products of one search with attention."""
    images, width = len(regions.keys), arguments.beam_size
    device = regions.keys.device
    hs = [
        torch.randn(rows, arguments.hidden_size, device=device) for rows in (images, images * width)
    ]
    of_state = decoder.cells[0].get_parameter("recurrence.weight_hh_l0").contiguous()
    keys = regions.keys.transpose(1, 2)

    def multiply() -> None:
        for t in range(arguments.max_length):
            h = hs[min(t, 1)]
            linear(h, of_state)
            query = decoder.attention.query(h).view(images, -1, keys.shape[1])
            torch.bmm(torch.bmm(query, keys), regions.values)
            decoder.projection(h)

    if device.type != "cuda":
        return multiply
    multiply()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        multiply()
    return partial(replay, graph, hs)


if __name__ == "__main__":
    options = parse_arguments(__doc__)
    options.attention = True
    measure(options)
