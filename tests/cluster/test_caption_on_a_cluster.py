"""Captions of a real Ray cluster of two nodes equal those of one machine, whatever is killed."""

import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import make_photo

from captioner.datasets.shapes import divide_scenes, paint
from cluster.conftest import SETTINGS, Command, Nodes, processes, records_of

pytestmark = pytest.mark.slow

PHOTOS = 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 drawn photos, one that is damaged and one that is missing."""
    folder = tmp_path_factory.mktemp("many")
    rng = random.Random(0)
    scenes = [scene for of_split in divide_scenes(rng).values() for scene in of_split]
    for i in range(PHOTOS):
        paint(scenes[i % len(scenes)], 48, rng).save(folder / f"{i:04d}.png")
    (folder / "damaged.png").write_bytes((folder / "0000.png").read_bytes()[:200])
    (folder / "missing.png").symlink_to(folder / "nowhere.png")
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path, tiny_checkpoint: Path) -> dict[str, dict]:
    """What one machine writes."""
    command = [sys.executable, "-m", "captioner", "caption", str(folder), "--format", "jsonl"]
    done = subprocess.run(
        [*command, "--checkpoint", str(tiny_checkpoint)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    return {one["image"]: one for one in map(json.loads, done.stdout.splitlines())}


def assert_equal(found: list[dict], expected: dict[str, dict]) -> None:
    """Each photo once, with the same text and the same log-probability.

    The untrained network amplifies differences between batches, so 1e-4 is relative here; a trained
    one differs by 1e-6.
    """
    by_image = {one["image"]: one for one in found}
    assert len(by_image) == len(found) == len({one["id"] for one in found})
    assert by_image.keys() == expected.keys()
    for image, one in expected.items():
        other = by_image[image]
        assert list(other) == ["id", *one]
        assert other.get("caption") == one.get("caption")
        assert other.get("error") == one.get("error")
        assert other.get("log_prob", 0.0) == pytest.approx(one.get("log_prob", 0.0), rel=1e-4)


def arguments(checkpoint: Path, nodes: Nodes, output: object, *more: str) -> list[str]:
    own = ["--checkpoint", str(checkpoint), "--engine", "ray", "--address", nodes.address]
    return ["caption", *own, "--output", str(output), *more]


def test_all_rows_once_after_an_actor_a_node_and_the_driver_are_lost(
    nodes: Nodes, folder: Path, expected: dict, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    output = tmp_path / "captions"
    given = arguments(tiny_checkpoint, nodes, output, str(folder), "--shard-size", "100")

    def files() -> int:
        return len(list(output.glob("captions-*.jsonl")))

    command = Command(given)
    command.wait_for(lambda: files() >= 1)
    os.kill(command.wait_for(nodes.actors)[0], signal.SIGKILL)
    command.wait_for(lambda: files() >= 2)
    os.kill(command.wait_for(lambda: nodes.actors("Ledger"))[0], signal.SIGKILL)
    command.wait_for(lambda: files() >= 3)
    nodes.remove_second()
    command.wait_for(lambda: files() >= 5)
    told = command.kill()  # the driver
    kept = len(records_of(output))
    assert kept >= 500, told
    nodes.add_second()
    code, told = Command(given).ended()
    assert code == 1, told  # of the two photos without a caption
    held = re.search(r"already holds ([0-9,]+) photos", told)
    # The last file may have been written, but not yet listed when the driver was killed.
    assert held is not None, told
    assert kept - 100 <= int(held[1].replace(",", "")) <= kept
    assert "2 of 1,002 photos could not be captioned" in told
    assert_equal(records_of(output), expected)
    began = time.monotonic()
    assert Command(given).ended()[0] == 1  # nothing is left to do
    assert time.monotonic() - began < 120
    assert_equal(records_of(output), expected)


def test_poisonous_photos_become_error_rows(
    nodes: Nodes, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    photos = [make_photo(tmp_path / "in" / f"{i}.png", i) for i in range(40)]
    bad = [make_photo(tmp_path / "in" / f"kills-it-{i}.png", i) for i in range(2)]
    given = arguments(tiny_checkpoint, nodes, tmp_path / "out", str(tmp_path / "in"))
    code, told = Command(given).ended()
    assert code == 1, told
    found = {one["image"]: one for one in records_of(tmp_path / "out")}
    assert found.keys() == {str(one) for one in (*photos, *bad)}
    assert all("was killed 4 times" in found[str(one)]["error"] for one in bad)
    assert all("caption" in found[str(one)] for one in photos)
    assert "2 of 42 photos could not be captioned" in told


def test_a_cluster_whose_head_is_lost(folder: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Ray would end the process after a minute, without a word. The command starts it here."""
    output = tmp_path / "out"
    own = ["--checkpoint", str(tiny_checkpoint), "--engine", "ray", "--output", str(output)]
    slowly = ("--shard-size", "20", "--batch-size", "1")  # the head is lost before the end
    command = Command(["caption", str(folder), *own, *slowly])

    def heads() -> list[int]:
        written = any(output.glob("captions-*.jsonl"))
        of_command = (one for one in processes() if one[1] == command.process.pid)
        return [pid for pid, _, name in of_command if written and "gcs_server" in name]

    os.kill(command.wait_for(heads)[0], signal.SIGKILL)
    code, told = command.ended(120)
    assert code == 1, told
    last = told.splitlines()[-1]
    assert re.search(r"error: the head of the cluster \(.*\) does not answer any more", last), told
    assert f"; {len(records_of(output)):,} photos are saved, rerun the same command" in last


def test_too_few_processors_are_told_at_once(
    nodes: Nodes, folder: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    given = arguments(tiny_checkpoint, nodes, tmp_path / "out", str(folder), "--actors", "3")
    code, told = Command(given).ended(90)
    assert code == 2
    assert told.splitlines()[-1] == (
        "captioner: error: --actors 3: at most 2 on this cluster (2 CPUs)"
    )


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a local S3 server; its address follows the question mark."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    import boto3

    options = f"?scheme=http&endpoint_override={host}:{port}&allow_bucket_creation=true"
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(
        Bucket="photos"
    )
    yield options
    server.stop()


def test_object_storage_in_and_out(
    nodes: Nodes, bucket: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    from captioner.cluster.output import Folder, content_of

    photos = [make_photo(tmp_path / f"{i}.png", i).read_bytes() for i in range(6)]
    place = Folder(f"s3://photos/in{bucket}")
    place.write("deep/a b%20.png", photos[0])
    place.write("bad.jpg", b"no photo")
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        for i in (1, 2):
            about = tarfile.TarInfo(f"{i}.png")
            about.size = len(photos[i])
            file.addfile(about, io.BytesIO(photos[i]))
    place.write("some.tar", tar.getvalue())
    table = io.BytesIO()
    pq.write_table(pa.table({"bytes": photos[3:5], "uri": [f"r{i}" for i in (3, 4)]}), table)
    place.write("some.parquet", table.getvalue())
    (tmp_path / "list.txt").write_text(f"s3://photos/in/deep/a b%20.png{bucket}\n")

    output = f"s3://photos/out{bucket}"
    given = arguments(tiny_checkpoint, nodes, output, f"s3://photos/in{bucket}")
    given += ["--list", str(tmp_path / "list.txt"), "--format", "parquet", "--n-best", "2"]
    code, told = Command(given).ended()
    assert code == 1, told
    assert "1 of 6 photos could not be captioned" in told
    content = content_of(Folder(output).place("captions-00000.parquet"))
    assert content is not None
    found = pq.read_table(io.BytesIO(content)).to_pylist()
    rows = {row["image"]: row for row in found}
    assert len(rows) == 6
    assert {f"s3://photos/in/some.parquet#{i}" for i in (0, 1)} <= rows.keys()
    assert {f"s3://photos/in/some.tar/{i}.png" for i in (1, 2)} <= rows.keys()
    assert [image for image, row in rows.items() if row["error"] is not None] == [
        "s3://photos/in/bad.jpg"
    ]
    from captioner import Predictor

    same = Predictor.load(tiny_checkpoint, n_best=2).caption(photos[0])
    row = rows["s3://photos/in/deep/a b%20.png"]
    assert row["caption"] == same.caption
    assert [one["caption"] for one in row["candidates"]] == [one.caption for one in same.candidates]
    code, told = Command(given).ended()
    assert "already holds 6 photos" in told


@pytest.mark.parametrize("machines", [2, 1])
@pytest.mark.parametrize("actors", [None, 1])
def test_a_dataset_in_python(
    machines: int,
    actors: int | None,
    nodes: Nodes,
    folder: Path,
    expected: dict,
    tiny_checkpoint: Path,
) -> None:
    """Also where networks fill all CPUs: the dataset's own tasks ask for a whole one each."""
    if machines == 1:
        nodes.remove_second()
    code = f"""
import ray
ray.init({nodes.address!r}, log_to_driver=False, logging_level="ERROR")
ray.data.DataContext.get_current().enable_progress_bars = False
from captioner.cluster import captions
photos = ray.data.read_binary_files({str(folder)!r}, include_paths=True).limit(50)
rows = captions(photos, {str(tiny_checkpoint)!r}, actors={actors}).take_all()
import json
print("rows:" + json.dumps(rows))
"""
    command = Command(["-c", code], python=True)
    told = command.ended()[1]
    assert "rows:" in command.output, told
    rows = json.loads(command.output.rpartition("rows:")[2])
    assert len(rows) == 50
    for row in rows:
        one = expected[row["id"]]
        assert row["caption"] == one.get("caption")
        assert row["log_prob"] == pytest.approx(one.get("log_prob"), abs=1e-4)
