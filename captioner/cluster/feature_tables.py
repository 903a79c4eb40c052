"""The features of a store as Parquet files: `captioner prepare --features-format parquet`.

The files lie in the folder `parquet` of the store, one per task. Each row is a photo: `image_id`,
`path`, `digest` (blake2b-128 of its file) and `feature`, a list of fixed size. The metadata of the
schema hold the `shape` of a feature, (F,) or (R, F), and the `key`: what features depend on.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from captioner.cluster.names import spelled
from captioner.config.schema import Config
from captioner.errors import CaptionerError
from captioner.features.store import FeatureStore
from captioner.files.atomic import whole_file

ROWS = 1024
"""Photos per row group."""

TRIES = 4
"""How many processes may die of a file."""


def write_tables(
    config: Config, part: int, parts: int, threads: int, here: str, ledger: Any
) -> list[str]:
    """Write one share of all stored features, in a task; return the messages.

    Args:
        config: Configuration; relative paths start at `here`.
        part: Number of the share, from 1.
        parts: Number of shares.
        threads: CPU threads.
        here: Working directory of the command.
        ledger: Handle of the ledger.

    Raises:
        CaptionerError: The process has died several times.
    """
    import ray
    import torch

    from captioner.features.find import open_store
    from captioner.features.keyed_encoder import build_keyed_encoder
    from captioner.features.prepare import photos_of, read_all
    from captioner.features.views import key_of_view, records_with_view

    os.chdir(here)
    torch.set_num_threads(threads)
    if ray.get(ledger.begin.remote(f"tables of share {part}".encode())) > TRIES:
        raise CaptionerError(f"its process was killed {TRIES} times (not enough memory?)")
    records = read_all(config)
    _, _, key = build_keyed_encoder(config, records["train"])
    told = []
    for view in range(config.encoder.views):
        photos = photos_of(records_with_view(records, view))
        store = open_store(Path(config.data.features), key_of_view(key, view), photos)
        text = any(isinstance(image_id, str) for image_id, _ in photos)
        folder = store.folder / "parquet"
        folder.mkdir(exist_ok=True)
        count = write_table(store, photos[part - 1 :: parts], folder / _name(part, parts), text)
        told.append(f"parquet: {count:,} photos in {folder / _name(part, parts)}")
        if part == 1:  # of an earlier command with another number of shares
            names = {_name(i, parts) for i in range(1, parts + 1)}
            for old in folder.glob("features-*.parquet"):
                if old.name not in names:
                    old.unlink()
    return told


def _name(part: int, parts: int) -> str:
    return f"features-{part:05d}-of-{parts:05d}.parquet"


def write_table(store: FeatureStore, photos: Any, path: Path, text: bool) -> int:
    """Write the features of some photos to a file; return their number.

    Args:
        store: The store; photos that it has no features of are left out.
        photos: Image ids and paths.
        path: The file.
        text: Whether image ids are written as text; otherwise all of them are whole numbers.
    """
    entries = [entry for entry, _ in store.known(photos) if entry.image_id in store]
    size = math.prod(store.shape)
    numbers = pa.float16() if store.dtype == "float16" else pa.float32()
    kind = pa.string() if text else pa.int64()
    about = {"shape": json.dumps(list(store.shape)), "key": json.dumps(store.key)}
    schema = pa.schema(
        [
            ("image_id", kind),
            ("path", pa.string()),
            ("digest", pa.string()),
            ("feature", pa.list_(numbers, size)),
        ],
        metadata=about,
    )
    with whole_file(path) as file, pq.ParquetWriter(file, schema) as writer:
        for first in range(0, len(entries), ROWS):
            some = entries[first : first + ROWS]
            rows = store.read([one.image_id for one in some])
            flat = np.ascontiguousarray(rows, numbers.to_pandas_dtype()).reshape(-1)
            columns = [
                pa.array([str(one.image_id) if text else one.image_id for one in some], kind),
                pa.array([spelled(one.path) for one in some], pa.string()),
                pa.array([one.digest for one in some], pa.string()),
                pa.FixedSizeListArray.from_arrays(pa.array(flat, numbers), size),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    return len(entries)
