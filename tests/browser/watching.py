"""A page that remembers what it loads and what goes wrong in it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Page, Request

# fmt: off
HOSTILE = (
    "<script>document.title = 'run'</script>",
    "\"quotes\" and 'these' & those",
    "</figcaption></figure><img src=x onerror=\"document.title = 'run'\">",
    "</script><script>document.title = 'run'</script>",
    "ein 🐕‍🦺 läuft über die Straße",
    "كلب يجري على العشب الأخضر",
    "\u202egnp.tac",
    "word " * 99 + "word",
    "w" * 500,
    "{{ 7 * 7 }}{% raw %}${7 * 7}",
    "-->]]><!--",
    "javascript:alert(1)",
    "__proto__",
    "line\u2028and\u2029paragraph",
)
# fmt: on
"""Captions and names that a page must show as text, all of them readable at 390 pixels."""

_LOCAL = ("data", "blob", "about")


@dataclass
class Watched:
    """A page, and what it did so far.

    Attributes:
        page: Playwright's page.
        server: The only address that the page may load from, such as `http://127.0.0.1:8000`.
            Default: none, only files.
        requests: The address of every request, in order.
        errors: Errors and warnings on the console, and errors of scripts. A test that provokes one
            checks it and clears the list.
    """

    page: Page
    server: str | None = None
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Of the context, so that windows which a page opens count too.
        context = self.page.context
        context.on("request", self._requested)
        context.on("console", self._said)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))

    def _requested(self, request: Request) -> None:
        self.requests.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.type}: {message.text}")

    def foreign(self) -> list[str]:
        """The requests that went to neither a file nor the server."""
        return [url for url in self.requests if not is_own(url, self.server)]


def is_own(url: str, server: str | None) -> bool:
    """Return whether an address is inside the page, a file, or on the server.

    Example:
        >>> is_own("http://127.0.0.1:80.example.org/", "http://127.0.0.1:80")
        False
    """
    parts = urlsplit(url)
    if parts.scheme in _LOCAL:
        return True
    if parts.scheme == "file":
        return parts.netloc == ""
    return server is not None and parts.netloc == urlsplit(server).netloc


def violations(page: Page, axe: str, tags: Sequence[str]) -> list[str]:
    """Return what axe-core finds in the page as it is now, one line per rule.

    Args:
        page: The page.
        axe: The source of axe-core.
        tags: The groups of rules that apply.
    """
    # The browser's own door for debuggers, which the page's policy does not close.
    page.evaluate(axe)
    found: dict[str, Any] = page.evaluate(
        "tags => axe.run(document, {runOnly: tags, resultTypes: ['violations']})", list(tags)
    )
    return [
        f"{one['id']}: {one['help']}: "
        + "; ".join(" ".join(map(str, node["target"])) for node in one["nodes"][:5])
        for one in found["violations"]
    ]


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    width: int = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return width


def is_dark(page: Page) -> bool:
    """Return whether the page's background is dark and its text light."""
    colours: list[list[int]] = page.evaluate(
        """() => [getComputedStyle(document.body).backgroundColor,
                  getComputedStyle(document.body).color]
                 .map((text) => text.match(/\\d+/g).slice(0, 3).map(Number))"""
    )
    paper, ink = (sum(colour) / 3 for colour in colours)
    return paper < 80 and ink > 170


def focused(page: Page) -> str:
    """Return what has the keyboard's focus: its element, and its name or text."""
    name: str = page.evaluate(
        """() => {
          const it = document.activeElement;
          const text = it.getAttribute('aria-label') || it.labels?.[0]?.textContent
            || it.textContent || '';
          return it.tagName.toLowerCase() + ' ' + text.trim().slice(0, 60);
        }"""
    )
    return name
