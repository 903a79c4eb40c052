"""`captioner words`: print nearest neighbours of words in the embeddings, or export them."""

from pathlib import Path

from captioner.commands.parser import CHECKPOINT_HELP, Parser, positive
from captioner.config.schema import DEFAULT_CHECKPOINT
from captioner.errors import UsageError
from captioner.files.atomic import check_folder


def run(arguments: list[str]) -> int:
    """Print the nearest neighbours of words, export the embeddings, or both."""
    options = build_parser().parse_args(arguments)
    if not options.nearest and options.export is None:
        raise UsageError("words: nothing to do; add --nearest WORD, --export F, or both")
    check_folder(options.export, "--export")

    from captioner import checkpoint
    from captioner.analysis import embeddings

    trained = checkpoint.load(Path(options.checkpoint))
    for word in options.nearest:
        neighbours = embeddings.nearest(trained, word, options.count)
        print(f"{word}: " + ", ".join(f"{near} {cosine:.2f}" for near, cosine in neighbours))
    if options.export is not None:
        embeddings.export(trained, Path(options.export))
    return 0


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(
        prog="captioner words",
        description="Print the words whose embeddings are nearest to a word's, or export them all.",
    )
    parser.add_argument(
        "--checkpoint",
        default=DEFAULT_CHECKPOINT,
        metavar="P",
        help=f"{CHECKPOINT_HELP}; default: {DEFAULT_CHECKPOINT}",
    )
    parser.add_argument(
        "--nearest", action="append", default=[], metavar="WORD", help="word; may be repeated"
    )
    parser.add_argument(
        "--count", type=positive, default=10, metavar="N", help="neighbours per word; default: 10"
    )
    parser.add_argument(
        "--export", metavar="F", help="write all embeddings to F in word2vec's text format"
    )
    return parser
