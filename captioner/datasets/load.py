"""Read a data set of any format into records."""

from difflib import get_close_matches
from pathlib import Path

from captioner.datasets import coco, csv_file, flickr8k, jsonl, karpathy, shapes, sidecar
from captioner.datasets.caption_table import parse_columns
from captioner.datasets.detect import detect_format
from captioner.datasets.division import divide, parse_shares
from captioner.datasets.records import Loaded, Problem
from captioner.errors import CaptionerError, UsageError, shown

FORMATS = ("shapes", "coco", "karpathy", "flickr8k", "jsonl", "csv", "sidecar")
DIVISIBLE = ("flickr8k", "jsonl", "csv", "sidecar")
"""Formats whose photos may have no split."""

ON_PROBLEM = ("refuse", "skip")

# Number of problems quoted in an error message.
_TOLD = 3


def load_records(
    *,
    format: str,
    root: Path,
    images: Path | None = None,
    annotations: Path | None = None,
    train_annotations: Path | None = None,
    val_annotations: Path | None = None,
    test_annotations: Path | None = None,
    columns: str | None = None,
    split: str | None = None,
    split_seed: int = 0,
    on_problem: str = "refuse",
) -> Loaded:
    """Read a data set.

    Args:
        format: One of `FORMATS`, or `auto` to detect it. `shapes` is rendered to `root` if it is
            not there yet.
        root: Folder of the data set, with the layout described in data/README.md.
        images: Folder of the photos. Default: the usual one. Relative paths, here and below, are
            relative to `root`.
        annotations: Annotation file of karpathy, flickr8k, jsonl or csv.
        train_annotations: Training captions of coco.
        val_annotations: Validation captions of coco.
        test_annotations: Test captions of coco.
        columns: Custom headings or keys, such as `image=photo, caption=title`.
        split: Shares of train, val and test for photos without a split, such as `80/10/10`.
        split_seed: Seed of the division.
        on_problem: `refuse` a data set with problems, or `skip` invalid entries and return them in
            `problems`.

    Returns:
        The records of all splits. A split may be empty.

    Raises:
        UsageError: An argument is invalid, or a file or folder does not exist.
        CaptionerError: A file cannot be read, no usable photo is left, or there are problems and
            `on_problem` is `refuse`.
    """
    _check_choice("data.format", format, (*FORMATS, "auto"))
    _check_choice("data.on_problem", on_problem, ON_PROBLEM)
    root = root.expanduser()
    by_split = {
        "train": _under(root, train_annotations),
        "val": _under(root, val_annotations),
        "test": _under(root, test_annotations),
    }
    file, folder = _under(root, annotations), _under(root, images)
    named, shares = parse_columns(columns), parse_shares(split) if split else None
    if format == "auto":
        format = detect_format(root, images=images, annotations=annotations, columns=columns)
    if format != "coco" and any(by_split.values()):
        raise UsageError(
            f"data.*_annotations require format coco, not {format}; use data.annotations"
        )
    if named and format not in ("flickr8k", "jsonl", "csv"):
        raise UsageError(f"data.columns requires format csv, flickr8k or jsonl, not {format}")
    if shares and format not in DIVISIBLE:
        raise UsageError(
            f"data.split requires format {', '.join(DIVISIBLE)}; {format} has its own splits"
        )
    if format in ("coco", "shapes", "sidecar") and file:
        raise UsageError(
            f"data.annotations is not available for format {format}"
            + ("; use data.train_annotations and so on" if format == "coco" else "")
        )
    if format == "shapes" and not shapes.is_finished(root):
        shapes.render(root)
    if not root.is_dir():
        raise UsageError(f"data.root: no folder {root}")
    loaded = _read(format, root, folder, file, by_split, named, later=shares is not None)
    if shares is not None:
        loaded = divide(loaded, shares, split_seed)
    if loaded.problems and on_problem == "refuse":
        raise CaptionerError(f"{_told(loaded.problems)}; correct them or set data.on_problem=skip")
    if not loaded.records:
        left = f": {_told(loaded.problems)}" if loaded.problems else ""
        raise CaptionerError(f"{root} has no usable photo with captions{left}")
    return loaded


def _read(
    format: str,
    root: Path,
    folder: Path | None,
    file: Path | None,
    by_split: dict[str, Path | None],
    named: dict[str, str],
    *,
    later: bool,
) -> Loaded:
    """Read a source by its format; with `later`, photos may have no split."""
    match format:
        case "coco" | "shapes":
            return coco.load(root, images=folder, annotations=by_split)
        case "karpathy":
            return karpathy.load(root, images=folder, annotations=file)
        case "sidecar":
            return sidecar.load(root, images=folder, divided_later=later)
        case _:
            read = {"flickr8k": flickr8k.load, "jsonl": jsonl.load, "csv": csv_file.load}[format]
            return read(root, images=folder, annotations=file, columns=named, divided_later=later)


def _check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value in choices:
        return
    near = get_close_matches(value, choices, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise UsageError(f"{key}: unknown {shown(value)}{hint}; choose from {', '.join(choices)}")


def _under(root: Path, path: Path | None) -> Path | None:
    return None if path is None else root / path.expanduser()


def _told(problems: list[Problem]) -> str:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    more = f"; and {len(problems) - _TOLD} more" if len(problems) > _TOLD else ""
    return f"{count}: {'; '.join(map(str, problems[:_TOLD]))}{more}"
