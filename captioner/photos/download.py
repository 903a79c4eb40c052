"""Download a photo over http or https, within limits of size, time and redirects.

A server is as untrusted as a file. It may send a byte per minute, send bytes without end, or
redirect in circles or to files of this machine. The time limit holds for all of a download: name
look-up aside, a timer shuts the connection down, whatever it waits for.
"""

import contextlib
import errno
import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from captioner import __version__
from captioner.photos.address import refusal, scheme_of
from captioner.photos.limits import PhotoError

MAX_DOWNLOAD = 2**26
"""Maximum size of a downloaded photo: 64 MiB."""

MAX_SECONDS = 60.0
"""Maximum time of a download, redirects included."""

MAX_WAIT = 15.0
"""Maximum time to wait for a connection or for its next byte, in seconds."""

MAX_REDIRECTS = 5
"""Maximum number of redirects."""

_REDIRECTS = (301, 302, 303, 307, 308)
_BLOCK = 2**18
_KEPT = "%/:=&?~#+!$,;'@()*[]"  # characters of an address that are not escaped


def download(url: str) -> bytes:
    """Return what an address of http or https gives.

    The system's proxies (`https_proxy`, …) and certificates are used. No password, cookie or
    referrer is sent.

    Raises:
        PhotoError: The address is invalid, the server cannot be reached, refuses, or exceeds a
            limit, or a redirect leads to another scheme (from http to https is allowed).
    """
    with Deadline(MAX_SECONDS) as deadline:
        opener = _opener(deadline)
        for _ in range(MAX_REDIRECTS + 1):
            try:
                content, following = _fetch(opener, url)
            except (PhotoError, OSError, http.client.HTTPException, ValueError) as error:
                if deadline.passed:  # whatever the connection looked like when it was shut down
                    raise _too_slow() from error
                if isinstance(error, PhotoError):
                    raise
                raise PhotoError(_reason(error)) from error
            if deadline.passed:
                raise _too_slow()
            if following is None:
                return content
            url = _redirected(url, following)
    raise PhotoError(f"more than {MAX_REDIRECTS} redirects")


class Deadline:
    """A time limit for connections: when it is over, they are shut down.

    Args:
        seconds: The limit, from entering the block on.

    Attributes:
        passed: Whether it is over.
    """

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._watched: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    def __enter__(self) -> "Deadline":
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        with self._lock:
            for one in self._watched:
                one.close()
            self._watched.clear()

    def connect(self, *arguments: Any, **options: Any) -> socket.socket:
        """Connect like `socket.create_connection`, and shut the connection down in time."""
        made = socket.create_connection(*arguments, **options)
        with self._lock:
            # A copy, because TLS takes the descriptor away from the socket.
            self._watched.append(made.dup())
        if self.passed:
            self._pass()
        return made

    def _pass(self) -> None:
        self.passed = True
        with self._lock:
            for one in self._watched:
                with contextlib.suppress(OSError):  # the server has closed it
                    one.shutdown(socket.SHUT_RDWR)


def _opener(deadline: Deadline) -> OpenerDirector:
    """Return an opener for http and https alone, which follows no redirect by itself."""

    def watched(kind: type[http.client.HTTPConnection]) -> Callable[..., Any]:
        def make(*arguments: Any, **options: Any) -> http.client.HTTPConnection:
            connection = kind(*arguments, **options)
            connection._create_connection = deadline.connect  # type: ignore[attr-defined]
            return connection

        return make

    class Http(HTTPHandler):
        def http_open(self, req: Request) -> http.client.HTTPResponse:
            return self.do_open(watched(http.client.HTTPConnection), req)

    class Https(HTTPSHandler):
        def https_open(self, req: Request) -> http.client.HTTPResponse:
            context = ssl.create_default_context()
            made = watched(http.client.HTTPSConnection)
            return self.do_open(made, req, context=context)

    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        UnknownHandler(),
        Http(),
        Https(),
        HTTPErrorProcessor(),
        HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", f"captioner/{__version__}"), ("Accept", "image/*,*/*")]
    return opener


def _fetch(opener: OpenerDirector, url: str) -> tuple[bytes, str | None]:
    """Return the content at an address, or the address that it redirects to.

    Raises:
        PhotoError: The server refuses, or sends too much or too little.
        OSError: It cannot be reached.
        HTTPException: Its answer is not HTTP.
        ValueError: The address is invalid.
    """
    if "@" in urlsplit(url).netloc:
        raise PhotoError("an address with a user name, which is not supported")
    try:
        response = opener.open(quote(url, safe=_KEPT), timeout=MAX_WAIT)
    except HTTPError as error:
        with error:
            location = error.headers.get("Location")
            if error.code in _REDIRECTS and location:
                return b"", location
            raise PhotoError(f"the server answers {_status(error.code)}") from error
    with response:
        return _body(response), None


def _body(response: http.client.HTTPResponse) -> bytes:
    stated = response.length  # bytes to come; None if the server does not say
    blocks: list[bytes] = []
    size = 0
    while size <= MAX_DOWNLOAD and (stated or 0) <= MAX_DOWNLOAD:
        block = response.read(_BLOCK)
        if not block:
            if stated is not None and size < stated:
                raise PhotoError(f"the connection ended after {size:,} of {stated:,} bytes")
            return b"".join(blocks)
        blocks.append(block)
        size += len(block)
    raise PhotoError(f"a file of more than the {MAX_DOWNLOAD:,} bytes allowed for downloads")


def _redirected(url: str, location: str) -> str:
    """Return the absolute address that a redirect leads to.

    Raises:
        PhotoError: It has another scheme: the server must not name files of this machine, nor end
            encryption.
    """
    try:
        following = urljoin(url, location)
        old, new = scheme_of(url), scheme_of(following)
    except ValueError as error:
        raise PhotoError("redirected to an invalid address") from error
    if refusal(following, allowed=True) or (old == "https" and new == "http"):
        raise PhotoError(f"redirected from {old}:// to {new}://, which is refused")
    return following


def _too_slow() -> PhotoError:
    return PhotoError(f"the download took more than {MAX_SECONDS:g} s")


def _status(code: int) -> str:
    try:
        return f"{code} ({HTTPStatus(code).phrase})"
    except ValueError:
        return str(code)


def _reason(error: Exception) -> str:
    """Return what went wrong, in one line without the address."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return "no secure connection: the server's answer is not TLS, or of an old version"
    if isinstance(cause, TimeoutError):
        return f"the server does not answer within {MAX_WAIT:g} s"
    if isinstance(cause, socket.gaierror):
        return "no such host, or no network"
    if isinstance(cause, OSError):
        if cause.errno == errno.ECONNREFUSED:
            return "the server refuses the connection"
        return f"the connection failed: {' '.join(str(cause.strerror or cause).split())[:200]}"
    if isinstance(error, http.client.InvalidURL | ValueError):
        return "not a valid address"
    return f"not a valid answer of HTTP ({type(error).__name__})"
