"""The folder of the feature stores: which of them is that of a data set.

Where a data set lies and in which format it is described does not matter: it may be moved, copied,
mounted elsewhere. But two data sets may use the same image ids. So a store is known by its photos:
a few of those whose ids it has are read and compared with what it says of them. Where they are
others, the data set gets a store of its own beside it, ``<name>-2`` and so on.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from captioner.datasets.records import ImageId
from captioner.features.journal import Header, StoreError, plain
from captioner.features.store import FeatureStore, folder_name


def open_store(
    cache: Path, key: Mapping[str, Any], photos: Sequence[tuple[ImageId, Path]]
) -> FeatureStore:
    """The store that holds features of these photos.

    Args:
        cache: folder of the stores.
        key: what the features depend on besides the photos.
        photos: image ids and where their photos are.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    store = _find(cache, key, photos)
    return FeatureStore.open(_new_folder(cache, key), key) if store is None else store


def folder_of(cache: Path, key: Mapping[str, Any], photos: Sequence[tuple[ImageId, Path]]) -> Path:
    """Where the features of these photos are, or are to be written; arguments as above.

    Raises:
        StoreError: a store that may be theirs cannot be read.
    """
    store = _find(cache, key, photos)
    return _new_folder(cache, key) if store is None else store.folder


def _find(
    cache: Path, key: Mapping[str, Any], photos: Sequence[tuple[ImageId, Path]]
) -> FeatureStore | None:
    stores = [FeatureStore.open(folder, key) for folder in _folders(cache, key)]
    fitting = [store for store in stores if store.holds(photos)]
    return max(fitting, key=lambda store: len(store.known(photos)), default=None)


def _folders(cache: Path, key: Mapping[str, Any]) -> Iterator[Path]:
    """Stores with this key, those of earlier versions too, which had other names."""
    own = folder_name(key)
    encoder = own.rpartition("-")[0]
    for path in sorted(cache.glob(f"{encoder}-*/store.json")):
        folder = path.parent
        try:
            header = Header.read(folder)
        except (StoreError, OSError):
            if folder.name.startswith(own):
                raise
            continue  # another key's: no concern of ours
        if header is not None and header.key == plain(key):
            yield folder


def _new_folder(cache: Path, key: Mapping[str, Any]) -> Path:
    """The first name that no store has."""
    name = folder_name(key)
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(cache / one for one in names if not (cache / one / "store.json").exists())
