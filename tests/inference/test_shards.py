"""Captions of many photos: the same whoever writes them, each once, whenever a run was killed."""

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import make_photo, save_checkpoint, tiny_config
from photos.test_tar import make_tar

from captioner.cli import main
from captioner.commands.caption_devices import follow
from captioner.errors import CaptionerError, UsageError
from captioner.inference.result import PhotoCaptions
from captioner.inference.shards import Manifest, Shard, lock_folder, write_shards
from captioner.photos.inputs import PhotoInput
from captioner.photos.source import PhotoSource


def run(*arguments: object) -> int:
    return main(["caption", *map(str, arguments)])


def records(folder: Path) -> list[dict[str, object]]:
    files = sorted(folder.glob("captions-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture
def shards(tmp_path: Path) -> str:
    """Three tars of four photos, a text and a broken photo."""
    for i in range(3):
        made = [make_photo(tmp_path / "made" / f"{i}{j}.png", 10 * i + j) for j in range(4)]
        content = {path.name: path.read_bytes() for path in made}
        make_tar(tmp_path / f"s-{i}.tar", content | {"a.txt": b"no photo", f"{i}x.jpg": b"bad"})
    return f"{tmp_path}/s-{{0..2}}.tar"


@pytest.mark.parametrize("flags", [[], ["--workers", "2", "--batch-size", "4"]])
def test_tars_equal_their_photos_as_files(
    tiny_checkpoint: Path, shards: str, tmp_path: Path, flags: list[str]
) -> None:
    out = tmp_path / "out"
    given = ("--checkpoint", tiny_checkpoint, "--shard-size", 4, "--output", f"{out}/", *flags)
    assert run(shards, *given) == 1
    found = records(out)
    assert len(found) == 15
    assert [len(f.read_text().splitlines()) for f in sorted(out.glob("c*.jsonl"))] == [4, 4, 4, 3]
    made = sorted((tmp_path / "made").iterdir())
    assert run(*made, "--checkpoint", tiny_checkpoint, "--output", tmp_path / "f.jsonl",
               "--format", "jsonl") == 0  # fmt: skip
    alone = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    good = [record for record in found if "caption" in record]
    assert [record["caption"] for record in good] == [record["caption"] for record in alone]
    assert found[0]["image"] == f"{tmp_path}/s-0.tar/00.png"
    assert "not a picture" in str(found[4]["error"])
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["complete"], manifest["count"]) == (True, 15)
    assert sum(shard["errors"] for shard in manifest["shards"].values()) == 3


def test_a_restart_writes_what_is_missing_or_damaged_alone(
    tiny_checkpoint: Path, shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = (shards, "--checkpoint", tiny_checkpoint, "--shard-size", 4, "--output", f"{out}/")
    assert run(*given) == 1
    whole = {file.name: file.read_bytes() for file in out.glob("*.jsonl")}
    (out / "captions-00000.jsonl").unlink()
    (out / "captions-00002.jsonl").write_text("damaged\n")
    times = {name: (out / name).stat().st_mtime_ns for name in whole if (out / name).exists()}
    assert run(*given) == 1
    assert {file.name: file.read_bytes() for file in out.glob("*.jsonl")} == whole
    for index in (1, 3):
        name = f"captions-{index:05d}.jsonl"
        assert (out / name).stat().st_mtime_ns == times[name]
    assert "already holds 7 photos" in capsys.readouterr().err
    assert run(*given) == 1  # nothing to do, and the bad photos are still bad
    told = capsys.readouterr().err
    assert "3 of 15 photos could not be captioned" in told
    assert "on cpu" not in told


def test_another_command_is_refused(
    tiny_checkpoint: Path, shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"{tmp_path}/out/"
    given = (shards, "--shard-size", 4, "--output", out)
    assert run(*given, "--checkpoint", tiny_checkpoint) == 1
    other = save_checkpoint(tmp_path / "other.ckpt", tiny_config(), seed=1)
    copy = shutil.copy(tiny_checkpoint, tmp_path / "copy.ckpt")
    mine = ("--checkpoint", tiny_checkpoint)
    for command, words in [
        ((*given, "--checkpoint", other), "was begun with other checkpoints"),
        ((*given, *mine, "--beam-size", 3), "was begun with other --beam-size"),
        ((*given[:2], 5, *given[3:], *mine), "was begun with other --shard-size"),
        ((tmp_path, *given[1:], *mine), "was begun with other inputs"),
    ]:
        assert run(*command) == 2
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        assert words in line
    assert run(*given, "--checkpoint", copy) == 1  # what counts is what is in it
    make_tar(tmp_path / "s-1.tar", {"other.png": (tmp_path / "made" / "00.png").read_bytes()})
    assert run(*given, *mine) == 1
    assert "the inputs are not those of captions-0000" in capsys.readouterr().err


@pytest.mark.slow
def test_several_devices_write_what_one_writes(
    tiny_checkpoint: Path, shards: str, tmp_path: Path
) -> None:
    given = (shards, "--checkpoint", tiny_checkpoint, "--shard-size", 4)
    assert run(*given, "--output", f"{tmp_path}/one/", "--device", "cpu") == 1
    assert run(*given, "--output", f"{tmp_path}/two/", "--devices", "cpu,cpu") == 1
    for name in [f"captions-{i:05d}.jsonl" for i in range(4)]:
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    manifests = [json.loads((tmp_path / x / "manifest.json").read_text()) for x in ("one", "two")]
    assert manifests[0] == manifests[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--devices", "0,1"], "add --output FOLDER/"),
        (["--shard-size", "3"], "--output FOLDER/"),
        (["--output", "x/", "--format", "csv"], "a folder of captions holds JSON Lines"),
        (["--output", "x/", "--devices", "0,,1"], "expected GPU numbers such as 0,1"),
        (["--output", "nowhere/x/"], "--output: no folder nowhere"),
        (["--list", "none.txt"], "--list: no file none.txt"),
        (["--images", "none"], "--images: no such folder: none"),
        (["--output", "x/", "--devices", "gppu"], "no device 'gppu'"),
    ],
)
def test_mistakes(
    tiny_checkpoint: Path,
    tmp_path: Path,
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("a.jpg", "--checkpoint", tiny_checkpoint, *flags) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_nothing_named(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--checkpoint", tiny_checkpoint) == 2
    assert "no photo given" in capsys.readouterr().err


# Without a network


def echo(sources: Iterator[PhotoSource]) -> Iterator[PhotoCaptions]:
    for source in sources:
        yield PhotoCaptions(source.path, error="none")


def begin(folder: Path, size: int = 2, **recipe: object) -> Manifest:
    folder.mkdir(exist_ok=True)
    return Manifest.begin(folder, recipe, size)


def write(manifest: Manifest, names: str, caption=echo) -> int:  # type: ignore[no-untyped-def]
    photos = [PhotoInput(Path(name)) for name in names]
    return write_shards(
        photos, caption, manifest, mine=lambda _: True, candidates=False, finished=manifest.add
    )


def test_a_run_that_fails_at_any_photo_is_gone_on_with(tmp_path: Path) -> None:
    for stop in range(8):
        folder = tmp_path / str(stop)
        asked: list[str] = []

        def failing(sources: Iterator[PhotoSource], stop: int = stop) -> Iterator[PhotoCaptions]:
            for i, found in enumerate(echo(sources)):
                if i == stop:
                    raise CaptionerError("a full disk")
                yield found

        def counting(
            sources: Iterator[PhotoSource], asked: list[str] = asked
        ) -> Iterator[PhotoCaptions]:
            for found in echo(sources):
                asked.append(str(found.path))
                yield found

        if stop < 7:
            with pytest.raises(CaptionerError, match="a full disk"):
                write(begin(folder), "abcdefg", failing)
        else:
            write(begin(folder), "abcdefg", failing)
        assert not list(folder.glob("*.part"))
        assert write(begin(folder), "abcdefg", counting) == 7
        assert "".join(str(record["image"]) for record in records(folder)) == "abcdefg"
        # A file is seen to be whole when the next one begins.
        assert "".join(asked) == ("" if stop == 7 else "abcdefg"[max(0, stop - 1) // 2 * 2 :])


@pytest.mark.parametrize("names", ["abXdefg", "abcde", "abcdef", "abcdefgh", ""])
def test_inputs_that_changed(tmp_path: Path, names: str) -> None:
    write(begin(tmp_path), "abcdefg")
    with pytest.raises(CaptionerError, match="the inputs are not those of captions-0000"):
        write(begin(tmp_path), names)


def test_manifests_that_are_none(tmp_path: Path) -> None:
    write(begin(tmp_path), "abc")
    good = json.loads((tmp_path / "manifest.json").read_text())
    for bad in ("", "[]", "{}", "3", json.dumps(good | {"shards": [1]}), "[" * 100000):
        (tmp_path / "manifest.json").write_text(bad)
        with pytest.raises(CaptionerError, match=r"manifest\.json: damaged"):
            begin(tmp_path)
    evil = {"0": {"file": "../x", "count": 1, "errors": 0, "inputs": "", "digest": ""}}
    (tmp_path / "manifest.json").write_text(json.dumps(good | {"shards": evil}))
    assert begin(tmp_path).shards == {}
    (tmp_path / "manifest.json").write_text(json.dumps(good | {"format": 9}))
    with pytest.raises(UsageError, match="begun with other format"):
        begin(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UsageError, match="holds captions without a manifest"):
        begin(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"count": "a"},
        {"errors": None},
        {"count": True},
        {"count": 1.5},
        {"count": -1},
        {"count": 10**30, "errors": 10**29},
        {"errors": 9},
        {"digest": 5},
        {"inputs": ["x"]},
        {"file": None},
        {"more": 1},
    ],
    ids=str,
)
def test_a_shard_of_wrong_types(tmp_path: Path, change: dict[str, object]) -> None:
    write(begin(tmp_path), "abc")
    path = tmp_path / "manifest.json"
    values = json.loads(path.read_text())
    values["shards"]["0"] |= change
    path.write_text(json.dumps(values))
    with pytest.raises(CaptionerError, match=r"manifest\.json: damaged \(\w+\); remove the folder"):
        begin(tmp_path)


@pytest.mark.parametrize("digits", ["9" * 5000, "1e5000", "-" + "9" * 5000])
def test_a_manifest_with_long_numbers(tmp_path: Path, digits: str) -> None:
    write(begin(tmp_path), "abc")
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"count": 2', f'"count": {digits}'))
    with pytest.raises(CaptionerError, match=r"manifest\.json: damaged"):
        begin(tmp_path)


def test_two_runs_at_once(tmp_path: Path) -> None:
    with (
        lock_folder(tmp_path / "out"),
        pytest.raises(CaptionerError, match="another `captioner caption` is writing there"),
    ):
        lock_folder(tmp_path / "out")
    lock_folder(tmp_path / "out").close()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        lock_folder(tmp_path / "file")


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(CaptionerError, match=r"manifest\.json: cannot be written: No space left"):
        write(begin(tmp_path), "abc")
    assert not list(tmp_path.glob("*.part"))
    assert not list(tmp_path.glob("captions-*"))


def test_memory_does_not_grow_with_the_photos(tmp_path: Path) -> None:
    import tracemalloc

    def photos(count: int) -> Iterator[PhotoInput]:
        return (PhotoInput(Path(f"{i}.jpg")) for i in range(count))

    def peak(count: int) -> int:
        manifest = begin(tmp_path / str(count), size=500)
        tracemalloc.start()
        write_shards(photos(count), echo, manifest, mine=lambda _: True, candidates=False,
                     finished=manifest.add)  # fmt: skip
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(500)
    assert peak(6000) < 1.5 * peak(2000) + 50_000


@pytest.mark.slow
def test_killed_at_any_moment(tiny_checkpoint: Path, tmp_path: Path) -> None:
    content = {}
    for i in range(60):
        content[f"{i:03d}.png"] = make_photo(tmp_path / "p.png", i).read_bytes()
    tar = make_tar(tmp_path / "a.tar", content)
    command = [sys.executable, "-m", "captioner", "caption", str(tar), "--checkpoint",
               str(tiny_checkpoint), "--shard-size", "5", "--batch-size", "2"]  # fmt: skip
    subprocess.run([*command, "--output", f"{tmp_path}/whole/"], check=True)
    killed = 0
    for attempt in range(30):
        process = subprocess.Popen([*command, "--output", f"{tmp_path}/out/", "--workers", "1"])
        time.sleep(1.5 + 0.15 * attempt)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -9
        if (tmp_path / "out" / "manifest.json").exists():
            manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
            if manifest["complete"]:
                break
    assert killed
    subprocess.run([*command, "--output", f"{tmp_path}/out/"], check=True)
    for file in (tmp_path / "whole").glob("*.jsonl"):
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
    assert not list((tmp_path / "out").glob("*.part"))


class Killed:
    exitcode = -9


def test_a_device_whose_process_was_killed(tmp_path: Path) -> None:
    told: queue.Queue[object] = queue.Queue()
    told.put(("shard", 0, (0, Shard("captions-00000.jsonl", 2, 0, "", ""))))
    manifest = begin(tmp_path)
    with pytest.raises(CaptionerError, match=r"of device cuda:1 was killed \(exit code -9\)"):
        follow(manifest, [Killed()], ["cuda:1"], told)
    assert 0 in manifest.shards  # what it had told before is kept


def test_shard_is_plain() -> None:
    assert Shard("a", 1, 0, "b", "c") == Shard(**vars(Shard("a", 1, 0, "b", "c")))
