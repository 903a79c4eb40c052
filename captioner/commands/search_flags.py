"""The flags that say how captions are searched for: stated once, for `caption` and `evaluate`.

A flag that is not given is None, and what it would say is left to the checkpoint's configuration.
Contradictions among flags are found before anything heavy is imported.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import fields, replace
from typing import Any

from captioner.commands.parser import not_negative, positive
from captioner.decoding.options import (
    AGREEMENT,
    AVERAGES,
    LENGTH_NORMS,
    RERANK_BY,
    Rerank,
    SampleOptions,
    SearchOptions,
)
from captioner.errors import UsageError

SEARCH_ONLY = ("beam_size", "groups", "diversity", "require", "backward", "agreement")
"""Names of the flags that say nothing about samples."""

SAMPLE_ONLY = ("temperature", "top_k", "top_p", "rerank")
"""Names of the flags that say something about samples alone."""


def add_search_arguments(parser: ArgumentParser) -> list[str]:
    """Adds the flags, in groups of their own.

    Returns:
        Names, in the parsed arguments, of the flags that decide about captions. --seed is not among
        them: `evaluate` resamples with it too.
    """
    groups = (
        parser.add_argument_group("search", "What is not given is as the checkpoint says."),
        parser.add_argument_group("samples", "Captions drawn at random instead of searched for."),
        parser.add_argument_group(
            "wording",
            "PHRASE is a word or several; each of its flags may be given again and again.",
        ),
        parser.add_argument_group("ensemble"),
    )
    search, samples, wording, ensemble = (group.add_argument for group in groups)
    actions = [
        search("--beam-size", type=positive, metavar="K", help="hypotheses kept; 1 is greedy"),
        search("--max-length", type=positive, metavar="T", help="words at most"),
        search("--min-length", type=not_negative, metavar="N", help="words at least"),
        search("--length-norm", choices=LENGTH_NORMS, help="what ranks captions of all lengths"),
        search(
            "--length-alpha",
            type=float,
            metavar="A",
            help=f"exponent of gnmt; default: {SearchOptions.length_alpha}",
        ),
        search("--word-reward", type=float, metavar="R", help="added for each word, in nats"),
        search("--n-best", type=positive, metavar="N", help="captions a photo, best first (jsonl)"),
        search("--groups", type=positive, metavar="G", help="groups of a diverse beam search"),
        search(
            "--diversity",
            type=float,
            metavar="D",
            help="what a word loses for each earlier group that said it, in nats; default: "
            f"{SearchOptions.diversity}",
        ),
        samples("--sample", type=positive, metavar="N", help="captions drawn a photo (jsonl)"),
        samples("--temperature", type=float, metavar="X", help="below 1 bolder, above 1 wilder"),
        samples("--top-k", type=positive, metavar="K", help="draw from the K most probable words"),
        samples("--top-p", type=float, metavar="P", help="draw from the fewest words that hold P"),
        samples(
            "--rerank",
            choices=RERANK_BY,
            help="rank the samples by log-probability, or by what they have in common",
        ),
        wording("--require", action="append", metavar="PHRASE", help="every caption says it"),
        wording("--ban", action="append", metavar="PHRASE", help="no caption says it"),
        wording("--ban-ending", action="append", metavar="PHRASE", help="no caption ends with it"),
        wording("--no-repeat-ngram", type=positive, metavar="N", help="no N words in order twice"),
        wording(
            "--no-repeat-word",
            action="store_true",
            default=None,
            help="no word directly after itself",
        ),
        ensemble(
            "--backward",
            metavar="P",
            help="checkpoint trained with decoder.direction backward, which re-ranks what the beam "
            "search found",
        ),
        ensemble(
            "--agreement",
            type=float,
            metavar="W",
            help=f"its share in the ranking, 0 to 1; default: {AGREEMENT}",
        ),
        ensemble(
            "--ensemble",
            choices=AVERAGES,
            help="what is averaged over several --checkpoint, which must share one vocabulary; "
            "default: probability",
        ),
    ]
    samples(
        "--seed", type=not_negative, default=0, metavar="S", help="of all that is drawn; default: 0"
    )
    return [action.dest for action in actions]


def check_search_arguments(options: Namespace, checkpoints: int) -> None:
    """Refuse flags that contradict one another.

    Args:
        options: the parsed arguments.
        checkpoints: how often --checkpoint was given.

    Raises:
        UsageError: the first contradiction.
    """
    sampling = options.sample is not None
    for name in SEARCH_ONLY if sampling else SAMPLE_ONLY:
        if getattr(options, name) is None:
            continue
        if sampling:
            raise UsageError(f"{flag(name)} is for a beam search; leave it or --sample out")
        raise UsageError(f"{flag(name)} is for samples; add --sample N or leave it out")
    if sampling and options.n_best is not None:
        if options.rerank is None:
            choices = "|".join(RERANK_BY)
            raise UsageError(f"--n-best needs an order among the samples; add --rerank {choices}")
        if options.n_best > options.sample:
            raise UsageError(
                f"--n-best {options.n_best} is more than the {options.sample} captions of --sample"
            )
    if options.diversity is not None and (options.groups or 1) == 1:
        raise UsageError("--diversity is between the groups of a search; add --groups G")
    if options.agreement is not None and options.backward is None:
        raise UsageError("--agreement is with a second direction; add --backward P")
    if options.ensemble is not None and checkpoints < 2:
        raise UsageError("--ensemble averages several; give --checkpoint more than once")


def captions_a_photo(options: Namespace) -> int:
    """How many captions each photo gets."""
    if options.sample is not None and options.rerank is None:
        return int(options.sample)
    return options.n_best or 1


def chosen_search(options: Namespace, default: SearchOptions) -> SearchOptions | SampleOptions:
    """The way of searching or of drawing that the flags ask for.

    Args:
        options: the parsed arguments.
        default: what holds for a flag that is not given.

    Raises:
        UsageError: a value is out of its range, or does not fit the others.
    """
    if options.sample is not None:
        common = SampleOptions(
            samples=options.sample,
            max_length=default.max_length,
            min_length=default.min_length,
            length_norm=default.length_norm,
            length_alpha=default.length_alpha,
            word_reward=default.word_reward,
        )
        chosen: SearchOptions | SampleOptions = replace(
            common, **given_fields(SampleOptions, options)
        )
    else:
        chosen = default.replaced(**given_fields(SearchOptions, options))
    if options.length_alpha is not None and chosen.length_norm != "gnmt":
        raise UsageError("--length-alpha is of the gnmt penalty; add --length-norm gnmt")
    return chosen


def given_search(options: Namespace) -> set[str]:
    """Names of the search options that flags replace; drawing (`--sample`) has no beam."""
    drawn = {"beam_size"} if options.sample is not None else set()
    return drawn | set(given_fields(SearchOptions, options))


def chosen_rerank(options: Namespace) -> Rerank | None:
    """How samples are ranked, if that was asked for."""
    return None if options.rerank is None else Rerank(options.rerank, options.n_best or 1)


def chosen_wording(options: Namespace) -> dict[str, Any]:
    """The arguments of `captioner.inference.phrases.Wording` that were given."""
    names = ("require", "ban", "ban_ending", "no_repeat_ngram", "no_repeat_word")
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def given_fields(cls: type[Any], options: Namespace) -> dict[str, Any]:
    """The fields of a dataclass for which a flag of the same name was given."""
    names = [field.name for field in fields(cls)]
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}


def flag(name: str) -> str:
    """The flag of a name in the parsed arguments."""
    return f"--{name.replace('_', '-')}"
