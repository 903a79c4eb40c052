"""How captions are searched for and chosen: one value for the predictor, the flags and the recipe.

To add an option of captioning, add a field here (or to the options of the search), its flag in
`captioner.commands.search_flags`, and its line in `Strategy.recipe`.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from captioner.decoding.options import AGREEMENT, Rerank, SampleOptions, SearchOptions
from captioner.errors import UsageError, suggestion
from captioner.evaluation.recipe import Recipe
from captioner.files.regular import open_regular
from captioner.inference.phrases import Wording

MOST_SCORES = 2**24
"""Most scores of one image's next words, hypotheses times vocabulary: a few times 64 MiB."""


class HasSearch(Protocol):
    """A checkpoint or exported folder, which has search options of its own."""

    def search(self, given: Collection[str] = ()) -> SearchOptions:
        """Return them; the options named in `given` are not checked."""


@dataclass(frozen=True)
class Strategy:
    """How captions are searched for and chosen, whatever the checkpoint.

    Attributes:
        search: Options of beam search, or of sampling.
        rerank: How samples are ranked and how many are kept; None keeps all, in the order drawn.
        wording: What captions must and must not say.
        average: What an ensemble averages: "probability" or "log_probability".
        agreement: Share, from 0 to 1, of a backward checkpoint in the ranking of a beam search; see
            `captioner.inference.backward_rerank`.
        tf32: Whether a GPU's convolutions may round to TF32. That is faster, and the captions of
            some photos then depend on the batch they are in.
        attention: Whether captions carry the attention weights of each word.
        preview: Longest side, in pixels, of a small copy of each photo that its captions carry;
            None for no copy.

    Raises:
        UsageError: Two options contradict each other.
    """

    search: SearchOptions | SampleOptions
    rerank: Rerank | None = None
    wording: Wording = field(default_factory=Wording)
    average: str = "probability"
    agreement: float = AGREEMENT
    tf32: bool = False
    attention: bool = False
    preview: int | None = None

    def __post_init__(self) -> None:
        if self.search.no_repeat_word:
            self.wording.check_no_repeat_word()
        if isinstance(self.search, SampleOptions):
            if self.wording.require:
                raise UsageError("require: samples cannot be made to say a phrase; use beam search")
            if self.rerank is not None and self.rerank.n_best > self.search.samples:
                raise UsageError(
                    f"n_best: {self.rerank.n_best} is more than the {self.search.samples} captions "
                    "drawn"
                )
        elif self.rerank is not None:
            raise UsageError("rerank: only samples are re-ranked; a beam search ranks by its score")

    @classmethod
    def of(cls, trained: HasSearch, options: Mapping[str, Any]) -> "Strategy":
        """Return the strategy of some options; a checkpoint's own search fills in the rest.

        Args:
            trained: The checkpoint.
            options: Fields of `Strategy`, or of `SearchOptions` (``beam_size``, ``n_best``, …).

        Raises:
            UsageError: An option is unknown, or contradicts another.
        """
        own = {one.name for one in fields(SearchOptions)}
        given = {name: value for name, value in options.items() if name in own}
        others = {name: value for name, value in options.items() if name not in own}
        known = [one.name for one in fields(cls)]
        for name in others:
            if name not in known:
                raise UsageError(f"unknown option {name}; {suggestion(name, [*known, *own])}")
        search = others.pop("search", None)
        if search is not None and given:
            raise UsageError(f"{next(iter(given))}: set it in search, or leave search out")
        wording = others.pop("wording", None) or Wording()
        if search is None:
            search = trained.search(given).replaced(**given)
        return cls(search, wording=wording, **others)

    @classmethod
    def chosen(
        cls, trained: HasSearch, strategy: "Strategy | None", options: Mapping[str, Any]
    ) -> "Strategy":
        """Return the given strategy, or that of the options; see `of`.

        Raises:
            UsageError: There are both, or the options do not fit.
        """
        if strategy is not None and options:
            raise UsageError(f"{next(iter(options))}: set it in strategy, or leave strategy out")
        return strategy or cls.of(trained, options)

    def recipe(self, checkpoints: Sequence[Path], backward: Path | None = None) -> Recipe:
        """Return all that decides about the captions, for a report; what is off is left out.

        Args:
            checkpoints: The checkpoints that write together.
            backward: The checkpoint that re-ranks what they found.
        """
        search, wording = self.search, self.wording
        recipe = self._drawn(search) if isinstance(search, SampleOptions) else _searched(search)
        recipe |= {
            "length_norm": search.length_norm,
            "length_alpha": search.length_alpha if search.length_norm == "gnmt" else None,
            "word_reward": search.word_reward or None,
            "min_length": search.min_length or None,
            "max_length": search.max_length,
            "require": ", ".join(wording.require) or None,
            "ban": ", ".join(wording.ban) or None,
            "ban_ending": ", ".join(wording.ban_ending) or None,
            "no_repeat_ngram": wording.no_repeat_ngram or None,
            "no_repeat_word": "yes" if search.no_repeat_word else None,
            "backward": None if backward is None else _named(backward),
            "agreement": None if backward is None else self.agreement,
            "tf32": "yes" if self.tf32 else None,
            "ensemble": self.average if len(checkpoints) > 1 else None,
            "checkpoint": ", ".join(map(_named, checkpoints)),
        }
        return {name: value for name, value in recipe.items() if value is not None}

    def _drawn(self, search: SampleOptions) -> dict[str, Any]:
        return {
            "sample": search.samples,
            "seed": search.seed,
            "temperature": search.temperature,
            "top_k": search.top_k or None,
            "top_p": search.top_p if search.top_p < 1 else None,
            "rerank": self.rerank.by if self.rerank else "none, the first drawn",
        }


def _searched(search: SearchOptions) -> dict[str, Any]:
    diverse = search.groups > 1
    return {
        "beam_size": search.beam_size,
        "groups": search.groups if diverse else None,
        "diversity": search.diversity if diverse else None,
    }


def _named(checkpoint: Path) -> str:
    return f"{checkpoint.name}@{digest(checkpoint)}"


def digest(path: Path) -> str:
    """Return eight hexadecimal digits of a checkpoint's bytes; of an export, of all its files."""
    from captioner.checkpoint.file import files_of  # here, because it imports torch

    digest = hashlib.blake2b()
    for name in files_of(path):
        with open_regular(name) as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()[:8]


def check_beam(search: SearchOptions | SampleOptions, words: int) -> None:
    """Refuse a beam that is too wide for the vocabulary.

    Raises:
        UsageError: hypotheses times words exceed `MOST_SCORES`.
    """
    most = MOST_SCORES // words
    if isinstance(search, SearchOptions) and search.beam_size > most:
        raise UsageError(
            f"beam_size: {search.beam_size} is too wide for a vocabulary of {words} words, at most "
            f"{most}; captions hardly change beyond 10"
        )
