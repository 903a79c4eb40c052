"""Shares of a folder of captions, written by processes that do not know of each other."""

import json
from pathlib import Path

import pytest
from conftest import make_photo

from captioner.cli import main
from captioner.files.lock import take_lock


@pytest.fixture
def given(tmp_path: Path, tiny_checkpoint: Path) -> list[str]:
    for i in range(7):
        make_photo(tmp_path / "in" / f"{i}.png", i)
    (tmp_path / "in" / "bad.png").write_bytes(b"no photo")
    own = ["--checkpoint", str(tiny_checkpoint), "--shard-size", "2", "--batch-size", "2"]
    return ["caption", str(tmp_path / "in"), *own]


def test_shares_merge_into_what_one_process_writes(given, tmp_path, capsys) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    assert main([*given, "--output", f"{one}/"]) == 1  # one photo is bad
    codes = [main([*given, "--output", f"{many}/", "--share", f"{i}/3"]) for i in (3, 1, 2)]
    assert codes == [0, 1, 0] or sorted(codes) == [0, 0, 1]
    assert "when all are, run: captioner merge" in capsys.readouterr().err
    assert main(["merge", str(many)]) == 1
    assert "4 files with 8 photos are complete" in capsys.readouterr().err
    assert main(["merge", str(many)]) == 1  # once more changes nothing
    names = sorted(path.name for path in one.iterdir())
    assert sorted(path.name for path in many.iterdir()) == names
    for name in names:
        if name != "lock":
            assert (many / name).read_bytes() == (one / name).read_bytes(), name


def test_more_shares_than_files(given, tmp_path) -> None:
    for i in range(1, 7):
        main([*given, "--output", f"{tmp_path}/out/", "--share", f"{i}/6"])
    assert main(["merge", f"{tmp_path}/out"]) == 1
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["count"] == 8


def test_a_share_resumes(given, tmp_path, capsys) -> None:
    share = [*given, "--output", f"{tmp_path}/out/", "--share", "1/2"]
    main(share)
    (tmp_path / "out" / "captions-00002.jsonl").write_text("damaged\n")
    capsys.readouterr()
    main(share)
    assert "already holds 2 photos of share 1" in capsys.readouterr().err


def missing(folder: Path) -> None:
    (folder / "manifest-2-of-2.json").unlink()


def unfinished(folder: Path) -> None:
    path = folder / "manifest-2-of-2.json"
    path.write_text(path.read_text().replace('"complete": true', '"complete": false'))


def damaged(folder: Path) -> None:
    (folder / "captions-00001.jsonl").write_text("damaged\n")


def other_inputs(folder: Path) -> None:
    path = folder / "manifest-2-of-2.json"
    path.write_text(path.read_text().replace('"count": 8,', '"count": 9,'))


def no_manifest(folder: Path) -> None:
    (folder / "manifest-2-of-2.json").write_text("[]")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (missing, "share 2 of 2 is missing; rerun `captioner caption` with --share 2/2"),
        (unfinished, "share 2 of 2 is not finished; rerun"),
        (damaged, "file 1 is missing or damaged; rerun `captioner caption` with --share 2/2"),
        (other_inputs, "shares 1 and 2 of 2 differ in count"),
        (no_manifest, "manifest-2-of-2.json: damaged"),
    ],
)
def test_what_is_missing_is_named(harm, told, given, tmp_path, capsys) -> None:
    for i in (1, 2):
        main([*given, "--output", f"{tmp_path}/out/", "--share", f"{i}/2"])
    harm(tmp_path / "out")
    capsys.readouterr()
    assert main(["merge", f"{tmp_path}/out"]) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--share", "1/3"], "was begun in 2 shares, not 3"),
        ([], "holds captions of shares; run `captioner merge"),
        (["--share", "3/2"], "--share '3/2': expected I/N"),
        (["--share", "1/2", "--beam-size", "3"], "was begun with other --beam-size"),
    ],
)
def test_calls_that_do_not_fit(more, told, given, tmp_path, capsys) -> None:
    main([*given, "--output", f"{tmp_path}/out/", "--share", "1/2"])
    capsys.readouterr()
    assert main([*given, "--output", f"{tmp_path}/out/", *more]) == 2
    assert told in capsys.readouterr().err


def test_merge_needs_shares(tmp_path, capsys) -> None:
    assert main(["merge", str(tmp_path / "none")]) == 2
    assert main(["merge", str(tmp_path)]) == 2
    assert "holds no captions of `captioner caption --share I/N`" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "lock"] or not list(tmp_path.iterdir())


def test_share_needs_a_folder(given, capsys) -> None:
    assert main([*given[:4], "--share", "1/2"]) == 2
    assert "--share: shares write one folder" in capsys.readouterr().err


def test_one_process_per_share(given, tmp_path, capsys) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with (folder / "lock-1").open("ab") as other:
        assert take_lock(other)
        assert main([*given, "--output", f"{folder}/", "--share", "1/2"]) == 1
        assert "another process is writing share 1 of 2" in capsys.readouterr().err
