"""Photos read ahead of a network, in batches, and their results in the order of the photos.

Every runtime is a `PhotoCaptioner`: torch in `predictor`, onnxruntime in `onnx_runtime`.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import overload

from captioner.errors import CaptionerError, UsageError
from captioner.inference.photo import Photo, key_number
from captioner.inference.result import PhotoCaptions
from captioner.photos.kinds import KINDS, as_source, is_one
from captioner.photos.kinds import Photo as OnePhoto
from captioner.photos.readers import READ_AHEAD, Held, readers
from captioner.photos.regions import RegionFolder
from captioner.photos.source import PhotoSource, Read, read_pixels
from captioner.photos.transform import Transform

Search = Callable[[Sequence[Photo]], list[PhotoCaptions]]
"""Captions a batch of photos that could be read; raises CaptionerError if one has no caption."""


@dataclass
class Seconds:
    """Wall-clock seconds that a predictor has spent so far.

    Attributes:
        encoding: in the encoders. A GPU runs asynchronously, and the search waits for it.
        searching: in the decoders and the search.
    """

    encoding: float = 0.0
    searching: float = 0.0


@dataclass(frozen=True)
class Reading:
    """How photos are read.

    Attributes:
        transforms: each turns a photo into the input of one encoder.
        preview: longest side of the small copy that results carry, in pixels; None for no copy.
        batch_size: photos per batch.
        workers: processes that read ahead; 0 for threads of this one.
        allow_url: whether addresses (https://…) are downloaded.
        regions: where region features of photos are read; None reads none.
    """

    transforms: Sequence[Transform]
    preview: int | None = None
    batch_size: int = 32
    workers: int = 0
    allow_url: bool = False
    regions: RegionFolder | None = None


class PhotoCaptioner(ABC):
    """Captions photos, by whichever runtime; a subclass says how they are read and searched."""

    @abstractmethod
    def _reading(self, batch_size: int, workers: int) -> Reading:
        """Return how photos are read."""

    @abstractmethod
    def _search(self, photos: Sequence[Photo]) -> list[PhotoCaptions]:
        """Caption photos that have been read, as `Search` does."""

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
        file, an open binary file or, with ``allow_url``, an address of http or https. One photo
        gives one `PhotoCaptions`; an iterable of photos, of any length and of mixed kinds, gives an
        iterator. A photo without a path is called ``photo-<number>``.

        A photo that cannot be read, or that has no caption under the constraints, gives a result
        with the reason, in its place; the others are still captioned. Photos are read ahead in
        bounded memory, whatever their number: twice the batch, and 256 MiB of photos in memory.

        Args:
            photos: one photo or many; also what `captioner.photos.inputs` makes of a tar's members.
            batch_size: photos per batch.
            keys: an id for each photo, from which samples are seeded; its path if not given. The
                samples of a photo depend on the seed and this only, not on batch or order.
            workers: processes that read photos ahead; 0: threads of this one. A script that asks
                for processes needs the guard ``if __name__ == "__main__":``.

        Raises:
            UsageError: a value of another kind.
            CaptionerError: a process that reads was killed or could not start.
        """
        return caption_photos(photos, self._search, self._reading(batch_size, workers), keys)


def caption_photos(
    photos: object, search: Search, reading: Reading, keys: Iterable[object] | None = None
) -> PhotoCaptions | Iterator[PhotoCaptions]:
    """Caption one photo, or many one after the other; see `PhotoCaptioner.caption`.

    Args:
        photos: one photo or many, of the kinds of `captioner.photos.kinds`.
        search: captions a batch.
        reading: how photos are read.
        keys: an id for each photo; its path if not given.

    Raises:
        UsageError: a value of another kind.
        CaptionerError: a process that reads was killed or could not start.
    """
    if is_one(photos):
        (found,) = _caption_all([photos], search, reading, keys)
        return found
    if not isinstance(photos, Iterable) or isinstance(photos, Mapping):
        raise UsageError(
            f"caption: expected {KINDS}, or an iterable of those, not {type(photos).__name__}"
        )
    return _caption_all(photos, search, reading, keys)


def _caption_all(
    photos: Iterable[object], search: Search, reading: Reading, keys: Iterable[object] | None
) -> Iterator[PhotoCaptions]:
    sources = (
        as_source(photo, number, allow_url=reading.allow_url) for number, photo in enumerate(photos)
    )
    named = zip(sources, repeat(None)) if keys is None else zip(sources, keys, strict=True)
    with readers(reading.workers) as pool:
        for batch in _read_ahead(pool, named, reading):
            yield from caption_batch(batch, search)


def _read_ahead(
    pool: Executor, named: Iterator[tuple[PhotoSource, object]], how: Reading
) -> Iterator[list[Photo]]:
    """Yield batches of photos that were read while the previous batch was captioned."""
    ahead: deque[tuple[PhotoSource, int, Future[Read | str]]] = deque()
    batch: list[Photo] = []
    exhausted = False
    held = Held()
    while True:
        while not exhausted and (
            not ahead or (len(ahead) < 2 * how.batch_size and held.bytes < READ_AHEAD)
        ):
            following = next(named, None)
            if following is None:
                exhausted = True
                break
            source, key = following
            number = key_number(str(source.path if key is None else key))
            held.add(source.held)
            reading = pool.submit(read_pixels, source, how.transforms, how.preview, how.regions)
            reading.add_done_callback(partial(held.release, source.held))
            # What has been read, or is being read by others, need not be held here too.
            ahead.append((source.without_content(), number, reading))
            del following, source
        if not ahead:
            break
        source, number, reading = ahead.popleft()
        batch.append(Photo.of(reading.result(), source.path, number))
        if len(batch) == how.batch_size or source.ends_batch:
            yield batch
            batch = []
    if batch:
        yield batch


def caption_batch(batch: Sequence[Photo], search: Search) -> Iterator[PhotoCaptions]:
    """Caption photos that have been read, all at once and in order."""
    good = [photo for photo in batch if not isinstance(photo.pixels, str)]
    found = iter(_searched(good, search))
    for photo in batch:
        if isinstance(photo.pixels, str):
            yield PhotoCaptions(photo.path, error=photo.pixels)
        else:
            yield next(found)


def _searched(photos: Sequence[Photo], search: Search) -> list[PhotoCaptions]:
    """Caption photos that have been read; a photo without a caption gets the reason."""
    if not photos:
        return []
    try:
        return search(photos)
    except UsageError:
        raise
    except CaptionerError as error:  # one of them has no caption: find it
        if len(photos) > 1:
            return [result for photo in photos for result in _searched([photo], search)]
        return [PhotoCaptions(photos[0].path, error=str(error))]
