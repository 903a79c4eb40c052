"""`captioner score`: log-probabilities of given sentences for photos."""

import sys
from pathlib import Path

from captioner.commands.input_flags import add_url_argument, check_urls
from captioner.commands.parser import CHECKPOINT_HELP, Parser
from captioner.commands.predictor_flags import add_regions_flag
from captioner.config.schema import DEFAULT_CHECKPOINT
from captioner.console import warn
from captioner.errors import CaptionerError, UsageError
from captioner.files.regular import read_regular

MAX_BYTES = 2**26
"""Maximum size of a file of sentences in bytes."""


def run(arguments: list[str]) -> int:
    """Print the log-probability of each sentence for each photo, one line each."""
    options = build_parser().parse_args(arguments)
    check_urls(options.photos, allowed=options.allow_url)
    sentences = _sentences(options.captions)

    from captioner.display import one_line
    from captioner.inference.predictor import Predictor
    from captioner.text.vocabulary import UNKNOWN

    predictor = Predictor.load(
        options.checkpoint or [DEFAULT_CHECKPOINT],
        device=options.device,
        allow_url=options.allow_url,
        regions=options.regions,
    )
    vocabulary = predictor.trained.vocabulary
    unknown = sum(word == UNKNOWN for text in sentences for word in vocabulary.encode(text))
    if unknown:
        warn(f"--captions: {unknown:,} words are not in the vocabulary; they count as unknown")
    failed = 0
    for photo in options.photos:
        try:
            scores = predictor.score(photo, sentences)
        except UsageError:
            raise
        except CaptionerError as error:
            warn(str(error))
            failed += 1
            continue
        for score, sentence in zip(scores, sentences, strict=True):
            print(f"{one_line(photo)}\t{score:.4f}\t{one_line(sentence)}")
    return 1 if failed else 0


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(
        prog="captioner score",
        description="Write the log-probability of each sentence for each photo, in the order "
        "given: photo, natural logarithm, sentence, separated by tabs. Logarithms include the end "
        "of the sentence, so longer sentences have lower ones.",
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO")
    add_url_argument(parser)
    parser.add_argument(
        "--captions",
        required=True,
        metavar="F",
        help="sentences, one per line; - reads them from standard input",
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        metavar="P",
        help=f"{CHECKPOINT_HELP}; repeat it for an ensemble; default: {DEFAULT_CHECKPOINT}",
    )
    add_regions_flag(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    return parser


def _sentences(name: str) -> list[str]:
    try:
        data = (
            sys.stdin.buffer.read(MAX_BYTES) if name == "-" else read_regular(Path(name), MAX_BYTES)
        )
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"--captions: {name} is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"--captions: {name}: {error.strerror}") from error
    sentences = [line for line in lines if line.strip()]
    if not sentences:
        raise UsageError(f"--captions: {name} holds no sentence")
    return sentences
