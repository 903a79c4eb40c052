"""Photos from addresses: what works, what each server may do wrong, and what is never asked for."""

import io
import json
import pickle
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import make_photo
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioner.cli import main
from captioner.inference.predictor import Predictor
from captioner.photos import download as module
from captioner.photos.address import Address, refusal, scheme_of
from captioner.photos.download import download
from captioner.photos.limits import PhotoError
from captioner.photos.source import PhotoSource

PHOTO = io.BytesIO()
Image.effect_noise((30, 20), 50).convert("RGB").save(PHOTO, "PNG")
Answer = Callable[[BaseHTTPRequestHandler], None]


def answer(request: BaseHTTPRequestHandler, code: int, body: bytes = b"", **headers: str) -> None:
    request.send_response(code)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def slow_body(request: BaseHTTPRequestHandler) -> None:
    answer(request, 200, Content_Length="100")
    for _ in range(100):
        request.wfile.write(b"x")
        time.sleep(0.05)


def slow_headers(request: BaseHTTPRequestHandler) -> None:
    for _ in range(100):
        request.wfile.write(b"X")
        request.wfile.flush()
        time.sleep(0.05)


def endless(request: BaseHTTPRequestHandler) -> None:
    answer(request, 200)
    while True:
        request.wfile.write(bytes(2**16))


def endless_redirect(request: BaseHTTPRequestHandler) -> None:
    answer(request, 302, Location="/photo.png")
    while True:
        request.wfile.write(bytes(2**16))


ANSWERS: dict[str, Answer] = {
    "/photo.png": lambda r: answer(r, 200, PHOTO.getvalue(), Content_Type="image/png"),
    "/a%20b/%C3%BC.png?x=1&y=%2F": lambda r: answer(r, 200, PHOTO.getvalue()),
    "/moved": lambda r: answer(r, 301, Location="photo.png"),
    "/twice": lambda r: answer(r, 307, Location="/moved"),
    "/loop": lambda r: answer(r, 302, Location="/loop"),
    "/file": lambda r: answer(r, 302, Location="file:///etc/passwd"),
    "/ftp": lambda r: answer(r, 302, Location="ftp://localhost/a"),
    "/odd-redirect": lambda r: answer(r, 302, Location="http://[x"),
    "/nowhere": lambda r: answer(r, 302),
    "/gone": lambda r: answer(r, 410, b"<html>"),
    "/failing": lambda r: answer(r, 599),
    "/page": lambda r: answer(r, 200, b"<!doctype html><p>Hello", Content_Type="text/html"),
    "/empty": lambda r: answer(r, 200),
    "/cut": lambda r: answer(r, 200, PHOTO.getvalue()[:99], Content_Length="1000"),
    "/large": lambda r: answer(r, 200, b"x", Content_Length=str(10**12)),
    "/no-http": lambda r: r.wfile.write(b"SSH-2.0-OpenSSH\r\n") and None,
    "/silent": lambda r: time.sleep(3),
    "/slow": slow_body,
    "/slow-headers": slow_headers,
    "/endless": endless,
    "/endless-redirect": endless_redirect,
}


class Handler(BaseHTTPRequestHandler):
    """Answers by path, as the tests want it."""

    def do_GET(self) -> None:
        try:
            found = ANSWERS.get(self.path)
            found(self) if found else answer(self, 404)
        except OSError:
            pass  # the client has gone

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SECONDS", 0.6)
    monkeypatch.setattr(module, "MAX_WAIT", 0.4)
    monkeypatch.setattr(module, "MAX_DOWNLOAD", 2**20)


@pytest.mark.parametrize("path", ["/photo.png", "/moved", "/twice", "/a b/ü.png?x=1&y=%2F#part"])
def test_what_a_server_gives(server: str, path: str) -> None:
    assert download(server + path) == PHOTO.getvalue()
    assert download(server.replace("http", "HTTP") + path) == PHOTO.getvalue()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/missing.png", "the server answers 404 (Not Found)"),
        ("/gone", "the server answers 410 (Gone)"),
        ("/failing", "the server answers 599"),
        ("/nowhere", "the server answers 302 (Found)"),
        ("/loop", "more than 5 redirects"),
        ("/file", "redirected from http:// to file://, which is refused"),
        ("/ftp", "redirected from http:// to ftp://, which is refused"),
        ("/odd-redirect", "redirected to an invalid address"),
        ("/cut", "the connection ended after 99 of 1,000 bytes"),
        ("/large", "more than the 1,048,576 bytes allowed"),
        ("/endless", "more than the 1,048,576 bytes allowed"),
        ("/no-http", "not a valid answer of HTTP"),
        ("/silent", "the server does not answer within 0.4 s"),
        ("/slow", "the download took more than 0.6 s"),
        ("/slow-headers", "the download took more than 0.6 s"),
    ],
)
def test_what_a_server_may_do_wrong(server: str, path: str, reason: str, impatient: None) -> None:
    began = time.perf_counter()
    with pytest.raises(PhotoError) as error:
        download(server + path)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert time.perf_counter() - began < 3


def test_body_of_a_redirect_is_not_read(server: str, impatient: None) -> None:
    assert download(server + "/endless-redirect") == PHOTO.getvalue()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://no-such-host.invalid/a.jpg", "no such host"),
        ("http://user:secret@127.0.0.1/a.jpg", "a user name"),
        ("http://127.0.0.1:port/a.jpg", "not a valid address"),
        ("http://[::1/a.jpg", "not a valid address"),
        ("http:///a.jpg", ""),
        ("http://a..b/a.jpg", ""),
    ],
)
def test_invalid_addresses(url: str, reason: str) -> None:
    with pytest.raises(PhotoError) as error:
        download(url)
    assert reason in str(error.value)
    assert "secret" not in str(error.value)


def test_server_that_refuses_or_has_no_tls(server: str, impatient: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(PhotoError, match="the server refuses the connection"):
        download(f"http://127.0.0.1:{port}/a.jpg")
    with pytest.raises(PhotoError, match=r"no secure connection|does not answer|took more"):
        download(server.replace("http", "https") + "/photo.png")


def test_certificate_that_nobody_signed(tmp_path: Path) -> None:
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    ).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "both.pem"
    file.write_bytes(certificate.public_bytes(pem) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.handle_error = lambda *_: None  # type: ignore[method-assign]
    made.socket = context.wrap_socket(made.socket, server_side=True)
    thread = threading.Thread(target=made.handle_request)
    thread.start()
    with pytest.raises(PhotoError, match="the server's certificate is not trusted: self"):
        download(f"https://127.0.0.1:{made.server_port}/photo.png")
    thread.join()
    made.server_close()


def test_slow_handshake_of_tls_ends_in_time(impatient: None) -> None:
    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            try:
                connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB
                for _ in range(100):
                    connection.sendall(b"\x02")
                    time.sleep(0.05)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,))
        thread.start()
        with pytest.raises(PhotoError, match=r"took more than|within 0\.4 s"):
            download(f"https://127.0.0.1:{listening.getsockname()[1]}/a.jpg")
        thread.join()


# From Python and from the command line


def test_predictor_takes_addresses_where_allowed(server: str, tiny_checkpoint: Path) -> None:
    url = f"{server}/a//..//photo.png"  # not what a path would make of it
    ANSWERS["/a//..//photo.png"] = ANSWERS["/photo.png"]
    predictor = Predictor.load(tiny_checkpoint, device="cpu", allow_url=True)
    wanted = predictor.caption(PHOTO.getvalue())
    found = predictor.caption(url)
    assert (found.caption, str(found.path)) == (wanted.caption, url)
    photos = [url, f"{server}/page", f"{server}/empty", "ftp://a/b", "FILE:///etc/passwd", "x.jpg"]
    errors = [one.error for one in predictor.caption(photos)]
    assert errors == [
        None,
        "a web page, not a photo: download the photo again",
        "the file is empty",
        "an address of ftp://, which is not read; only http:// and https:// are",
        "an address of file://, which is not read; only http:// and https:// are",
        "no such file",
    ]
    assert len(predictor.score(url, ["a dog"])) == 1


def test_predictor_downloads_nothing_by_default(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "download", lambda url: pytest.fail(url))
    found = Predictor.load(tiny_checkpoint, device="cpu").caption("http://127.0.0.1:9/a.jpg")
    assert found.error == (
        "an address: to download photos, add --allow-url (in Python: allow_url=True)"
    )


def test_command_line(
    server: str, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text(f"{server}/photo.png\n{server}/missing.png\ns3://bucket/a.jpg\n")
    tiny = ["--checkpoint", str(tiny_checkpoint), "--device", "cpu", "--format", "jsonl"]
    given = ["caption", "--list", str(names), *tiny]
    assert main([*given, "--allow-url"]) == 1
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["image"] for one in records] == names.read_text().split()
    assert records[0]["caption"]
    assert "404" in records[1]["error"]
    assert "only http:// and https://" in records[2]["error"]
    assert main(given) == 1
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all("--allow-url" in one["error"] for one in records[:2])


@pytest.mark.parametrize(
    "command",
    [
        ["caption", "https://example.org/a.jpg"],
        ["score", "https://example.org/a.jpg", "--captions", "f"],
        ["inspect", "https://example.org/a.jpg", "--output", "o"],
    ],
)
def test_flag_is_missing(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("captioner: error: https://example.org/a.jpg: an address")
    assert "--allow-url" in error
    assert error.count("\n") == 1


def test_address_has_no_sidecar(
    server: str, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = make_photo(tmp_path / "a.png", 1)
    given = ["caption", f"{server}/photo.png", str(photo), "--allow-url", "--sidecar", ".txt"]
    assert main([*given, "--checkpoint", str(tiny_checkpoint)]) == 1
    assert "photo.png: an address has no folder for a sidecar" in capsys.readouterr().err
    assert (tmp_path / "a.txt").is_file()


@given(st.text(), st.sampled_from(["http", "HTTPS", "ftp", "file", "c", ""]))
def test_address_keeps_its_text(rest: str, scheme: str) -> None:
    url = f"{scheme}://{rest}"
    assert (scheme_of(url) is not None) == (scheme not in ("c", ""))
    if "\0" not in url and scheme_of(url):
        assert str(Address(url)) == url
        assert str(pickle.loads(pickle.dumps(PhotoSource(Address(url)))).path) == url
        assert (refusal(url, allowed=True) is None) == (scheme in ("http", "HTTPS"))
