"""`captioner prepare`: shares, verification, and store errors, each in one line."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import write_jsonl

from captioner.cli import main
from captioner.errors import CaptionerError
from captioner.features.writer import FeatureWriter

SMALL = ("--data.format", "jsonl", "--encoder.name", "squeezenet1_1", "--encoder.weights", "none",
         "--encoder.size", "32", "--seed", "0")  # fmt: skip


@pytest.fixture
def flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    import torch

    build = torch.manual_seed
    monkeypatch.setattr("captioner.features.prepare.build_keyed_encoder", seeded(build))
    root = write_jsonl(tmp_path / "data", train=4, val=2, test=1)
    folders = ["--data.features", tmp_path / "features", "--output", tmp_path / "run"]
    return [*SMALL, "--data.root", str(root), *map(str, folders)]


def seeded(seed):  # type: ignore[no-untyped-def]
    """Fix the seed: an encoder without weights would differ each time."""
    from captioner.features.prepare import build_keyed_encoder

    def build(*arguments):  # type: ignore[no-untyped-def]
        seed(0)
        return build_keyed_encoder(*arguments)

    return build


def test_shares_and_verify(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", *flags, "--verify"]) == 1
    assert "no feature store here; run captioner prepare" in capsys.readouterr().err
    assert main(["prepare", *flags, "--share", "2/2"]) == 0
    assert "0 of 3 photos" in capsys.readouterr().err
    assert not (tmp_path / "run" / "vocabulary.txt").exists()
    assert main(["prepare", *flags, "--share", "1/2"]) == 0
    assert (tmp_path / "run" / "vocabulary.txt").exists()
    capsys.readouterr()
    assert main(["prepare", *flags]) == 0
    assert "has 7 of 7 photos; computing 0 more" in capsys.readouterr().err
    assert main(["prepare", *flags, "--verify"]) == 0
    assert "7 of 7 rows" in capsys.readouterr().err

    (store,) = (tmp_path / "features").iterdir()
    content = bytearray((store / "features-2.bin").read_bytes())
    content[-1] ^= 1
    (store / "features-2.bin").write_bytes(content)
    assert main(["prepare", *flags, "--verify"]) == 1
    told = capsys.readouterr().err
    assert "damaged: features of image 'val1.png' (val1.png)" in told
    assert "6 of 7 rows" in told
    assert "to recompute the damaged ones" in told
    assert main(["prepare", *flags, "--verify"]) == 0  # its row was removed
    assert main(["prepare", *flags]) == 0
    assert "has 6 of 7 photos; computing 1 more" in capsys.readouterr().err
    assert main(["prepare", *flags, "--verify"]) == 0
    assert "7 of 7 rows" in capsys.readouterr().err


def test_a_batch_is_written_whole(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    write = FeatureWriter._write

    def counted(self: FeatureWriter, rows: bytes, lines: list[object]) -> None:
        written.append(len(lines))
        write(self, rows, lines)  # type: ignore[arg-type]

    monkeypatch.setattr(FeatureWriter, "_write", counted)
    for name in ("train1", "val1", "test0"):
        (tmp_path / "data" / f"{name}.png").write_bytes(b"no picture")
    assert main(["prepare", *flags, "--encoder.batch_size", "3"]) == 0
    assert written == [3, 3, 1]  # killed in between, it keeps the finished batches


def test_a_moved_data_set_is_ready_to_train_on(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from captioner.config.parser import config_parser, parse_config
    from captioner.features.prepare import load_prepared

    def told_in_training() -> str:
        config, _ = parse_config(config_parser("train", ""), moved)
        assert len(load_prepared(config).records["train"]) == 4
        return capsys.readouterr().err

    assert main(["prepare", *flags]) == 0
    there = tmp_path / "there"
    shutil.move(tmp_path / "data", there)
    moved = [str(there) if flag == str(tmp_path / "data") else flag for flag in flags]
    assert "times" not in told_in_training()
    for path in there.glob("*.png"):  # a copy that did not keep the times
        os.utime(path, (1, 1))
    assert "7 photos have new modification times but the same content" in told_in_training()
    capsys.readouterr()
    assert main(["prepare", *moved]) == 0
    assert "has 7 of 7 photos; computing 0 more" in capsys.readouterr().err
    assert "times" not in told_in_training()
    assert main(["prepare", *moved, "--verify"]) == 0


@pytest.mark.parametrize("share", ["3/2", "0/2", "x", "1/", "-1/2"])
def test_shares_that_are_none(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", f"--share={share}"]) == 2
    assert "expected I/N, for example 2/4" in capsys.readouterr().err.splitlines()[-1]


def test_outcomes_of_a_store_that_cannot_be_written(
    flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def last_line() -> str:
        return capsys.readouterr().err.splitlines()[-1]

    def refuse(kind: int):  # type: ignore[no-untyped-def]
        def failing(*_: object) -> None:
            import os

            raise OSError(kind, os.strerror(kind))

        return failing

    with monkeypatch.context() as patch:  # a full disk
        patch.setattr("captioner.features.writer._write_all", refuse(errno.ENOSPC))
        assert main(["prepare", *flags]) == 1
        assert "No space left on device; its rows stay valid" in last_line()
    with monkeypatch.context() as patch:  # a folder that may only be read
        patch.setattr(FeatureWriter, "_keep", refuse(errno.EROFS))
        assert main(["prepare", *flags]) == 1
        assert "cannot be written: Read-only file system" in last_line()
    assert main(["prepare", *flags]) == 0
    (store,) = (tmp_path / "features").iterdir()
    header = json.loads((store / "store.json").read_text())
    with FeatureWriter(store, header["key"], header["shape"], header["dtype"]):  # two at once
        assert main(["prepare", *flags]) == 1
        assert "another prepare is writing this store" in last_line()
    (store / "store.json").write_text(json.dumps(header | {"format": 0}))  # an older version
    for verify in ([], ["--verify"]):
        assert main(["prepare", *flags, *verify]) == 1
        assert "written by an older version of captioner" in last_line()


@pytest.mark.parametrize(
    ("flags_of_size", "told"),
    [
        ([], False),  # 40 x 30 pixels to 32 x 32
        (["--encoder.fit", "squash", "--encoder.size", "64"], True),
    ],
)
def test_enlarged_training_photos_set_the_detail_of_larger_ones(
    flags: list[str], flags_of_size: list[str], told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(flags[flags.index("--data.root") + 1]) / "train0.png").write_text("not a picture")
    assert main(["prepare", *flags, "--encoder.fit", "squash", *flags_of_size]) == 0
    line = (
        "training photos are enlarged, from 34 to 64 pixels; "
        "larger photos are reduced to 34 pixels first"
    )
    assert (line in capsys.readouterr().err) is told


def test_views_have_stores_of_their_own(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from captioner.config.parser import parse_config
    from captioner.features.prepare import load_prepared

    def config_of(views: int):  # type: ignore[no-untyped-def]
        from captioner.commands.prepare import build_parser

        return parse_config(build_parser(), [*flags, "--encoder.views", str(views)])[0]

    assert main(["prepare", *flags]) == 0
    assert main(["prepare", *flags, "--encoder.views", "3", "--share", "1/2"]) == 0
    capsys.readouterr()
    with pytest.raises(CaptionerError, match="2 photos have no features or have changed"):
        load_prepared(config_of(3))
    assert main(["prepare", *flags, "--encoder.views", "3"]) == 0
    said = capsys.readouterr().err
    assert "has 7 of 7 photos; computing 0 more" in said
    assert said.count("has 2 of 4 photos; computing 2 more") == 2  # of the training split alone
    assert len(list((tmp_path / "features").iterdir())) == 3
    assert main(["prepare", *flags, "--encoder.views", "3", "--verify"]) == 0
    said = capsys.readouterr().err
    assert "7 of 7 rows" in said
    assert said.count("4 of 4 rows") == 2

    alone, prepared = load_prepared(config_of(1)), load_prepared(config_of(3))
    record = prepared.records["train"][0]
    features = [source(record) for source in (prepared.source, *prepared.views)]
    assert alone.source(record).equal(features[0])
    assert not alone.views
    assert all(not features[i].equal(features[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
