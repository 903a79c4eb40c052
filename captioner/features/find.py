"""Find the feature store of a data set in the folder of stores.

The location and format of a data set do not matter: it may be moved, copied or mounted elsewhere.
Two data sets may use the same image ids, however. A store is therefore identified by its photos:
some photos whose ids it has are read and compared with its entries. If they differ, the data set
gets a store of its own beside it, named `<name>-2` and so on.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from captioner.datasets.records import ImageId
from captioner.features.header import Header, StoreError, plain
from captioner.features.store import FeatureStore, folder_name


def open_store(
    cache: Path, key: Mapping[str, Any], photos: Sequence[tuple[ImageId, Path]]
) -> FeatureStore:
    """Open the store that holds the features of these photos.

    Args:
        cache: Folder of the stores.
        key: Everything the features depend on besides the photos.
        photos: Image ids and photo paths.

    Raises:
        StoreError: There is no such store, or it cannot be read.
    """
    store = _find(cache, key, photos)
    return FeatureStore.open(_new_folder(cache, key), key) if store is None else store


def folder_of(cache: Path, key: Mapping[str, Any], photos: Sequence[tuple[ImageId, Path]]) -> Path:
    """Return the folder that holds or will hold these photos' features; see `open_store`.

    Raises:
        StoreError: A candidate store cannot be read.
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
    """Yield the stores with this key, including those named by earlier versions."""
    own = folder_name(key)
    encoder = own.rpartition("-")[0]
    for path in sorted(cache.glob(f"{encoder}-*/store.json")):
        folder = path.parent
        try:
            header = Header.read(folder)
        except (StoreError, OSError):
            if folder.name.startswith(own):
                raise
            continue  # the store has another key
        if header is not None and header.key == plain(key):
            yield folder


def _new_folder(cache: Path, key: Mapping[str, Any]) -> Path:
    """Return the first unused store name."""
    name = folder_name(key)
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(cache / one for one in names if not (cache / one / "store.json").exists())
