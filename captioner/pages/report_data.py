"""The data of a report's gallery, as scripts: a page opened from disk may load nothing else.

`data.js` holds captions, references and numbers of all images, in columns by model. The attention
of a hundred images at a time is in a script of its own, which the page loads when it is needed. No
key of an object comes from a caption or a name, so that `__proto__` is harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captioner.display import json_line, one_line
from captioner.files.atomic import write_whole
from captioner.pages.report_analysis import FLAGS, Analysis, Material, Model, main_score

ATTENTION_IMAGES = 100
"""Images whose attention is in one script."""

Size = tuple[int, int] | str | None
"""Width and height of a thumbnail, or why there is none."""


def gallery_data(material: Material, analysis: Analysis, sizes: Sequence[Size]) -> dict[str, Any]:
    """Return what the gallery shows, as plain values.

    Args:
        material: The models and their images.
        analysis: Their numbers.
        sizes: Size of each image's thumbnail.
    """
    objects = sorted(frozenset().union(*analysis.objects))
    place = {name: at for at, name in enumerate(objects)}
    images = [
        [
            one_line(material.names.get(image, str(image))),
            list(size) if isinstance(size, tuple) else 0,
            [one_line(text) for text in material.references[image]],
            sorted(place[name] for name in analysis.objects[at]),
            one_line(size) if isinstance(size, str) else 0,
        ]
        for at, (image, size) in enumerate(zip(analysis.images, sizes, strict=True))
    ]
    return {
        "main": main_score(analysis.scores[0]),
        "flags": list(FLAGS),
        "objects": objects,
        "images": images,
        "attention_images": ATTENTION_IMAGES,
        "models": [_of_model(model, analysis, at) for at, model in enumerate(material.models)],
    }


def write_data(folder: Path, data: dict[str, Any]) -> None:
    """Write `data.js`."""
    write_whole(folder / "data.js", f"const REPORT = {json_line(data)};\n")


def write_attention(folder: Path, material: Material, analysis: Analysis) -> None:
    """Write the attention of all models as `000.js`, `001.js` and so on."""
    for chunk, begin in enumerate(range(0, len(analysis.images), ATTENTION_IMAGES)):
        rows = [
            [
                found.record() if (found := model.attention.get(image)) else 0
                for model in material.models
            ]
            for image in analysis.images[begin : begin + ATTENTION_IMAGES]
        ]
        call = f"attentionArrived({chunk}, {json_line(rows)});\n"
        write_whole(folder / f"{chunk:03}.js", call)


def _of_model(model: Model, analysis: Analysis, at: int) -> dict[str, Any]:
    images = analysis.images
    scores = [
        [name, [_number(100 * value) for value in values.tolist()]]
        for name, values in analysis.scores[at].per_image.items()
    ]
    bits = {name: 1 << place for place, name in enumerate(FLAGS)}
    probabilities: Any = 0
    if model.log_probs:
        probabilities = [[_number(p, 2) for p in model.log_probs.get(one, ())] for one in images]
    return {
        "name": one_line(model.name),
        "captions": [[one_line(text) for text in model.system.candidates[one]] for one in images],
        "scores": scores,
        "lengths": [len(tokens) for tokens in analysis.words[at]],
        "flags": [sum(bits[name] for name in found) for found in analysis.flags[at]],
        "log_probs": probabilities,
        "attention": bool(model.attention),
    }


def _number(value: float, digits: int = 1) -> float | None:
    return round(value, digits) if np.isfinite(value) else None
