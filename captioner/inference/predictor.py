"""Photos to captions with trained checkpoints: for the command line and for Python.

Example: ::

    from captioner.inference.predictor import Predictor

    predictor = Predictor.load("runs/coco/checkpoints/best.ckpt")
    for found in predictor.caption(["dog.jpg", "kite.jpg"]):
        print(found.path, found.caption or found.error)

Everything that the command line offers is an argument here (see `Strategy`): ::

    from captioner.decoding.options import Rerank, SampleOptions, SearchOptions
    from captioner.inference.phrases import Wording

    Predictor.load(path, beam_size=5, n_best=3, length_norm="average")
    Predictor.load(path, search=SampleOptions(samples=20, top_p=0.9), rerank=Rerank("consensus"))
    Predictor.load(path, wording=Wording(require=["red dog"], ban=["cat"], no_repeat_ngram=3))
    Predictor.load([path, other], average="log_probability")  # an ensemble
    Predictor.load(path, attention=True)  # `PhotoCaptions.attention`: where each word looked
    Predictor.load(path, preview=320)  # `PhotoCaptions.preview`: a small copy of the photo
    Predictor.load(path, backward=other)  # re-ranked by one that reads from right to left
    Predictor.load(path, regions="features/")  # of a detector, which it was trained on
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from captioner import checkpoint
from captioner.checkpoint.file import Checkpoint
from captioner.config.schema import DEFAULT_CHECKPOINT
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.options import SearchOptions
from captioner.device import choose_device
from captioner.errors import CaptionerError, UsageError
from captioner.inference.backward_rerank import agreed
from captioner.inference.compatibility import (
    check_agreement,
    check_directions,
    check_vocabularies,
)
from captioner.inference.encoding import Encoding
from captioner.inference.generator import CaptionGenerator, reranked
from captioner.inference.photo import Photo
from captioner.inference.reading import PhotoCaptioner, Reading, Seconds, caption_batch
from captioner.inference.result import AttentionMap, PhotoCaptions, attention_maps, candidates
from captioner.inference.sentences import sentence_log_probs
from captioner.inference.strategy import Strategy, check_beam
from captioner.photos.kinds import KINDS, as_source, is_one
from captioner.photos.kinds import Photo as OnePhoto
from captioner.photos.source import read_pixels
from captioner.photos.transform import Box, Transform


class Predictor(PhotoCaptioner):
    """Trained captioners on a device, with a strategy.

    Args:
        trained: what a checkpoint holds; several with one vocabulary are an ensemble, whose cells
            and encoders may differ. Photos are encoded once for each encoder that differs.
        device: where it runs.
        strategy: how captions are searched for and chosen; None searches as the configuration of
            the (first) checkpoint says.
        backward: a captioner that reads captions from the last word to the first, to re-rank what a
            beam search of the others found; see `captioner.inference.backward_rerank`.
        allow_url: whether photos may be addresses (``https://…``), which are then downloaded.
        regions: folder with the region features of the photos, for captioners that were trained on
            those of a detector; see `captioner.photos.regions`.

    Raises:
        UsageError: the vocabularies differ, a word of the wording is not in them, no checkpoint has
            the attention that is asked for, the strategy does not fit the checkpoints, or `regions`
            is missing or not needed.
    """

    def __init__(
        self,
        trained: Checkpoint | Sequence[Checkpoint],
        device: torch.device,
        strategy: Strategy | None = None,
        *,
        backward: Checkpoint | None = None,
        allow_url: bool = False,
        regions: str | Path | None = None,
    ) -> None:
        self.members = (trained,) if isinstance(trained, Checkpoint) else tuple(trained)
        self.backward = backward
        self.allow_url = allow_url
        every = self.members if backward is None else (*self.members, backward)
        check_vocabularies(every)
        self.trained = self.members[0]
        self.device = device
        self.strategy = strategy or Strategy(self.trained.search())
        search, wording = self.strategy.search, self.strategy.wording
        check_beam(search, len(self.trained.vocabulary))
        check_directions(self.members, wording)
        if backward is not None:
            check_agreement(self.members, backward, self.strategy)
        self.seconds = Seconds()
        for member in every:
            member.captioner.to(device)
            member.captioner.encoder.tf32 = self.strategy.tf32
        if backward is not None and isinstance(search, SearchOptions):
            search = replace(search, n_best=search.beam_size)  # all there is to choose from
        self._generate = CaptionGenerator(
            [member.captioner for member in self.members],
            search,
            average=self.strategy.average,
            constraints=wording.constraints(self.trained.vocabulary),
            required=wording.required(self.trained.vocabulary),
            attention=self.strategy.attention,
        )
        self._encoding = Encoding(every, device, None if regions is None else Path(regions))

    @classmethod
    def load(
        cls,
        path: str | Path | Sequence[str | Path] = DEFAULT_CHECKPOINT,
        *,
        device: str = "auto",
        backward: str | Path | None = None,
        regions: str | Path | None = None,
        strategy: Strategy | None = None,
        allow_url: bool = False,
        **options: Any,
    ) -> "Predictor":
        """Load a predictor from a checkpoint, or an ensemble from several.

        Args:
            path: a checkpoint file, a folder that `captioner export` wrote, or the name of a
                pretrained captioner (default: ``flickr8k``); or several.
            device: auto, cpu, cuda, cuda:1, mps.
            backward: a checkpoint that re-ranks what the others found.
            regions: folder with the photos' region features; see `Predictor`.
            strategy: how captions are searched for and chosen.
            allow_url: whether photos may be addresses (``https://…``), which are then downloaded.
            options: fields of `Strategy` (``search``, ``wording``, …) or of the checkpoint's own
                beam search (``beam_size``, ``n_best``, …) to replace, instead of a strategy.

        Raises:
            UsageError: there is no such file, device or option, the file is not a captioner's
                checkpoint, or the options do not fit; see `Predictor`.
            CaptionerError: a pretrained captioner lacks its encoder's package.
        """
        paths = [path] if isinstance(path, (str, Path)) else path
        trained = [checkpoint.load(Path(one)) for one in paths]
        if trained:
            strategy = Strategy.chosen(trained[0], strategy, options)
        return cls(
            trained,
            choose_device(device),
            strategy,
            backward=None if backward is None else checkpoint.load(Path(backward)),
            allow_url=allow_url,
            regions=regions,
        )

    def _reading(self, batch_size: int, workers: int) -> Reading:
        preview, encoding = self.strategy.preview, self._encoding
        return Reading(
            encoding.transforms, preview, batch_size, workers, self.allow_url, encoding.regions
        )

    def score(self, photo: OnePhoto, sentences: Sequence[str]) -> list[float]:
        """How probable the captioner finds sentences for a photo: for retrieval and re-ranking.

        Args:
            photo: of any kind that `caption` takes.
            sentences: the texts; a word that the vocabulary lacks counts as the unknown word.

        Returns:
            Natural logarithms of the probabilities, the end of the sentence included: of a caption
            that `caption` wrote, its `log_prob`. Longer sentences have lower ones.

        Raises:
            UsageError: not a photo, one text instead of several, or a sentence of more than 1,000
                words.
            CaptionerError: the photo cannot be read.
        """
        if isinstance(sentences, str):
            raise UsageError("score: expected a list of sentences, not one text")
        if not is_one(photo):
            raise UsageError(f"score: expected {KINDS}, not {type(photo).__name__}")
        source = as_source(photo, 0, allow_url=self.allow_url)
        found = read_pixels(source, self._encoding.transforms, None, self._encoding.regions)
        if isinstance(found, str):
            raise CaptionerError(f"{source.path}: {found}")
        features = self._encoded([Photo.of(found, source.path)])[: len(self.members)]
        captioners = [member.captioner for member in self.members]
        vocabulary = self.trained.vocabulary
        return sentence_log_probs(
            captioners, features, vocabulary, sentences, self.strategy.average
        )

    @property
    def transforms(self) -> Sequence[Transform]:
        """Each turns a photo into the input of one encoder."""
        return self._encoding.transforms

    def caption_batch(self, batch: Sequence[Photo]) -> Iterator[PhotoCaptions]:
        """Caption photos that have been read, by `transforms`, all at once and in order."""
        return caption_batch(batch, self._search)

    def _search(self, photos: Sequence[Photo]) -> list[PhotoCaptions]:
        """Caption photos that have been read."""
        began, encoded = perf_counter(), self.seconds.encoding
        found = self._hypotheses(photos)
        encoding = self.seconds.encoding - encoded
        self.seconds.searching += perf_counter() - began - encoding
        listed = candidates(found, self.trained.vocabulary)
        maps = self._maps(found, photos)
        return [
            PhotoCaptions(photo.path, own, attention=of_photo, preview=photo.preview)
            for photo, own, of_photo in zip(photos, listed, maps, strict=True)
        ]

    def _maps(self, found: Hypotheses, photos: Sequence[Photo]) -> Sequence[AttentionMap | None]:
        """Return the attention of each image, if the strategy wants it."""
        if found.attention is None:
            return [None] * len(photos)
        decoders = [member.captioner.decoder for member in self.members]
        sentinel = len(decoders) == 1 and decoders[0].kind == "adaptive"
        maps = zip(attention_maps(found, sentinel=sentinel), photos, strict=True)
        if any(member.reads_regions for member in self._attending()):
            pairs = ((one, photo.regions, photo.size) for one, photo in maps)
            return [None if own is None else one.of_regions(own, size) for one, own, size in pairs]
        return [replace(one, size=photo.size, box=self._box(*photo.size)) for one, photo in maps]

    def _attending(self) -> list[Checkpoint]:
        return [one for one in self.members if one.captioner.decoder.kind != "none"]

    def _box(self, width: int, height: int) -> Box | None:
        """Return the part of a photo that every attention map covers."""
        first, *others = {one.transform.box(width, height) for one in self._attending()}
        return None if others else first

    def _encoded(self, photos: Sequence[Photo]) -> list[Tensor]:
        """Features of photos for each member, and for the backward captioner."""
        began = perf_counter()
        features = self._encoding(photos)
        self.seconds.encoding += perf_counter() - began
        return features

    def _hypotheses(self, photos: Sequence[Photo]) -> Hypotheses:
        """Photos are encoded by each encoder, decoded by all, and the samples ranked."""
        given = self._encoded(photos)
        keys = torch.tensor([photo.key for photo in photos], device=self.device)
        found = self._generate(given[: len(self.members)], keys)
        search, rerank = self.strategy.search, self.strategy.rerank
        if self.backward is not None and isinstance(search, SearchOptions):
            other, share = self.backward.captioner, self.strategy.agreement
            return agreed(found, other, given[-1], share, search)
        return found if rerank is None else reranked(found, rerank)
