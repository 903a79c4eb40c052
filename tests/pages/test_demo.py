"""The demo's server: answers equal the command line's, and everything bad is answered in words."""

import asyncio
import json
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_photo, save_checkpoint, tiny_config

from captioner import checkpoint
from captioner.cli import main
from captioner.commands.demo import strategy_of
from captioner.config.schema import DecoderConfig, EncoderConfig

pytest.importorskip("uvicorn")
pytest.importorskip("httpx")

from starlette.testclient import TestClient

from captioner.pages import demo
from captioner.pages.demo_captions import Captions
from captioner.pages.demo_guard import Guard
from captioner.pages.demo_worker import GoneError, RefusedError, Worker

ENCODER = EncoderConfig(
    name="squeezenet1_1", weights="none", size=48, fit="squash", features="grid"
)
DECODER = DecoderConfig(
    cell="gru", embedding_size=8, hidden_size=12, attention="adaptive", attention_size=6
)

SETTINGS: list[dict[str, Any]] = [
    {},
    {"n_best": "3", "beam_size": "4"},
    {"n_best": "2", "require": ["dog", "red"], "max_length": "9"},
    {"ban": ["a red", "dog"], "min_length": "3", "length_norm": "average", "n_best": "2"},
    {"sample": "4", "seed": "3", "temperature": "1.5"},
    {"sample": "6", "top_p": "0.9", "top_k": "5", "rerank": "consensus", "n_best": "2"},
]


@pytest.fixture(scope="module")
def attending(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(encoder=ENCODER, decoder=DECODER)
    return save_checkpoint(tmp_path_factory.mktemp("attending") / "a.ckpt", config)


@pytest.fixture(scope="module")
def client(attending: Path, tiny_checkpoint: Path) -> Iterator[TestClient]:
    models = [checkpoint.load(attending), checkpoint.load(tiny_checkpoint)]
    captions = Captions(models, torch.device("cpu"), strategy_of)
    worker = Worker()
    app = Guard(demo.application(captions, worker), "127.0.0.1")
    yield TestClient(app, base_url="http://127.0.0.1:7860", client=("127.0.0.1", 1))
    worker.close()


def ask(client: TestClient, content: bytes, **query: Any) -> Any:
    response = client.post("/caption", params=query, content=content)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: " ".join(one) or "none")
@pytest.mark.parametrize("model", [0, 1])
def test_answers_equal_the_command_lines(
    model: int,
    settings: dict[str, Any],
    client: TestClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command of the answer, run as it is, prints the record of the answer."""
    name = "my dog.png"
    photo = make_photo(tmp_path / name, 5)
    answer = ask(client, photo.read_bytes(), name=name, model=model, **settings)
    program, *arguments = shlex.split(answer["command"])
    assert program == "captioner"
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out) == answer["record"]
    assert ("attention" in answer["record"]) == (model == 0)
    assert answer["size"] == [40, 30]
    assert answer["box"] == ([0, 0, 40, 30] if model == 0 else None)
    assert answer["preview"].startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize("content", [b"", b"no photo", b"\xff\xd8\xff\xe0" + b"x" * 500])
def test_bad_photos_are_answered_as_on_the_command_line(
    content: bytes,
    client: TestClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bad.jpg").write_bytes(content)
    answer = ask(client, content, name="bad.jpg")
    monkeypatch.chdir(tmp_path)
    assert main([*answer["command"].split()[1:], "--device", "cpu"]) == 1
    assert json.loads(capsys.readouterr().out) == answer["record"]
    assert "preview" not in answer


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("beam_size=99", "beam_size: '99' is not a whole number from 1 to 20"),
        ("n_best=3&beam_size=2", "n_best: 3 is more than beam_size 2; at most 2"),
        ("require=dog&ban=dog", "require: 'dog' holds 'dog', which ban forbids"),
        ("require=zebra", "require: the captioner does not know 'zebra'"),
        ("sample=3&require=dog", "--require applies to beam search"),
        ("temperature=2", "--temperature applies to samples"),
        ("min_length=9&max_length=4", "min_length: 9 is more than max_length 4"),
        ("model=2", "model: 2 is not a number from 0 to 1"),
        ("model=x", "model: 'x' is not the number of a checkpoint"),
        ("name=" + "n" * 256, "name: 256 characters; at most 255 are allowed"),
    ],
)
def test_wrong_settings_are_answered_in_words(
    query: str, reason: str, client: TestClient, photos: list[Path]
) -> None:
    response = client.post(f"/caption?{query}", content=photos[0].read_bytes())
    assert response.status_code == 400
    assert response.json()["error"].startswith(reason)


def test_large_photos_are_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "MAX_BYTES", 2**20)
    response = client.post("/caption", content=b"x" * (2**20 + 1))
    assert (response.status_code, response.json()) == (
        413,
        {"error": "the photo is larger than the 1 MiB allowed"},
    )


def test_other_pages_and_methods(client: TestClient) -> None:
    assert client.get("/../etc/passwd").status_code == 404
    assert client.get("/captions").json() == {"error": "no such page; the demo is at /"}
    assert client.get("/caption").json() == {"error": "/caption takes POST"}
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403
    refused = client.post("/caption", content=b"x", headers={"origin": "http://evil.example"})
    assert refused.status_code == 403


def test_every_answer_carries_the_policy(client: TestClient) -> None:
    for response in (client.get("/"), client.get("/demo.js"), client.get("/nothing")):
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert response.headers["cache-control"] == "no-store"


def test_hostile_names_of_checkpoints_stay_text(tiny_checkpoint: Path) -> None:
    from dataclasses import replace

    name = "\"><script>alert('1')</script>"
    page = demo.render([replace(checkpoint.load(tiny_checkpoint), path=Path(name))])
    assert "<script>alert" not in page
    assert page.count("<script") == 2


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run in a thread of its own: Playwright's loop keeps running in this one, after its tests."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, scenario).result()


def test_a_bounded_number_of_requests_waits() -> None:
    async def scenario() -> None:
        worker = Worker(places=2, seconds=30)
        with worker.place(), worker.place():
            reason = "2 photos are waiting already"
            with pytest.raises(RefusedError, match=reason) as error, worker.place():
                pass
            assert error.value.status == 503
        with worker.place():
            pass
        worker.close()

    run(scenario())


def test_time_is_bounded_and_the_queue_moves_on() -> None:
    async def scenario() -> None:
        worker = Worker(places=4, seconds=0.2)
        ends, forever = threading.Event(), asyncio.Event()
        ran: list[str] = []
        with pytest.raises(RefusedError, match=r"no answer within 0\.2 seconds") as error:
            await worker.run(ends.wait, _until(forever))
        assert error.value.status == 504
        worker.seconds = 60
        # It waits behind the slow one, and is dropped when its client goes.
        gone = asyncio.Event()
        gone.set()
        with pytest.raises(GoneError):
            await worker.run(lambda: ran.append("dropped"), _until(gone))
        ends.set()
        assert await worker.run(lambda: "answer", _until(forever)) == "answer"
        assert ran == []
        worker.close()

    run(scenario())


async def _until(event: asyncio.Event) -> None:
    await event.wait()


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 1
    assert capsys.readouterr().err == (
        f"captioner: error: port {port} is in use; choose another one with --port N, or 0 for any "
        "free port\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--checkpoint", "a"] * 3, 2, "--checkpoint: given 3 times"),
        (["--port", "70000"], 2, "--port 70000: at most 65535"),
        (["--host", "nowhere.invalid", "--port", "0"], 2, "--host: no such address"),
        (["--host", "192.0.2.1", "--port", "0"], 2, "--host: 192.0.2.1 is not an address of this"),
        (["--checkpoint", "none.ckpt", "--port", "0"], 2, "no such checkpoint"),
    ],
)
def test_wrong_calls(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *arguments]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_a_missing_extra_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "captioner.pages.demo", None)
    for name in [one for one in sys.modules if one.split(".")[0] in ("uvicorn", "starlette")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "captioner.pages.demo")
    monkeypatch.delattr("captioner.pages.demo", raising=False)
    assert main(["demo"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pip install 'captioner[demo]'" in error


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it(number: int, code: int, tiny_checkpoint: Path) -> None:
    command = [sys.executable, "-m", "captioner", "demo", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(
        [*command, "--checkpoint", str(tiny_checkpoint)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stderr is not None
        assert "the demo is at http://127.0.0.1:" in process.stderr.readline()
        process.send_signal(number)
        assert process.wait(60) == code
        assert process.stderr.read().count("\n") == 1
