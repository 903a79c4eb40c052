"""The fixtures of this folder notice what the tests rely on them to notice."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from browser.conftest import RULES
from browser.watching import Watched, is_dark, is_own, overflow, violations

pytestmark = pytest.mark.slow


@pytest.fixture
def free(browser: Browser) -> Watched:
    """A watched page whose faults do not fail the test."""
    return Watched(browser.new_context(viewport={"width": 390, "height": 800}).new_page())


def test_errors_and_foreign_requests_are_noticed(free: Watched, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<img src='http://other.invalid/a.png'><script>console.error('told');"
        "fetch('http://127.0.0.1:9/x').catch(() => {}); null.x</script>"
    )
    free.page.goto(page.as_uri())
    free.page.wait_for_timeout(300)
    assert set(free.foreign()) == {"http://other.invalid/a.png", "http://127.0.0.1:9/x"}
    assert any("told" in one for one in free.errors)
    assert any("null" in one for one in free.errors)


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("file:///tmp/a.html", True),
        ("file://host/a.html", False),
        ("data:image/png;base64,", True),
        ("http://127.0.0.1:8000/a", True),
        ("ws://127.0.0.1:8000/a", True),
        ("http://127.0.0.1:8001/a", False),
        ("http://127.0.0.1:8000@other.org/", False),
        ("https://example.org/", False),
    ],
)
def test_own_addresses(url: str, own: bool) -> None:
    assert is_own(url, "http://127.0.0.1:8000") == own
    assert not url.startswith("http") or not is_own(url, None)


def test_faults_of_accessibility_are_noticed(free: Watched, axe: str) -> None:
    free.page.set_content(
        "<!doctype html><title>x</title><main><h1>x</h1><img src='data:,'><input>"
        "<button></button><p style='color:#ccc;background:#fff'>pale</p></main>"
    )
    found = " ".join(violations(free.page, axe, RULES))
    for rule in ("image-alt", "label", "button-name", "color-contrast", "html-has-lang"):
        assert rule in found


def test_width_and_darkness_are_measured(free: Watched) -> None:
    free.page.set_content(
        "<!doctype html><body style='background:#fff;color:#000'><div style='width:500px'>wide"
    )
    assert overflow(free.page) >= 110
    assert not is_dark(free.page)
    free.page.set_content("<!doctype html><body style='background:#111;color:#eee'>")
    assert overflow(free.page) == 0
    assert is_dark(free.page)
