"""Make a pretrained captioner of the package from a checkpoint.

    python scripts/make_pretrained.py best.ckpt --quality 80 --min-length 4 --no-repeat-word

The script writes `captioner.json` and `decoder.safetensors` below captioner/checkpoint/models. It
captions the development split with them and writes the scores to the model card, in the file and in
docs/models.md. Without `--data` the card has no scores. The decoder is stored as int8 with one
scale per row. The encoder must be frozen, and its weights must come as a Python package.
"""

import argparse
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save

from captioner import __version__
from captioner.build import build_encoder
from captioner.checkpoint.encoder_description import describe
from captioner.checkpoint.file import FORMAT_VERSION
from captioner.checkpoint.model_card import shareable
from captioner.checkpoint.pretrained import PRETRAINED, Pretrained, quantised
from captioner.config.schema import DataConfig
from captioner.errors import CaptionerError, UsageError
from captioner.evaluation.report import Report, report_on
from captioner.files.atomic import write_whole
from captioner.files.tensors import read_tensors
from captioner.inference.predictor import Predictor
from captioner.inference.split import caption_split

DOCUMENT = Path(__file__).parent.parent / "docs" / "models.md"

DECODER = "captioner.decoder."

CARD = {
    "task": "One English sentence per photo.",
    "data": "Flickr8k (Hodosh, Young, Hockenmaier 2013): 6,000 training photos, five captions each",
    "licence of the data": "research and education only, as the authors of Flickr8k ask; cite them",
    "licence of the encoder": "Apache-2.0 (EfficientNet-Lite2, trained on ImageNet)",
    "recipe": "EfficientNet-Lite2 at 352 x 352 pixels, squashed, frozen; GRU of 512 units with "
    "spatial attention; cross-entropy, then self-critical training on CIDEr-D",
    "intended use": "teaching, research, a starting point for training on own photos",
    "not for": "descriptions that people rely on, such as alternative text without review; "
    "identifying people or judging what they are",
    "known failures": "names common objects for unknown ones (a skateboarder is performing a trick "
    "on a skateboard, of two workers on a scaffold), guesses colours and counts, repeats an object "
    "(two horses pull a horses), reads no text; more in docs/models.md",
}


def main() -> int:
    """Make one model; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkpoint", help="a checkpoint, or a file with only its decoder")
    parser.add_argument("--name", choices=list(PRETRAINED), default="flickr8k")
    parser.add_argument("--beam-size", type=int, help="default: the checkpoint's")
    parser.add_argument("--word-reward", type=float, help="default: the checkpoint's")
    parser.add_argument("--min-length", type=int, help="default: the checkpoint's")
    parser.add_argument("--no-repeat-word", action="store_true", default=None)
    parser.add_argument(
        "--quality", type=int, help="JPEG quality of the training photos, if all were reduced"
    )
    parser.add_argument("--data", metavar="ROOT", help="Flickr8k, to score the development split")
    options = parser.parse_args()
    model = PRETRAINED[options.name]
    try:
        search = {
            "beam_size": options.beam_size,
            "word_reward": options.word_reward,
            "min_length": options.min_length,
            "no_repeat_word": options.no_repeat_word,
        }
        given = {name: value for name, value in search.items() if value is not None}
        contents = write_model(Path(options.checkpoint), model, given, options.quality)
        if options.data is not None:
            add_scores(model, contents, options.data)
    except CaptionerError as error:
        print(f"make_pretrained: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    print("".join(f"{path}: {path.stat().st_size:,} bytes\n" for path in model.files), end="")
    return 0


def write_model(
    path: Path, model: Pretrained, search: dict[str, Any], quality: int | None
) -> dict[str, Any]:
    """Write the files of a model.

    Args:
        path: A checkpoint, or a file that holds `captioner` and the tensors of `decoder`.
        model: Model to write.
        search: Settings that replace the checkpoint's.
        quality: JPEG quality that photos are compressed with first; see
            `captioner.photos.transform.Transform`.

    Returns:
        The contents of `captioner.json`.

    Raises:
        UsageError: The checkpoint has another encoder, or a fine-tuned one.
    """
    raw = read_tensors(path)
    ours = raw["captioner"]
    settings = ours["config"]
    config = shareable(
        settings
        | {
            "search": settings["search"] | search,
            "encoder": settings["encoder"] | {"weights": "DEFAULT"},
        }
    )
    if config.encoder.name != model.encoder or config.encoder.train_from is not None:
        raise UsageError(f"{path}: {model.name} needs a frozen encoder {model.encoder}")
    encoder, _ = build_encoder(config.encoder)
    contents = {
        "format_version": FORMAT_VERSION,
        "program_version": __version__,
        "card": CARD,
        "config": asdict(config),
        "vocabulary": ours["vocabulary"],
        "transform": ours["transform"] | ({} if quality is None else {"quality": quality}),
        # Batch norm not folded: the names and tensors are those of the package.
        "encoder": ours["encoder"] | {"network": describe(encoder.trunk)},
        "data": ours["data"],
    }
    weights = {
        name.removeprefix("captioner."): tensor
        for name, tensor in (raw.get("decoder") or raw["state_dict"]).items()
        if name.startswith(DECODER)
    }
    described, decoder = model.files
    decoder.parent.mkdir(parents=True, exist_ok=True)
    write_whole(decoder, save(quantised(weights)))
    write_contents(described, contents)
    return contents


def add_scores(model: Pretrained, contents: dict[str, Any], root: str) -> None:
    """Score a model on the development split and write the scores into its card."""
    predictor = Predictor.load(model.name)
    data = DataConfig(format="flickr8k", root=root)
    captioned, unreadable = caption_split(predictor, data, "val", 32)
    if unreadable:
        raise CaptionerError(f"{root}: {len(unreadable)} photos cannot be read")
    report = report_on(captioned, resamples=1000)
    search = predictor.trained.config.search
    scores = {
        "split": "Flickr8k development, 1,000 photos",
        "search": f"beam {search.beam_size}, word reward {search.word_reward:g}",
        "scores x 100, with 95 % intervals": rows(report),
    }
    contents["card"] = contents["card"] | {"scores": scores}
    write_contents(model.files[0], contents)
    lines = ["| Score | Value | 95 % interval |", "|---|---|---|"]
    lines += [
        f"| {name} | {value} | {low} to {high} |"
        for name, (value, low, high) in rows(report).items()
    ]
    table = "\n".join([f"{scores['split']}, {scores['search']}:", "", *lines])
    marks = f"<!-- scores of {model.name} -->", f"<!-- end of scores of {model.name} -->"
    text = DOCUMENT.read_text(encoding="utf-8")
    pattern = re.compile(f"{marks[0]}.*{marks[1]}", re.DOTALL)
    write_whole(DOCUMENT, pattern.sub(f"{marks[0]}\n{table}\n{marks[1]}", text))
    print(table)


def rows(report: Report) -> dict[str, tuple[float, float, float]]:
    """Return the value, low and high of each score, times 100."""
    return {
        name: (
            round(100 * float(value), 1),
            round(100 * report.intervals[name].low, 1),
            round(100 * report.intervals[name].high, 1),
        )
        for name, value in report.scores.corpus.items()
    }


def write_contents(path: Path, contents: dict[str, Any]) -> None:
    """Write `captioner.json`."""
    write_whole(path, json.dumps(contents, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
