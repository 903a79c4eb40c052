"""`captioner push`: publish a captioner on the Hugging Face hub."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from captioner.commands.parser import CHECKPOINT_HELP, Parser
from captioner.errors import UsageError
from captioner.files.json_file import MAX_SMALL_BYTES, read_json


def run(arguments: list[str]) -> int:
    """Upload an export of a checkpoint with a model card, and print its name."""
    options = build_parser().parse_args(arguments)
    scores = None if options.scores is None else _scores(Path(options.scores))

    from captioner import checkpoint
    from captioner.checkpoint.hub import HubName, push
    from captioner.checkpoint.model_card import model_card

    with TemporaryDirectory() as parent:
        folder = Path(parent) / "export"
        contents = checkpoint.export(Path(options.checkpoint), folder, shared=True)
        card = model_card(str(HubName(options.name, options.revision)), contents, scores)
        name = push(folder, card, options.name, private=options.private, revision=options.revision)
    print(name)
    return 0


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(
        prog="captioner push",
        description="Publish a captioner on the Hugging Face hub: weights.safetensors, "
        "captioner.json without the folders of this machine, and a model card. Prints the name by "
        "which it is loaded. Needs captioner[hub] and a login (`hf auth login`).",
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help=CHECKPOINT_HELP,
    )
    parser.add_argument("name", metavar="USER/NAME", help="the repository, made if necessary")
    parser.add_argument("--private", action="store_true", help="a new repository is private")
    parser.add_argument("--revision", metavar="BRANCH", help="default: main")
    parser.add_argument(
        "--scores", metavar="F", help="scores for the model card, from evaluate --output F"
    )
    return parser


def _scores(path: Path) -> dict[str, Any]:
    found = read_json(path, MAX_SMALL_BYTES)
    found = found if isinstance(found, dict) else {}
    scores, recipe = found.get("scores"), found.get("recipe", {})
    if (
        not isinstance(scores, dict)
        or not isinstance(recipe, dict)
        or not all(isinstance(value, float | int) for value in scores.values())
    ):
        raise UsageError(f"--scores: {path} is not a file of `captioner evaluate --output`")
    return {"scores": scores, "recipe": recipe}
