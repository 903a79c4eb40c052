"""A report: a folder with one page about the captions of one or more models, opened from disk.

`index.html` holds tables and charts, as HTML that needs no script, and the gallery's script.
`data.js` holds the captions, `thumbnails/` the photos, `attention/` the weights of words, and
`report.json` the scores and tests for programs. Nothing is loaded from a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from captioner.console import warn
from captioner.files.atomic import write_whole
from captioner.files.whole_folder import check_replaceable, whole_folder
from captioner.pages.page import render
from captioner.pages.report_analysis import FLAGS, Analysis, Material, analyse
from captioner.pages.report_data import Size, gallery_data, write_attention, write_data
from captioner.pages.report_photos import write_thumbnails
from captioner.pages.report_summary import summary
from captioner.tables import json_text

CONTENTS = ("report.json", "index.html", "data.js", "thumbnails", "attention")
"""What is in the folder. `report.json` marks it as a report, which may be replaced."""

MOST_MODELS = 8
"""Number of models; the palette has eight distinct colours."""


def check_output(folder: Path) -> None:
    """Check, before the work, that a report may be written to a folder.

    Raises:
        UsageError: It is a file, or a folder with anything but a report in it.
    """
    check_replaceable(folder, CONTENTS, "--output")


def write_report(
    folder: Path,
    material: Material,
    *,
    metrics: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Analysis:
    """Analyse models and write their report. It appears whole, or not at all.

    Args:
        folder: The folder; an older report in it is replaced.
        material: The models and their images.
        metrics: Names of the metrics. Default: all that `captioner evaluate` reports.
        resamples: Number of resamples of intervals and tests.
        seed: Seed of the resampling.

    Raises:
        UsageError: The folder holds something else.
        CaptionerError: Images and captions do not match, or the folder cannot be written.
    """
    check_output(folder)
    analysis = analyse(material, metrics=metrics, resamples=resamples, seed=seed)
    values = summary(material, analysis)
    with whole_folder(folder) as draft:
        (draft / "thumbnails").mkdir()
        photos = [material.photos.get(image) for image in analysis.images]
        sizes = list(write_thumbnails(photos, draft / "thumbnails"))
        _warn_of_missing(sizes, bool(material.photos))
        write_data(draft, gallery_data(material, analysis, sizes))
        if any(model.attention for model in material.models):
            (draft / "attention").mkdir()
            write_attention(draft / "attention", material, analysis)
        page = render(
            "report.html",
            styles=("page.css", "report.css"),
            scripts=("report_query.js", "report_list.js", "report_photo.js", "report.js"),
            folder=True,
            **values,
        )
        write_whole(draft / "index.html", page)
        write_whole(draft / "report.json", json_text(_content(analysis)) + "\n")
    return analysis


def _content(analysis: Analysis) -> dict[str, object]:
    """Return the scores, tests and faults for programs."""
    faults = [
        {flag: sum(flag in found for found in flags) for flag in FLAGS} for flags in analysis.flags
    ]
    return {
        "format": "captioner report",
        "version": 1,
        "faults": faults,
    } | analysis.comparison.content()


def _warn_of_missing(sizes: Sequence[Size], expected: bool) -> None:
    unreadable = [size for size in sizes if isinstance(size, str)]
    missing = sum(size is None for size in sizes)
    if unreadable:
        warn(f"{len(unreadable)} of {len(sizes)} photos cannot be read: {unreadable[0]}")
    if missing and expected:
        warn(f"{missing} of {len(sizes)} images have no photo in --images")
