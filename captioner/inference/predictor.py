"""Photos to captions with trained checkpoints: for the command line and for Python.

Example: ::

    from captioner.inference.predictor import Predictor

    predictor = Predictor.load("runs/coco/checkpoints/best.ckpt")
    for found in predictor.caption(["dog.jpg", "kite.jpg"]):
        print(found.path, found.caption or found.error)

Everything that the command line offers is an argument here: ::

    from captioner.decoding.options import AGREEMENT, Rerank, SampleOptions, SearchOptions
    from captioner.inference.phrases import Wording

    Predictor.load(path, search=SearchOptions(beam_size=5, n_best=3, length_norm="average"))
    Predictor.load(path, search=SampleOptions(samples=20, top_p=0.9), rerank=Rerank("consensus"))
    Predictor.load(path, wording=Wording(require=["red dog"], ban=["cat"], no_repeat_ngram=3))
    Predictor.load([path, other], average="log_probability")  # an ensemble
    Predictor.load(path, attention=True)  # `PhotoCaptions.attention`: where each word looked
    Predictor.load(path, backward=other)  # re-ranked by one that reads from right to left
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import overload

import numpy as np
import torch
from torch import Tensor

from captioner import checkpoint
from captioner.checkpoint.file import Checkpoint
from captioner.config.schema import DEFAULT_CHECKPOINT
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.options import AGREEMENT, Rerank, SampleOptions, SearchOptions
from captioner.device import choose_device
from captioner.errors import CaptionerError, UsageError
from captioner.inference.backward_rerank import agreed
from captioner.inference.compatibility import (
    check_agreement,
    check_directions,
    check_vocabularies,
    distinct,
    encoder_key,
)
from captioner.inference.generator import CaptionGenerator, check_beam, reranked
from captioner.inference.phrases import Wording
from captioner.inference.result import AttentionMap, PhotoCaptions, attention_maps, candidates
from captioner.photos.kinds import KINDS, as_source, is_one
from captioner.photos.kinds import Photo as OnePhoto
from captioner.photos.readers import READ_AHEAD, Held, readers
from captioner.photos.source import PhotoSource, read_pixels


@dataclass(frozen=True)
class Photo:
    """A photo on its way to a caption.

    Attributes:
        path: the file.
        key: a number of its own, from which samples are seeded.
        pixels: (3, S, S) uint8, once for each transform, or the reason why it could not be read.
    """

    path: Path
    key: int
    pixels: tuple[Tensor, ...] | str


@dataclass
class Seconds:
    """What a predictor has spent on photos so far, in seconds of the clock.

    Attributes:
        encoding: in the encoders (a GPU works on after it was asked, and is waited for in the
            search).
        searching: in the decoders and the search.
    """

    encoding: float = 0.0
    searching: float = 0.0


class Predictor:
    """Trained captioners on a device, with a way of searching.

    Args:
        trained: what a checkpoint holds; several with one vocabulary are an ensemble, whose cells
            and encoders may differ. Photos are encoded once for each encoder that differs.
        device: where it runs.
        search: how captions are searched for or drawn; None: as the (first) checkpoint's
            configuration says.
        rerank: how samples are ranked and how many are kept; None: all, in the order drawn.
        wording: what captions must and must not say.
        average: how the members of an ensemble agree: "probability" or "log_probability".
        backward: a captioner that goes through captions from the last word to the first, to re-rank
            what a beam search of the others found; see `captioner.inference.backward_rerank`.
        agreement: its share in that ranking, from 0 to 1.
        tf32: whether a GPU's convolutions may round to TF32: faster, and the captions of some
            photos then depend on the batch they come in.
        attention: whether captions carry the attention weights of each word.

    Raises:
        UsageError: no checkpoint attends, the vocabularies differ, a word of the wording is not in
            them, or the wishes contradict one another.
    """

    def __init__(
        self,
        trained: Checkpoint | Sequence[Checkpoint],
        device: torch.device,
        search: SearchOptions | SampleOptions | None = None,
        *,
        rerank: Rerank | None = None,
        wording: Wording | None = None,
        average: str = "probability",
        backward: Checkpoint | None = None,
        agreement: float = AGREEMENT,
        tf32: bool = False,
        attention: bool = False,
    ) -> None:
        self.members = (trained,) if isinstance(trained, Checkpoint) else tuple(trained)
        self.trained = self.members[0]
        self.backward = backward
        self.agreement = agreement
        every = self.members if backward is None else (*self.members, backward)
        check_vocabularies(every)
        self.device = device
        self.search = search or self.trained.search()
        self.rerank = rerank
        self.wording = wording or Wording()
        self.average = average
        check_beam(self.search, len(self.trained.vocabulary))
        check_samples(self.search, rerank, self.wording)
        check_directions(self.members, self.wording)
        if backward is not None:
            check_agreement(self.members, backward, self.search, agreement)
        constraints = self.wording.constraints(self.trained.vocabulary)
        self.seconds = Seconds()
        self.tf32 = tf32
        for member in every:
            member.captioner.to(device)
            member.captioner.encoder.tf32 = tf32
        wanted = self.search
        if backward is not None and isinstance(wanted, SearchOptions):
            wanted = replace(wanted, n_best=wanted.beam_size)  # all there is to choose from
        self._generate = CaptionGenerator(
            [member.captioner for member in self.members],
            wanted,
            average=average,
            constraints=constraints,
            attention=attention,
        )
        encoders = [member.captioner.encoder for member in every]
        self._transforms, transform_of = distinct([member.transform for member in every])
        keys = [encoder_key(encoder) for encoder in encoders] if len(encoders) > 1 else [""]
        pairs, self._features_of = distinct(list(zip(keys, transform_of, strict=True)))
        firsts = [self._features_of.index(i) for i in range(len(pairs))]
        self._encoders = [(encoders[first], transform_of[first]) for first in firsts]

    @classmethod
    def load(
        cls,
        path: str | Path | Sequence[str | Path] = DEFAULT_CHECKPOINT,
        *,
        device: str = "auto",
        search: SearchOptions | SampleOptions | None = None,
        rerank: Rerank | None = None,
        wording: Wording | None = None,
        average: str = "probability",
        backward: str | Path | None = None,
        agreement: float = AGREEMENT,
        tf32: bool = False,
        attention: bool = False,
    ) -> "Predictor":
        """A predictor from a checkpoint, or an ensemble from several.

        A checkpoint is a file, a folder that `captioner export` wrote, or the name of a pretrained
        captioner; without one the pretrained captioner ``flickr8k`` is used.

        Raises:
            UsageError: no such file or device, not a captioner's checkpoint, or as above.
            CaptionerError: a pretrained captioner lacks its encoder's package.
        """
        paths = [path] if isinstance(path, (str, Path)) else path
        trained = [checkpoint.load(Path(one)) for one in paths]
        return cls(
            trained,
            choose_device(device),
            search,
            rerank=rerank,
            wording=wording,
            average=average,
            backward=None if backward is None else checkpoint.load(Path(backward)),
            agreement=agreement,
            tf32=tf32,
            attention=attention,
        )

    @overload  # text is an iterable of text too: the first signature wins
    def caption(  # type: ignore[overload-overlap]
        self,
        photos: OnePhoto,
        *,
        batch_size: int = ...,
        keys: Iterable[object] | None = ...,
        workers: int = ...,
    ) -> PhotoCaptions: ...

    @overload
    def caption(
        self,
        photos: Iterable[OnePhoto],
        *,
        batch_size: int = ...,
        keys: Iterable[object] | None = ...,
        workers: int = ...,
    ) -> Iterator[PhotoCaptions]: ...

    def caption(
        self,
        photos: OnePhoto | Iterable[OnePhoto],
        *,
        batch_size: int = 32,
        keys: Iterable[object] | None = None,
        workers: int = 0,
    ) -> PhotoCaptions | Iterator[PhotoCaptions]:
        """Caption one photo, or many one after the other in the order given.

        A photo is a path (text or `Path`), a PIL image, a uint8 array (H, W, 3), the bytes of a
        file, or an open binary file. One photo gives one `PhotoCaptions`; an iterable of photos, of
        any length and of mixed kinds, gives an iterator. A photo without a path is called
        ``photo-<number>``.

        A photo that cannot be read, or that has no caption under the constraints, takes its place
        with a reason and does not end the work. Photos are read ahead, so that memory stays flat
        for any number of them: twice the batch, and 256 MiB of photos held in memory.

        Args:
            photos: one photo or many; also what `captioner.photos.inputs` makes of a tar's members.
            batch_size: photos encoded and searched at once.
            keys: what samples are seeded from, an id for each photo; its path if not given. The
                samples of a photo depend on the seed and this alone, not on batch or order.
            workers: processes that read photos ahead; 0: threads of this one. A script that asks
                for processes needs the guard ``if __name__ == "__main__":``.

        Raises:
            UsageError: a value of another kind.
            CaptionerError: a process that reads was killed or could not start.
        """
        if is_one(photos):
            (found,) = self._caption_all([photos], batch_size, keys, workers)
            return found
        if not isinstance(photos, Iterable) or isinstance(photos, Mapping):
            raise UsageError(
                f"caption: expected {KINDS}, or an iterable of those, not {type(photos).__name__}"
            )
        return self._caption_all(photos, batch_size, keys, workers)

    def _caption_all(
        self,
        photos: Iterable[object],
        batch_size: int,
        keys: Iterable[object] | None,
        workers: int,
    ) -> Iterator[PhotoCaptions]:
        sources = (as_source(photo, number) for number, photo in enumerate(photos))
        named = zip(sources, repeat(None)) if keys is None else zip(sources, keys, strict=True)
        with readers(workers) as pool:
            for batch in self._read_ahead(pool, named, batch_size):
                yield from self._caption_batch(batch)

    def _read_ahead(
        self,
        pool: Executor,
        named: Iterator[tuple[PhotoSource, object]],
        batch_size: int,
    ) -> Iterator[list[Photo]]:
        """Batches of photos that have been read while the batch before was captioned."""
        ahead: deque[tuple[PhotoSource, int, Future[tuple[np.ndarray, ...] | str]]] = deque()
        batch: list[Photo] = []
        exhausted = False
        held = Held()
        while True:
            while not exhausted and (
                not ahead or (len(ahead) < 2 * batch_size and held.bytes < READ_AHEAD)
            ):
                following = next(named, None)
                if following is None:
                    exhausted = True
                    break
                source, key = following
                number = key_number(str(source.path if key is None else key))
                held.add(source.held)
                reading = pool.submit(read_pixels, source, self._transforms)
                reading.add_done_callback(partial(held.release, source.held))
                # What has been read, or is being read by others, need not be held here too.
                ahead.append((source.without_content(), number, reading))
                del following, source
            if not ahead:
                break
            source, number, reading = ahead.popleft()
            found = reading.result()
            pixels = found if isinstance(found, str) else tuple(map(torch.from_numpy, found))
            batch.append(Photo(source.path, number, pixels))
            if len(batch) == batch_size or source.ends_batch:
                yield batch
                batch = []
        if batch:
            yield batch

    def _caption_batch(self, batch: Sequence[Photo]) -> Iterator[PhotoCaptions]:
        good = [photo for photo in batch if not isinstance(photo.pixels, str)]
        found = iter(self._search(good))
        for photo in batch:
            if isinstance(photo.pixels, str):
                yield PhotoCaptions(photo.path, error=photo.pixels)
            else:
                yield next(found)

    def _search(self, photos: Sequence[Photo]) -> list[PhotoCaptions]:
        """Captions of photos that have been read."""
        if not photos:
            return []
        began, encoded = perf_counter(), self.seconds.encoding
        try:
            found = self._hypotheses(photos)
            encoding = self.seconds.encoding - encoded
            self.seconds.searching += perf_counter() - began - encoding
        except UsageError:
            raise
        except CaptionerError as error:  # one of them has no caption: which one?
            if len(photos) > 1:
                return [result for photo in photos for result in self._search([photo])]
            return [PhotoCaptions(photos[0].path, error=str(error))]
        listed = candidates(found, self.trained.vocabulary)
        maps = self._maps(found)
        return [
            PhotoCaptions(photo.path, own, attention=of_photo)
            for photo, own, of_photo in zip(photos, listed, maps, strict=True)
        ]

    def _maps(self, found: Hypotheses) -> list[AttentionMap] | list[None]:
        """Attention of each image, where it was asked for."""
        if found.attention is None:
            return [None] * len(found.words)
        decoders = [member.captioner.decoder for member in self.members]
        sentinel = len(decoders) == 1 and decoders[0].kind == "adaptive"
        return attention_maps(found, sentinel=sentinel)

    def _hypotheses(self, photos: Sequence[Photo]) -> Hypotheses:
        """Photos are encoded by each encoder, decoded by all, and the samples ranked."""
        pixels = [
            torch.stack([photo.pixels[i] for photo in photos if isinstance(photo.pixels, tuple)])
            for i in range(len(self._transforms))
        ]
        began = perf_counter()
        with torch.inference_mode():
            features = [encoder(pixels[i].to(self.device)) for encoder, i in self._encoders]
        self.seconds.encoding += perf_counter() - began
        given = [features[i] for i in self._features_of]
        keys = torch.tensor([photo.key for photo in photos], device=self.device)
        found = self._generate(given[: len(self.members)], keys)
        if self.backward is not None and isinstance(self.search, SearchOptions):
            other = self.backward.captioner
            return agreed(found, other, given[-1], self.agreement, self.search)
        return found if self.rerank is None else reranked(found, self.rerank)


def check_samples(
    search: SearchOptions | SampleOptions, rerank: Rerank | None, wording: Wording
) -> None:
    """Raises UsageError where a wish holds for a search alone, or for samples alone."""
    if isinstance(search, SampleOptions):
        if wording.require:
            raise UsageError("require: samples cannot be made to say a phrase; use beam search")
        if rerank is not None and rerank.n_best > search.samples:
            raise UsageError(
                f"n_best: {rerank.n_best} is more than the {search.samples} captions drawn"
            )
    elif rerank is not None:
        raise UsageError("rerank: only samples are re-ranked; a beam search ranks by its score")


def key_number(key: str) -> int:
    """A number of 64 bits, with sign, for an image's path or id."""
    digest = hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "little", signed=True)
