"""The demo page: photos dropped on a page in the browser are captioned by this process.

The page loads nothing from other hosts, and nothing is stored: a photo is read into memory,
captioned and forgotten. See `demo_guard` for who may ask, `demo_settings` and `demo_worker` for the
limits.
"""

import asyncio
import errno
import json
import socket
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.resources import files

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from captioner import __version__
from captioner.checkpoint.file import Checkpoint
from captioner.errors import CaptionerError, UsageError, shown
from captioner.pages.demo_captions import Captions, attends
from captioner.pages.demo_guard import Guard
from captioner.pages.demo_settings import LIMITS, LONGEST_PHRASE, MOST_PHRASES, flags_of
from captioner.pages.demo_worker import GoneError, RefusedError, Worker
from captioner.text.vocabulary import END, SPECIAL_WORDS

MAX_BYTES = 2**25
"""Largest file of a photo, in bytes: 32 MiB."""

MOST_PHOTOS = 24
"""Maximum number of photos on the page."""

_LONGEST_NAME = 255
"""Maximum number of characters in a photo's name."""

_UPLOAD_SECONDS = 60.0
"""Maximum time for sending a photo."""

_CONNECTIONS = 200
"""Maximum number of open connections."""

_OWN = {"demo.css": "text/css", "demo.js": "text/javascript", "demo_light.js": "text/javascript"}
"""Files of the page, and their types."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Raises:
        CaptionerError: The port is in use or not permitted.
        UsageError: This machine has no such address.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"--host: no such address: {host}") from None
    family, _, _, _, address = found[0]
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise CaptionerError(
                f"port {port} is in use; choose another one with --port N, or 0 for any free port"
            ) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"--host: {host} is not an address of this machine") from None
        raise CaptionerError(f"cannot listen on {host}, port {port}: {error.strerror}") from None
    return listening


def serve(captions: Captions, listening: socket.socket, host: str) -> None:
    """Serve the page until a signal arrives, which is then raised again.

    Args:
        captions: Captions of the checkpoints.
        listening: The socket.
        host: The address or name that it listens on.
    """
    worker = Worker()
    config = uvicorn.Config(
        Guard(application(captions, worker), host),
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        worker.close()


def application(captions: Captions, worker: Worker) -> Starlette:
    """Return the page and its one action, `POST /caption`.

    Args:
        captions: Captions of the checkpoints; only the worker's thread uses them.
        worker: Runs them.
    """
    page = render(captions.models)

    def index(request: Request) -> Response:
        return HTMLResponse(page)

    def own(request: Request) -> Response:
        name = request.url.path[1:]
        return Response(_own(name), media_type=_OWN[name])

    async def caption(request: Request) -> Response:
        return await _caption(captions, worker, request)

    routes = [Route("/", index), Route("/caption", caption, methods=["POST"])]
    routes += [Route(f"/{name}", own) for name in _OWN]
    return Starlette(routes=routes, exception_handlers={HTTPException: _refused, Exception: _bug})


def render(models: Sequence[Checkpoint]) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    about = {
        "end": SPECIAL_WORDS[END],
        "maxBytes": MAX_BYTES,
        "mostPhotos": MOST_PHOTOS,
        "mostPhrases": MOST_PHRASES,
    }
    return environment.from_string(_own("demo.html")).render(
        about=json.dumps(about),
        limits=LIMITS,
        longest=MOST_PHRASES * LONGEST_PHRASE,
        models=[(*described(model), attends(model)) for model in models],
        search=models[0].search(),
        version=__version__,
    )


def described(model: Checkpoint) -> tuple[str, str]:
    """Return a checkpoint's name, and a line about it."""
    path, decoder = model.path, model.config.decoder
    name = path.name
    if path.parent.name == "checkpoints":  # of a run's folder
        name = f"{path.parent.parent.name}/{name}"
    cell = decoder.cell.upper() if decoder.cell in ("lstm", "gru") else decoder.cell.title()
    attention = f"{decoder.attention} attention" if attends(model) else "no attention"
    return name, f"{cell}, {attention}, {len(model.vocabulary):,} words"


async def _caption(captions: Captions, worker: Worker, request: Request) -> Response:
    """Caption the photo in the body of a request."""
    try:
        with worker.place():
            model, name, flags = _asked(request.query_params.multi_items())
            async with asyncio.timeout(_UPLOAD_SECONDS):
                content = await _body(request)
            job = partial(captions.answer, model, name, content, flags)
            return JSONResponse(await worker.run(job, _gone(request)))
    except RefusedError as error:
        reason, status = str(error), error.status
    except UsageError as error:
        reason, status = str(error), 400
    except TimeoutError:
        reason, status = f"the photo did not arrive within {_UPLOAD_SECONDS:g} seconds", 408
    except MemoryError:
        reason, status = "out of memory; try a smaller photo or beam", 503
    except (ClientDisconnect, GoneError):
        return Response(status_code=400)  # nobody reads it
    await _drain(request)
    return JSONResponse({"error": reason}, status)


def _asked(query: Iterable[tuple[str, str]]) -> tuple[int, str, tuple[str, ...]]:
    """Return model, name and flags of a query.

    Raises:
        UsageError: One of them is wrong.
    """
    model, name, settings = "0", "photo", []
    for key, value in query:
        if key == "model":
            model = value
        elif key == "name":
            name = value or name
        else:
            settings.append((key, value))
    if not (model.isascii() and model.isdigit() and len(model) < 3):
        raise UsageError(f"model: {shown(model)} is not the number of a checkpoint")
    if len(name) > _LONGEST_NAME:
        raise UsageError(f"name: {len(name)} characters; at most {_LONGEST_NAME} are allowed")
    return int(model), name, flags_of(settings)


async def _body(request: Request) -> bytes:
    """Return the body of a request; it stays in memory.

    Raises:
        RefusedError: It is larger than `MAX_BYTES`.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BYTES:
            raise RefusedError(
                413, f"the photo is larger than the {MAX_BYTES // 2**20} MiB allowed"
            )
        chunks.append(chunk)
    return b"".join(chunks)


async def _drain(request: Request) -> None:
    """Read the rest of a photo: a browser that is still sending it would not see the answer."""
    size = 0
    try:
        async with asyncio.timeout(_UPLOAD_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > 4 * MAX_BYTES:
                    return
    except (ClientDisconnect, TimeoutError, RuntimeError):  # it has been read
        return


async def _gone(request: Request) -> None:
    """Wait until the client closes its connection; the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refused(request: Request, error: Exception) -> Response:
    """Answer in words: there is no such page or method."""
    assert isinstance(error, HTTPException)
    reason = {404: "no such page; the demo is at /", 405: "/caption takes POST"}
    return JSONResponse(
        {"error": reason.get(error.status_code, error.detail)}, error.status_code, error.headers
    )


def _bug(request: Request, error: Exception) -> Response:
    """Answer in words; the server raises the error again, and its traceback is logged."""
    return JSONResponse({"error": "the program failed; its terminal shows why"}, 500)


def _own(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
