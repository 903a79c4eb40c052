"""The gallery of `captioner caption FOLDER --gallery F`, in a browser."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photo
from playwright.sync_api import Page, expect

from browser.watching import HOSTILE, Watched, focused, is_dark, overflow
from captioner.cli import main
from captioner.display import one_line
from captioner.inference.result import Candidate, PhotoCaptions
from captioner.pages.gallery import Entry, gallery

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """A gallery as the command writes it: twelve photos, and a file that is none."""
    folder = tmp_path_factory.mktemp("gallery")
    for i in range(12):
        make_photo(folder / "photos" / f"photo {i}.png", i)
    (folder / "photos" / "broken.jpg").write_bytes(b"not a photo")
    page = folder / "gallery.html"
    given = ["caption", folder / "photos", "--checkpoint", tiny_checkpoint, "--gallery", page]
    more = ["--n-best", "2", "--format", "jsonl", "--quiet"]
    assert main([*map(str, given), *more]) == 1  # for the broken one
    return page


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("hostile") / "gallery.html"
    pixels = np.full((24, 32, 3), 120, np.uint8)
    captioned = []
    for text in HOSTILE:
        both = [Candidate(one, -1.0, -1.0, (), ()) for one in (text, f"second {text}")]
        name = Path(text.replace("/", "_")[:200])
        captioned.append(PhotoCaptions(name, tuple(both), preview=pixels))
        captioned.append(PhotoCaptions(name, error=text))
    page.write_text(gallery([Entry.of(one) for one in captioned]), encoding="utf-8")
    return page


def test_loads_from_disk_and_finds(page: Page, written: Path) -> None:
    page.goto(written.as_uri())
    expect(page.locator("figure")).to_have_count(13)
    expect(page.locator("header")).to_contain_text("13 photos, 1 without a caption")
    images = page.locator("img")
    expect(images).to_have_count(12)
    for i in range(12):
        images.nth(i).scroll_into_view_if_needed()
        expect(images.nth(i)).to_have_js_property("naturalWidth", 40)
    field = page.get_by_role("searchbox")
    field.fill("photo 11")
    expect(page.locator("figure:visible")).to_have_count(1)
    expect(page.locator("#count")).to_have_text("1 shown")
    field.fill("PHOTO")
    expect(page.locator("figure:visible")).to_have_count(12)
    field.fill("no such word")
    expect(page.locator("figure:visible")).to_have_count(0)
    field.fill("")
    expect(page.locator("figure:visible")).to_have_count(13)


def test_works_with_the_keyboard_alone(page: Page, written: Path) -> None:
    page.goto(written.as_uri())
    page.keyboard.press("Tab")
    assert focused(page).startswith("input Find")
    page.keyboard.type("photo 3")
    expect(page.locator("figure:visible")).to_have_count(1)
    page.keyboard.press("Tab")
    assert focused(page) == "summary 1 more"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"  # where the focus is can be seen
    page.keyboard.press("Enter")
    expect(page.locator("figure:visible ol")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_is_accessible(
    page: Page, written: Path, accessible: Callable[[Page], None], scheme: str, width: int
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(written.as_uri())
    assert is_dark(page) == (scheme == "dark")
    assert overflow(page) <= 0
    page.locator("summary").first.click()
    accessible(page)


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_texts_are_shown_and_harmless(
    watched: Watched, hostile: Path, accessible: Callable[[Page], None], width: int
) -> None:
    page = watched.page
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(hostile.as_uri())
    expect(page).to_have_title("Captions")  # no script of theirs ran
    expect(page.locator("figure")).to_have_count(2 * len(HOSTILE))
    expect(page.locator("script")).to_have_count(1)
    assert overflow(page) <= 0
    shown = page.locator("figure:not(.error) .caption").all_text_contents()
    assert shown == [one_line(text) for text in HOSTILE]
    for box in page.locator("figure .caption").all():
        width_inside, width_of_text = box.evaluate("it => [it.clientWidth, it.scrollWidth]")
        assert width_of_text <= width_inside
    page.get_by_role("searchbox").fill("<script>")
    assert page.locator("figure:visible").count() == 4
    accessible(page)
    assert [url for url in watched.requests if not url.startswith("data:")] == [hostile.as_uri()]
