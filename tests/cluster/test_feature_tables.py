"""Features of a store as Parquet; without Ray."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from captioner.cluster import feature_tables
from captioner.cluster.feature_tables import write_table
from captioner.features.journal import Entry, file_digest
from captioner.features.store import FeatureStore
from captioner.features.writer import FeatureWriter

KEY = {"encoder": "toy", "features": "grid"}


@pytest.mark.parametrize("ids", [[3, 1, 2, 7, 5], ["a", "b", "c", "d", "e"], [1, "b", 3, "d", 5]])
@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
@pytest.mark.parametrize("shape", [(6,), (4, 6)])
def test_a_table_holds_what_the_store_holds(ids, dtype, shape, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(feature_tables, "ROWS", 2)
    photos = [
        (one, Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9%d" % i)))
        for i, one in enumerate(ids)
    ]
    for image_id, path in photos:
        path.write_bytes(f"photo {image_id}".encode())
    rows = np.random.default_rng(0).normal(size=(len(ids), *shape))
    entries = [Entry.of(image_id, path, tmp_path) for image_id, path in photos]
    with FeatureWriter(tmp_path / "store", KEY, shape, dtype) as writer:
        writer.append(entries[:-1], rows[:-1], [(entries[-1], "damaged")])
    store = FeatureStore.open(tmp_path / "store", KEY)
    text = any(isinstance(one, str) for one in ids)
    file = tmp_path / "features.parquet"
    assert write_table(store, photos[1:], file, text) == len(ids) - 2

    table = pq.read_table(file)
    wanted = ids[1:-1]
    assert table["image_id"].to_pylist() == [str(one) if text else one for one in wanted]
    assert table["digest"].to_pylist() == [file_digest(path) for _, path in photos[1:-1]]
    assert table["path"].to_pylist() == [f"caf\\udce9{i}" for i in (1, 2, 3)]
    number = pa.float16() if dtype == "float16" else pa.float32()
    assert table.schema.field("feature").type == pa.list_(number, int(np.prod(shape)))
    metadata = {name.decode(): json.loads(value) for name, value in table.schema.metadata.items()}
    assert metadata == {"shape": list(shape), "key": KEY}
    flat = table["feature"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    assert np.array_equal(flat.reshape(-1, *shape), store.read(wanted))
    assert pq.ParquetFile(file).num_row_groups == 2


def test_no_photo_is_an_empty_table(tmp_path) -> None:
    with FeatureWriter(tmp_path / "store", KEY, (2,), "float16"):
        pass
    store = FeatureStore.open(tmp_path / "store", KEY)
    assert write_table(store, [], tmp_path / "none.parquet", text=False) == 0
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0
