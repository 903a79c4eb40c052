"""Flags that control how captions are searched for, shared by `caption` and `evaluate`.

A flag that is not given is None; the checkpoint's configuration then decides. Contradictory flags
are refused before anything heavy is imported.
"""

from argparse import Action, ArgumentParser, Namespace
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
"""Names of the flags that do not apply to samples."""

SAMPLE_ONLY = ("temperature", "top_k", "top_p", "rerank")
"""Names of the flags that apply only to samples."""


def add_search_arguments(parser: ArgumentParser) -> list[str]:
    """Add the flags in their groups.

    Returns:
        The names, in the parsed arguments, of the flags that affect captions. --seed is not among
        them, because `evaluate` also resamples with it.
    """
    groups = (
        parser.add_argument_group("search", "Defaults are the settings of the checkpoint."),
        parser.add_argument_group("samples", "Draw captions at random instead of beam search."),
    )
    search, samples = (group.add_argument for group in groups)
    actions = [
        search("--beam-size", type=positive, metavar="K", help="hypotheses per photo; 1 is greedy"),
        search("--max-length", type=positive, metavar="T", help="maximum number of words"),
        search("--min-length", type=not_negative, metavar="N", help="minimum number of words"),
        search("--length-norm", choices=LENGTH_NORMS, help="length normalisation of the score"),
        search(
            "--length-alpha",
            type=float,
            metavar="A",
            help=f"exponent of gnmt; default: {SearchOptions.length_alpha}",
        ),
        search("--word-reward", type=float, metavar="R", help="score added per word, in nats"),
        search(
            "--n-best", type=positive, metavar="N", help="captions per photo, best first (jsonl)"
        ),
        search("--groups", type=positive, metavar="G", help="groups of diverse beam search"),
        search(
            "--diversity",
            type=float,
            metavar="D",
            help="penalty of a word per use in earlier groups, in nats; default: "
            f"{SearchOptions.diversity}",
        ),
        samples("--sample", type=positive, metavar="N", help="captions to draw per photo (jsonl)"),
        samples("--temperature", type=float, metavar="X", help="higher is more random"),
        samples("--top-k", type=positive, metavar="K", help="draw from the K most probable words"),
        samples("--top-p", type=float, metavar="P", help="draw from the fewest words that hold P"),
        samples(
            "--rerank",
            choices=RERANK_BY,
            help="rank samples by log-probability (score) or by mutual similarity (consensus)",
        ),
        *_wording_arguments(parser),
        *_ensemble_arguments(parser),
    ]
    samples("--seed", type=not_negative, default=0, metavar="S", help="random seed; default: 0")
    return [action.dest for action in actions]


def _wording_arguments(parser: ArgumentParser) -> list[Action]:
    """Add the flags about what captions say."""
    group = parser.add_argument_group(
        "wording",
        "PHRASE is one or more words; --require, --ban and --ban-ending may be repeated.",
    )
    wording, repeated = group.add_argument, group.add_mutually_exclusive_group().add_argument
    return [
        wording("--require", action="append", metavar="PHRASE", help="every caption contains it"),
        wording("--ban", action="append", metavar="PHRASE", help="no caption contains it"),
        wording("--ban-ending", action="append", metavar="PHRASE", help="no caption ends with it"),
        wording("--no-repeat-ngram", type=positive, metavar="N", help="no N-gram occurs twice"),
        repeated(
            "--no-repeat-word",
            action="store_true",
            default=None,
            help="no word occurs twice in a row; default: as the checkpoint's settings say",
        ),
        repeated(
            "--repeat-word",
            action="store_false",
            default=None,
            dest="no_repeat_word",
            help="a word may occur twice in a row, even if those settings forbid it",
        ),
    ]


def _ensemble_arguments(parser: ArgumentParser) -> list[Action]:
    """Add the flags about several checkpoints."""
    ensemble = parser.add_argument_group("ensemble").add_argument
    return [
        ensemble(
            "--backward",
            metavar="P",
            help="checkpoint trained with decoder.direction backward, which re-ranks the captions "
            "of the beam search",
        ),
        ensemble(
            "--agreement",
            type=float,
            metavar="W",
            help=f"weight of --backward in the ranking, 0 to 1; default: {AGREEMENT}",
        ),
        ensemble(
            "--ensemble",
            choices=AVERAGES,
            help="average of several --checkpoint, which must have the same vocabulary; "
            "default: probability",
        ),
    ]


def check_search_arguments(options: Namespace, checkpoints: int) -> None:
    """Refuse contradictory flags.

    Args:
        options: The parsed arguments.
        checkpoints: Number of checkpoints given.

    Raises:
        UsageError: The message names the first contradiction.
    """
    sampling = options.sample is not None
    for name in SEARCH_ONLY if sampling else SAMPLE_ONLY:
        if getattr(options, name) is None:
            continue
        if sampling:
            raise UsageError(f"{flag(name)} applies to beam search; remove it or --sample")
        raise UsageError(f"{flag(name)} applies to samples; add --sample N or remove it")
    if sampling and options.n_best is not None:
        if options.rerank is None:
            choices = "|".join(RERANK_BY)
            raise UsageError(f"--n-best: samples have no order; add --rerank {choices}")
        if options.n_best > options.sample:
            raise UsageError(
                f"--n-best {options.n_best}: at most the {options.sample} captions of --sample"
            )
    if options.diversity is not None and (options.groups or 1) == 1:
        raise UsageError("--diversity requires groups; add --groups G")
    if options.agreement is not None and options.backward is None:
        raise UsageError("--agreement requires a backward checkpoint; add --backward P")
    if options.ensemble is not None and checkpoints < 2:
        raise UsageError("--ensemble requires several checkpoints; repeat --checkpoint")


def captions_a_photo(options: Namespace) -> int:
    """Return the number of captions per photo."""
    if options.sample is not None and options.rerank is None:
        return int(options.sample)
    return options.n_best or 1


def chosen_search(options: Namespace, default: SearchOptions) -> SearchOptions | SampleOptions:
    """Return the search or sampling options that the flags select.

    Args:
        options: The parsed arguments.
        default: Values for flags that are not given.

    Raises:
        UsageError: A value is out of range or conflicts with another one.
    """
    if options.sample is not None:
        if options.max_length is not None:
            default = default.replaced(max_length=options.max_length)
        common = SampleOptions(
            samples=options.sample,
            max_length=default.max_length,
            min_length=default.min_length,
            length_norm=default.length_norm,
            length_alpha=default.length_alpha,
            word_reward=default.word_reward,
            no_repeat_word=default.no_repeat_word,
        )
        chosen: SearchOptions | SampleOptions = replace(
            common, **given_fields(SampleOptions, options)
        )
    else:
        chosen = default.replaced(**given_fields(SearchOptions, options))
    if options.length_alpha is not None and chosen.length_norm != "gnmt":
        raise UsageError("--length-alpha requires --length-norm gnmt")
    return chosen


def given_search(options: Namespace) -> set[str]:
    """Return the names of the search options that flags replace; `--sample` has no beam."""
    drawn = {"beam_size"} if options.sample is not None else set()
    return drawn | set(given_fields(SearchOptions, options))


def chosen_rerank(options: Namespace) -> Rerank | None:
    """Return how samples are ranked; None if they are not."""
    return None if options.rerank is None else Rerank(options.rerank, options.n_best or 1)


def chosen_wording(options: Namespace) -> dict[str, Any]:
    """Return the given arguments of `captioner.inference.phrases.Wording`."""
    names = ("require", "ban", "ban_ending", "no_repeat_ngram")
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def given_fields(cls: type[Any], options: Namespace) -> dict[str, Any]:
    """Return the fields of a dataclass for which the flag of the same name was given."""
    names = [field.name for field in fields(cls)]
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}


def flag(name: str) -> str:
    """Return the flag for a name in the parsed arguments."""
    return f"--{name.replace('_', '-')}"
