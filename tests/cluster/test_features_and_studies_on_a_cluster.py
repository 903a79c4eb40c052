"""Features and studies of a real Ray cluster equal those of one machine."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import write_jsonl

from captioner.features.journal import Journal
from cluster.conftest import Command, Nodes

pytestmark = pytest.mark.slow

STUDY = """
output: {root}/study
base: base.yaml
set: {{decoder.embedding_size: 8, data.root: {root}/data}}
grid: {{decoder.cell: [gru, elman]}}
seeds: [0]
"""
BASE = """
data: {{format: jsonl, root: {root}/data, features: {root}/features, batch_size: 4}}
output: {root}/run
vocabulary: {{min_count: 1}}
encoder: {{name: squeezenet1_1, weights: "{root}/weights.pth", size: 48, fit: squash}}
decoder: {{hidden_size: 16, dropout: 0}}
search: {{beam_size: 2}}
trainer: {{max_epochs: 1, accelerator: cpu, log_every_n_steps: 1}}
wandb: {{mode: disabled}}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    from torchvision import models

    write_jsonl(tmp_path / "data")
    (tmp_path / "data" / "train0.png").write_bytes(b"no photo")
    torch.manual_seed(0)
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "weights.pth")
    (tmp_path / "base.yaml").write_text(BASE.format(root=tmp_path))
    (tmp_path / "study.yaml").write_text(STUDY.format(root=tmp_path))
    return tmp_path


def test_features(nodes: Nodes, root: Path) -> None:
    given = ["prepare", "--config", str(root / "base.yaml")]
    code, told = Command(given).ended()
    assert code == 0, told
    (store,) = (root / "features").iterdir()
    before = Journal.read(store, 1)
    rows = np.fromfile(store / "features.bin", np.float16)
    shutil.rmtree(root / "features")
    on_cluster = [*given, "--engine", "ray", "--address", nodes.address]
    code, told = Command(on_cluster).ended()
    assert code == 0, told
    assert "share 2 of 2: features:" in told
    assert "skipped" in told
    after = Journal.read(store, 1)
    assert sorted(after.parts) == [0, 1, 2]
    assert {i: line.entry for i, line in after.lines.items()} == {
        i: line.entry for i, line in before.lines.items()
    }  # digests and times
    both = [np.fromfile(store / f"features-{i}.bin", np.float16) for i in (1, 2)]
    assert np.sort(np.concatenate(both)) == pytest.approx(np.sort(rows), abs=2e-2)
    code, told = Command(given).ended()  # one machine finds nothing left to do
    assert "computing 0 more" in told
    (store / "parquet").mkdir()
    (store / "parquet" / "features-00003-of-00003.parquet").touch()  # of another number of shares
    code, told = Command([*on_cluster, "--features-format", "parquet"]).ended()
    assert "computing 0 more" in told
    assert code == 0, told
    files = sorted((store / "parquet").iterdir())
    assert [file.name for file in files] == [f"features-0000{i}-of-00002.parquet" for i in (1, 2)]
    table = pq.read_table(store / "parquet")
    assert sorted(table["path"].to_pylist()) == sorted(
        line.entry.path for line in after.lines.values() if line.reason is None
    )


def test_poisonous_photos_are_left_out_of_the_features(nodes: Nodes, root: Path) -> None:
    """Of 13 photos, one is damaged and one kills whatever opens it."""
    lines = (root / "data" / "captions.jsonl").read_text()
    (root / "data" / "val1.png").rename(root / "data" / "kills-it.png")
    (root / "data" / "captions.jsonl").write_text(lines.replace("val1.png", "kills-it.png"))
    given = ["prepare", "--config", str(root / "base.yaml")]
    on_cluster = [*given, "--engine", "ray", "--address", nodes.address]
    code, told = Command(on_cluster).ended()
    assert code == 0, told
    assert told.count("skipped 1 unreadable photos") == 2  # in a share each
    assert "kills-it.png: the processes that read this photo were killed" in told
    (store,) = (root / "features").iterdir()
    journal = Journal.read(store, 1)
    reasons = {line.entry.path: line.reason for line in journal.lines.values() if line.reason}
    assert reasons.keys() == {"train0.png", "kills-it.png"}
    assert len(journal.lines) == 13
    code, told = Command(on_cluster).ended()  # and it is not tried again
    assert told.count("computing 0 more") == 2, told


def test_a_study(nodes: Nodes, root: Path) -> None:
    given = ["study", "--config", str(root / "study.yaml")]
    command = Command([*given, "--engine", "ray", "--address", nodes.address])
    code, told = command.ended()
    assert code == 0, told
    assert "2 of 2 runs done" in told
    again = Command([*given, "--report"])
    assert again.ended()[0] == 0
    assert again.output == command.output  # the table
