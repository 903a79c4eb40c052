"""Fixtures: a browser, a page that is watched, and axe-core."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from browser.watching import Watched, violations

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice")
AXE = Path(sys.prefix) / "axe-core" / "axe.min.js"
"""Where `scripts/browser.sh` puts it."""


def absent(reason: str) -> None:
    """Skip, or fail where `scripts/test.sh` says that the browser must be there."""
    if os.environ.get("CAPTIONER_BROWSER") == "required":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        absent("no Chromium on PATH; `bash scripts/browser.sh` installs Debian's")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    """A fresh window of 1280 x 800 pixels without a network; fails the test on what went wrong."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    context.set_default_timeout(20_000)
    watched = Watched(context.new_page())
    yield watched
    context.close()
    assert watched.foreign() == [], "requests to other hosts"
    assert watched.errors == [], "errors in the page"


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


@pytest.fixture(scope="session")
def axe() -> str:
    if not AXE.is_file():
        absent("axe-core is missing; `bash scripts/browser.sh` fetches it")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture
def accessible(axe: str) -> Callable[[Page], None]:
    def check(page: Page) -> None:
        assert violations(page, axe, RULES) == []

    return check
