"""What is checked before Ray is asked for anything; no Ray is started here."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import make_photo

from captioner.cli import main
from captioner.cluster.connect import (
    differing_version,
    ended_with_head,
    in_one_line,
    own_error,
    versions,
)
from captioner.errors import CaptionerError, UsageError


def command(photo: Path, checkpoint: Path, output: Path, address: str) -> list[str]:
    arguments = f"caption {photo} --checkpoint {checkpoint} --engine ray --output {output}"
    return [*arguments.split(), "--address", address]


def test_nobody_at_the_address_is_told_in_seconds(tmp_path, tiny_checkpoint, capsys) -> None:
    photo = make_photo(tmp_path / "a.png", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    code = main(command(photo, tiny_checkpoint, tmp_path / "out", f"127.0.0.1:{port}"))
    assert code == 1
    assert time.monotonic() - began < 30
    told = capsys.readouterr().err
    assert f"--address 127.0.0.1:{port}: nobody answers" in told
    assert not (tmp_path / "out").exists()


def test_a_process_that_hangs_without_its_head_ends_with_a_message() -> None:
    program = """
import time
from captioner.cluster.connect import ended_with_head

with ended_with_head("127.0.0.1:1", seconds=0.2):
    time.sleep(60)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == (
        "captioner: error: the head of the cluster (127.0.0.1:1) does not answer any more; rerun "
        "the same command to resume\n"
    )


def test_a_head_that_answers_ends_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        host, port = head.getsockname()
        with ended_with_head(f"{host}:{port}", seconds=0.2):
            time.sleep(1.0)
    time.sleep(0.5)  # nor does the head's end after the block


@pytest.mark.parametrize("address", ["head", "ray://10.0.0.1:10001", "10.0.0.1:99999", ":6379"])
def test_an_address_is_a_host_and_a_port(address, tmp_path, tiny_checkpoint, capsys) -> None:
    photo = make_photo(tmp_path / "a.png", 1)
    code = main(command(photo, tiny_checkpoint, tmp_path / "out", address))
    assert code == 2
    assert f"--address {address!r}: expected host:port" in capsys.readouterr().err


def test_without_ray_the_remedy_is_named(tmp_path, tiny_checkpoint, capsys, monkeypatch) -> None:
    monkeypatch.setattr(
        "captioner.commands.cluster_flags.importlib.util.find_spec",
        lambda name: None if name == "ray" else object(),
    )
    photo = make_photo(tmp_path / "a.png", 1)
    code = main(["caption", str(photo), "--engine", "ray", "--output", str(tmp_path / "out")])
    assert code == 1
    assert "ray is not installed; pip install 'captioner[ray]'" in capsys.readouterr().err


def test_without_ray_python_names_the_remedy(monkeypatch) -> None:
    import captioner.cluster

    for name in [one for one in sys.modules if one.startswith("captioner.cluster.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)  # as if not installed
    with pytest.raises(ImportError, match=r"ray is not installed; pip install 'captioner\[ray\]'"):
        captioner.cluster.captions  # noqa: B018


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--engine", "ray"], "add --output FOLDER/"),
        (["--engine", "ray", "--output", "o/", "--workers", "2"], "--workers: Ray decides"),
        (["--engine", "ray", "--output", "o/", "--devices", "0"], "--devices: not with"),
        (["--engine", "ray", "--output", "o/", "--gallery", "g.html"], "--gallery: not with"),
        (["--engine", "ray", "--output", "o/", "--format", "csv"], "writes jsonl or parquet"),
        (["--actors", "2"], "--actors: requires --engine ray"),
        (["--address", "auto"], "--address: requires --engine ray"),
        (["--id-column", "id"], "--id-column: requires --engine ray"),
        (["--format", "parquet"], "--format parquet: requires --engine ray"),
        (["--engine", "spark"], "invalid choice"),
    ],
)
def test_flags_that_contradict_one_another(flags, told, tmp_path, capsys) -> None:
    photo = make_photo(tmp_path / "a.png", 1)
    assert main(["caption", str(photo), *flags]) == 2
    assert told in capsys.readouterr().err


def test_versions_must_agree() -> None:
    own = versions()
    assert own["Python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert {"captioner", "torch", "ray", "pillow"} <= own.keys()
    assert differing_version(own, dict(own)) is None
    other = own | {"torch": "1.0"}
    assert differing_version(own, other) == (
        f"torch 1.0, but {own['torch']} here; install the same version on every machine"
    )
    del other["captioner"]
    told = differing_version(own, other)
    assert told == f"captioner is not installed there; install {own['captioner']} on every machine"


def raised(error: Exception) -> BaseException:
    """The error of a task as Ray raises it."""
    from ray.exceptions import RayTaskError

    trace = f"ray::task() (pid=1)\n  File 'x.py', line 1\n{type(error).__name__}: {error}"
    return RayTaskError("task", trace, error).as_instanceof_cause()


@pytest.mark.parametrize("kind", [CaptionerError, UsageError])
def test_an_error_of_a_task_is_the_line_it_was_there(kind: type[CaptionerError]) -> None:
    error = raised(kind("share 2: no room"))
    assert in_one_line(error) == "share 2: no room"
    assert type(own_error(error)) is kind
    wrapped = RuntimeError("in a thread")
    wrapped.__cause__ = error
    assert in_one_line(wrapped) == "share 2: no room"


def test_an_error_of_another_kind_ends_with_what_went_wrong() -> None:
    error = raised(ValueError("\x1b[36m7\x1b[39m is no shape"))
    assert own_error(error) is None
    assert in_one_line(error) == "ValueError: 7 is no shape"
    text = "x.py\nActorDiedError: gone\n\nThe above exception was the direct cause\nWrapper: retry"
    assert in_one_line(RuntimeError(text)) == "ActorDiedError: gone"
    assert len(in_one_line(RuntimeError("x" * 1000))) == 240
    assert in_one_line(RuntimeError()) == "RuntimeError"
