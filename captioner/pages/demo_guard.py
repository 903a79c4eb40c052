"""Keeps other web sites out of the demo page.

Any page that a browser shows may send requests to 127.0.0.1. Two checks refuse them: the `Host`
header must name this machine, which defeats DNS rebinding (a stranger's domain that suddenly
resolves to 127.0.0.1), and the `Origin` of a request must be the page itself.
"""

import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names under which a browser on this machine reaches a server on 127.0.0.1."""

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob: data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Sent with every answer: the page loads nothing from other hosts and is in no frame."""


def names_of(host: str) -> frozenset[str] | None:
    """Return the names that `Host` may have where the server listens on an address.

    Args:
        host: The address or name that the server listens on.

    Returns:
        The names for a loopback address. None for another one: then this machine's names and every
        numeric address are allowed, because no stranger's domain is one.
    """
    if host in LOOPBACK:
        return LOOPBACK
    try:
        return LOOPBACK | {host} if ipaddress.ip_address(host).is_loopback else None
    except ValueError:
        return None


def refusal(headers: Mapping[str, str], host: str) -> str | None:
    """Return why a request is refused, or None.

    Args:
        headers: Of the request, with names in lower case.
        host: The address or name that the server listens on.
    """
    asked = headers.get("host", "")
    name = _name(asked)
    allowed = names_of(host)
    if allowed is None:
        allowed = LOOPBACK | {host.lower(), *_own_names()}
        if name not in allowed and not _is_address(name):
            return f"this server is not {asked[:100]!r}; use its address, or start it with --host"
    elif name not in allowed:
        return f"this server is not {asked[:100]!r}; open http://127.0.0.1 with its port"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != asked.lower():
        return "requests from other web sites are refused"
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return "requests from other web sites are refused"
    return None


class Guard:
    """Refuses requests of other web sites, and adds `HEADERS` to every answer.

    Args:
        app: The application behind it.
        host: The address or name that the server listens on.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        reason = refusal(Headers(scope=scope), self._host)
        if reason is not None:
            await JSONResponse({"error": reason}, 403)(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)


def _name(host: str) -> str:
    """Return the name in a `Host` header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _own_names() -> set[str]:
    name = socket.gethostname().lower()
    return {name, f"{name.partition('.')[0]}.local"}
