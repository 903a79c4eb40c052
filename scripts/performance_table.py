"""Turn the JSON of benchmarks into the table of a processor in docs/performance.md.

    python scripts/benchmark_training.py --peer /tmp/peer --json docs/benchmarks/intel/training.json
    python scripts/performance_table.py docs/benchmarks/intel               # print the table
    python scripts/performance_table.py docs/benchmarks/* --into docs/performance.md

The page holds each table between two comments, `<!-- benchmarks: intel -->` and
`<!-- end of benchmarks -->`, with the name of the folder.
"""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """A row of the table.

    Attributes:
        what: Text of the first column.
        peer: Text of the second column: what it is compared with.
        table: Table of the benchmark's rows; None if it has one only.
        label: Key of a row that names its value.
        column: Key of the value.
    """

    what: str
    peer: str
    table: str | None
    label: str
    column: str


TRAINING = "decoder training, words per second"
SEARCH = "beam search, images per second at batch"
EARLY = "the same, early ends"
LOOKING = "beam search with attention"
SAME, USUAL = "`generate`, same step", "`generate`, usual step"
FIGURES: dict[str, tuple[Figure, ...]] = {
    "benchmark_training.py": (
        Figure(TRAINING, "", "decoder", "cell", "words_per_second"),
        Figure(TRAINING, "the machine's fastest products", "decoder", "cell", "share_of_limit"),
        Figure(TRAINING, "a per-step decoder", "decoder", "cell", "times_per_step"),
        Figure(TRAINING, "ruotianluo's NewFC", "decoder", "cell", "times_newfc"),
        Figure(TRAINING, "torch.nn.LSTM and a projection", "cells", "cell", "times_nn_lstm"),
        Figure(TRAINING, "torch.nn.GRU and a projection", "cells", "cell", "times_nn_gru"),
        Figure(TRAINING, "its floor", "cells", "cell", "share_of_floor"),
        Figure("attention training", "att2in2", "attention", "attention", "times_att2in2"),
        Figure("attention training", "up-down", "attention", "attention", "times_updown"),
        Figure(
            "reward of a step on the score", "the step", "score", "objective", "share_of_reward"
        ),
    ),
    "benchmark_decoding.py": (
        Figure(SEARCH, "", "search", "batch", "captioner_images_per_second"),
        Figure(SEARCH, "products, weights as stored", "search", "batch", "share_of_limit"),
        Figure(SEARCH, "its own products", "search", "batch", "share_of_own_products"),
        Figure(SEARCH, SAME, "search", "batch", "times_generate"),
        Figure(SEARCH, USUAL, "search", "batch", "times_usual"),
        Figure(EARLY, SAME, "search", "batch", "early_times_generate"),
        Figure(EARLY, USUAL, "search", "batch", "early_times_usual"),
        Figure(LOOKING, "products, weights as stored", "attention", "attention", "share_of_limit"),
        Figure(LOOKING, SAME, "attention", "attention", "times_generate"),
        Figure(LOOKING, USUAL, "attention", "attention", "times_usual"),
        Figure(EARLY, SAME, "attention", "attention", "early_times_generate"),
        Figure(EARLY, USUAL, "attention", "attention", "early_times_usual"),
    ),
    "benchmark_encoder.py": (
        Figure("encoder, folded, images per second", "", None, "network", "images_per_second"),
        Figure("the same", "the machine's best product", None, "network", "share_of_limit"),
    ),
    "benchmark_evaluation.py": (Figure("scores", "pycocoevalcap", None, "what", "times"),),
}
"""Figures of each benchmark, in the order of the table."""


def table_of(folder: Path) -> list[str]:
    """Return the lines of a processor's table, from the JSON files of its folder.

    Args:
        folder: Contains files that benchmarks wrote with `--json`.
    """
    reports = [json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))]
    lines = [
        f"{report_head(reports[0])}.",
        "",
        "| what | compared with | figure |",
        "|---|---|---|",
    ]
    sources = []
    for report in reports:
        script = Path(report["command"].split()[1]).name
        for figure in FIGURES.get(script, ()):
            values = values_of(figure, report["rows"])
            if values:
                lines.append(f"| {figure.what} | {figure.peer} | {values} |")
        sources.append(f"- {report['date']}: `{command_of(report['command'])}`")
    return [*lines, "", *sources]


def report_head(report: Mapping[str, Any]) -> str:
    """Return the processor, cores and versions that a report names."""
    versions = report["versions"]
    named = ", ".join(
        f"{name} {versions[name]}" for name in ("torch", "python") if name in versions
    )
    where = report.get("gpu") or f"{report['processor']}, {report['cores']} cores"
    return f"{where}; captioner {versions['captioner']}, {named}"


def values_of(figure: Figure, rows: list[dict[str, Any]]) -> str:
    """Return the values of a figure, each with the label of its row; empty if there is none."""
    chosen = [
        row
        for row in rows
        if figure.table in (None, row.get("table"))
        and row.get(figure.column) is not None
        and row.get("form", "ours") == "ours"
    ]
    return "; ".join(f"{label_of(figure, row)} {text_of(figure, row)}" for row in chosen)


def label_of(figure: Figure, row: Mapping[str, Any]) -> str:
    """Return the name of a row, with its batch where it has one."""
    label = str(row[figure.label])
    has_batch = "batch" in row and figure.label != "batch"
    return f"{label} (batch {row['batch']})" if has_batch else f"{label}:"


def text_of(figure: Figure, row: Mapping[str, Any]) -> str:
    """Return a value: rates with few digits, ratios with two, shares in percent."""
    value = row[figure.column]
    if "share" in figure.column:
        return f"{value:.0%}" if value >= 0.05 else f"{value:.1%}"
    if figure.column.endswith("per_second"):
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return f"{value:.2f}"


def command_of(command: str) -> str:
    """Return a command without the folders of the machine that ran it."""
    words = [Path(word).name if word.startswith("/") else word for word in command.split()]
    return " ".join(words)


def main() -> None:
    """Print the tables, or write them into a page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="one per processor")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="write the tables into this page")
    options = parser.parse_args()
    page = options.into.read_text("utf-8") if options.into else ""
    for folder in options.folders:
        table = "\n".join(table_of(folder))
        if options.into is None:
            print(table)
            continue
        place = rf"(<!-- benchmarks: {folder.name} -->\n).*?(<!-- end of benchmarks -->)"
        if not re.search(place, page, re.DOTALL):
            parser.error(f"{options.into}: no `<!-- benchmarks: {folder.name} -->`")
        page = re.sub(place, lambda found: f"{found[1]}{table}\n{found[2]}", page, flags=re.DOTALL)  # noqa: B023
    if options.into is not None:
        options.into.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
