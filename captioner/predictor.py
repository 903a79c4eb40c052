"""Photos to captions with a trained checkpoint: for the command line and for Python.

Example: ::

    from captioner.predictor import Predictor

    predictor = Predictor.load("runs/coco/checkpoints/best.ckpt")
    for found in predictor.caption(["dog.jpg", "kite.jpg"]):
        print(found.path, found.caption or found.error)
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from captioner import checkpoint
from captioner.assembly import search_options
from captioner.checkpoint import Checkpoint
from captioner.data.photo import PhotoError
from captioner.decoding.options import SearchOptions
from captioner.device import choose_device
from captioner.generation import generate

READERS = 4
"""Threads that read photos ahead; decoding JPEG runs outside Python's lock."""


@dataclass(frozen=True)
class Candidate:
    """One of several captions of a photo.

    Attributes:
        caption: its text.
        log_prob: natural logarithm of its probability under the model, the end word included.
        score: what the search ranked it by: `log_prob`, length-normalised if that was asked for.
    """

    caption: str
    log_prob: float
    score: float


@dataclass(frozen=True)
class Captioned:
    """What became of one photo: captions, best first, or the reason why there is none.

    Attributes:
        path: the photo.
        candidates: its captions, best first; empty if it could not be read.
        error: why it could not be read.
    """

    path: Path
    candidates: tuple[Candidate, ...] = ()
    error: str | None = None

    @property
    def caption(self) -> str | None:
        """The best caption."""
        return self.candidates[0].caption if self.candidates else None


class Predictor:
    """A trained captioner on a device, with a way of searching.

    Args:
        trained: what the checkpoint holds.
        device: where it runs.
        search: how captions are searched for; None: as the checkpoint's configuration says.
    """

    def __init__(
        self, trained: Checkpoint, device: torch.device, search: SearchOptions | None = None
    ) -> None:
        self.trained = trained
        self.device = device
        self.search = search or search_options(trained.config.search)
        trained.captioner.to(device)

    @classmethod
    def load(
        cls, path: str | Path, *, device: str = "auto", search: SearchOptions | None = None
    ) -> "Predictor":
        """A predictor from a checkpoint file.

        Raises:
            UsageError: no such file or device, or not a captioner's checkpoint.
        """
        return cls(checkpoint.load(Path(path)), choose_device(device), search)

    def caption(self, paths: Iterable[str | Path], *, batch_size: int = 32) -> Iterator[Captioned]:
        """Caption photos one after the other, in the order given.

        A photo that cannot be read takes its place with a reason and does not end the work. Photos
        are read ahead by threads, so that memory stays flat for any number of them.

        Args:
            paths: the photos.
            batch_size: photos encoded and searched at once.
        """
        with ThreadPoolExecutor(READERS) as readers:
            for batch in self._read_ahead(readers, map(Path, paths), batch_size):
                yield from self._caption_batch(batch)

    def _read_ahead(
        self, readers: ThreadPoolExecutor, paths: Iterator[Path], batch_size: int
    ) -> Iterator[list[tuple[Path, Tensor | str]]]:
        """Batches of photos that have been read while the batch before was captioned."""
        ahead: deque[tuple[Path, Future[Tensor | str]]] = deque()
        batch: list[tuple[Path, Tensor | str]] = []
        exhausted = False
        while True:
            while not exhausted and len(ahead) < 2 * batch_size:
                path = next(paths, None)
                if path is None:
                    exhausted = True
                else:
                    ahead.append((path, readers.submit(self._read, path)))
            if not ahead:
                break
            path, photo = ahead.popleft()
            batch.append((path, photo.result()))
            if len(batch) == batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _read(self, path: Path) -> Tensor | str:
        try:
            return self.trained.transform.load(path)
        except PhotoError as error:
            return str(error)

    def _caption_batch(self, batch: Sequence[tuple[Path, Tensor | str]]) -> Iterator[Captioned]:
        photos = [photo for _, photo in batch if isinstance(photo, Tensor)]
        found = iter(self._search(torch.stack(photos)) if photos else [])
        for path, photo in batch:
            if isinstance(photo, str):
                yield Captioned(path, error=photo)
            else:
                yield Captioned(path, candidates=next(found))

    def _search(self, photos: Tensor) -> list[tuple[Candidate, ...]]:
        """Captions of photos (B, 3, S, S), best first."""
        hypotheses = generate(self.trained.captioner, photos.to(self.device), self.search)
        decode = self.trained.vocabulary.decode
        return [
            tuple(
                Candidate(decode(words), log_prob, score)
                for words, log_prob, score in zip(captions, log_probs, scores, strict=False)
            )
            for captions, log_probs, scores in zip(
                hypotheses.captions(),
                hypotheses.log_probs.tolist(),
                hypotheses.scores.tolist(),
                strict=True,
            )
        ]
