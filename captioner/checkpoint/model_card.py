"""What is published with a captioner: a configuration without local paths, and a model card."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from captioner.config.schema import Config
from captioner.config.settings import from_dict


def shareable(settings: Mapping[str, Any]) -> Config:
    """Return a checkpoint's configuration without the folders and devices of its training machine.

    Args:
        settings: The configuration as plain values. Missing sections take their defaults.
    """
    usual = asdict(Config())
    same = ("seed", "vocabulary", "decoder", "encoder", "objective", "score", "optimization")
    kept = {key: settings[key] for key in (*same, "search") if key in settings}
    data = {key: settings["data"][key] for key in ("format", "batch_size")}
    given = settings.get("trainer", {})
    trainer = {key: given[key] for key in ("max_epochs", "gradient_clip_val") if key in given}
    plain = usual | kept
    for section, name in (("encoder", "weights"), ("decoder", "vectors")):
        path = plain[section].get(name)
        if path is not None:
            plain[section] = plain[section] | {name: Path(path).name or path}
    plain |= {"data": usual["data"] | data, "trainer": usual["trainer"] | trainer}
    return from_dict(Config, plain)


def model_card(name: str, contents: Mapping[str, Any], scores: Mapping[str, Any] | None) -> str:
    """Return a model card in Markdown with the header that the hub reads.

    Args:
        name: Name by which the captioner is loaded.
        contents: The `captioner` entry of its checkpoint.
        scores: Contents of a file of `captioner evaluate --output`, if known.
    """
    config = contents["config"]
    decoder, encoder, stated = config["decoder"], config["encoder"], contents.get("card", {})
    attention = decoder.get("attention", "none")
    cell = decoder["cell"].upper()
    parts = [
        _header(["captioner", "image-captioning", decoder["cell"]]),
        f"# {name.removeprefix('hf://')}",
        stated.get("task", "One sentence per photo.")
        + " Made with captioner, a library of image captioning with recurrent networks.",
        "```python\nfrom captioner import Predictor\n\n"
        f'predictor = Predictor.load("{name}")\nprint(predictor.caption("photo.jpg").caption)\n```',
        f"    pip install 'captioner[hub]'\n    captioner caption photo.jpg --checkpoint {name}",
        "## Network",
        _table(
            {
                "encoder": f"{encoder['name']}, {encoder.get('features', 'pooled')} features, "
                f"{contents['transform']['size']} pixels",
                "decoder": f"{cell}, {decoder['hidden_size']} units, attention {attention}",
                "vocabulary": f"{len(contents['vocabulary']):,} words",
            }
        ),
        "## Training",
        _table(_training(config, stated)),
        *_scores(scores, stated),
    ]
    for title in ("intended use", "not for", "known failures"):
        if title in stated:
            parts += [f"## {title.capitalize()}", f"{stated[title]}"]
    parts += [
        "## Files",
        "`weights.safetensors` holds the weights, `captioner.json` everything else: configuration, "
        "vocabulary, preprocessing and the encoder as a list of operations. Neither runs code.",
    ]
    return "\n\n".join(parts) + "\n"


def _header(tags: list[str]) -> str:
    listed = "".join(f"\n- {json.dumps(tag)}" for tag in tags)
    return f"---\nlibrary_name: captioner\npipeline_tag: image-to-text\ntags:{listed}\n---"


def _training(config: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, object]:
    known = {
        key: stated[key]
        for key in ("data", "licence of the data", "licence of the encoder", "recipe")
        if key in stated
    }
    data = {"data": f"format {config['data']['format']}"} | known
    data["seed"] = config.get("seed")
    data["epochs"] = config.get("trainer", {}).get("max_epochs")
    optimization = config.get("optimization", {})
    data["optimiser"] = f"{optimization.get('optimizer')}, rate {optimization.get('learning_rate')}"
    return data


def _scores(scores: Mapping[str, Any] | None, stated: Mapping[str, Any]) -> list[str]:
    if scores is not None:
        recipe = ", ".join(f"{key} {value}" for key, value in scores.get("recipe", {}).items())
        numbers = {key: f"{value:.4f}" for key, value in scores["scores"].items()}
        return ["## Scores", _table(numbers), f"Recipe: {recipe}"]
    known = stated.get("scores")
    if not known:
        return ["## Scores", "Not known."]
    rows = known["scores x 100, with 95 % intervals"]
    numbers = {key: f"{value} ({low} to {high})" for key, (value, low, high) in rows.items()}
    return [
        "## Scores",
        f"x 100, with 95 % intervals. {known['split']}; {known['search']}.",
        _table(numbers),
    ]


def _table(rows: Mapping[str, object]) -> str:
    lines = [f"| {_cell(key)} | {_cell(value)} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
