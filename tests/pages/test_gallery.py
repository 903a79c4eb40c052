"""The gallery's page: what strangers wrote stays text, and a thousand photos are quick."""

import base64
import hashlib
import io
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captioner.display import one_line
from captioner.inference.result import Candidate, PhotoCaptions
from captioner.pages.gallery import MOST, Entry, gallery, gathered

HOSTILE = (
    "<script>alert(1)</script>",
    "\"quotes\" and 'these' & those",
    "</figcaption></figure><img src=x onerror=alert(1)>",
    "ein 🐕‍🦺 läuft",
    "كلب يجري على العشب",
    "\u202egnp.tac",
    "word " * 100,
    "w" * 500,
    "{{ 7 * 7 }}{% raw %}",
    "\x00\x1b[2J\udcff",
    "</script><!--",
)


class Page(HTMLParser):
    """Counts elements, and keeps the text and every attribute."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def photo(path: str, *captions: str, preview: bool = True) -> PhotoCaptions:
    candidates = tuple(Candidate(one, -1.0, -1.0, (), ()) for one in captions)
    pixels = np.zeros((24, 32, 3), np.uint8) if preview else None
    return PhotoCaptions(Path(path), candidates, preview=pixels)


def page_of(*captioned: PhotoCaptions) -> Page:
    return Page(gallery([Entry.of(one) for one in captioned]))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_captions_names_and_errors_stay_text(text: str) -> None:
    name = text.replace("/", "_").replace("\0", "_")
    page = page_of(
        photo(f"folder/{name}", text, "another " + text),
        PhotoCaptions(Path(name), error=text),
    )
    plain = page_of(photo("folder/a.jpg", "b", "c"), PhotoCaptions(Path("a"), error="b"))
    assert page.tags == plain.tags
    shown = one_line(text)
    assert page.texts.count(shown) >= 2  # as a caption, and as an error
    assert f"another {shown}" in page.texts
    assert one_line(name) in page.texts


@settings(deadline=None, max_examples=100)
@given(st.text(min_size=1, max_size=80))
def test_no_text_becomes_an_element(text: str) -> None:
    name = re.sub(r"[/\0]", "_", text)
    page = page_of(photo(name, text))
    assert page.tags == page_of(photo("a", "b")).tags
    assert [name for _, name, _ in page.attributes if name.startswith("on")] == []


def test_nothing_is_loaded_and_only_its_own_script_runs() -> None:
    html = gallery([Entry.of(photo("a.jpg", "b"))])
    page = Page(html)
    links = [value for _, name, value in page.attributes if name in ("src", "href", "srcset")]
    assert links
    assert all((link or "").startswith("data:image/jpeg;base64,") for link in links)
    (policy,) = [value for tag, name, value in page.attributes if (value or "")[:8] == "default-"]
    assert policy is not None
    for element, directive in (("script", "script-src"), ("style", "style-src")):
        (own,) = re.findall(f"<{element}>(.*?)</{element}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_thumbnails_keep_their_shape() -> None:
    wide = PhotoCaptions(
        Path("w.jpg"),
        (Candidate("x", -1.0, -1.0, (), ()),),
        preview=np.full((100, 900, 3), 200, np.uint8),
    )
    entry = Entry.of(wide)
    assert entry.thumbnail is not None
    with Image.open(io.BytesIO(base64.b64decode(entry.thumbnail))) as picture:
        assert picture.format == "JPEG"
        assert picture.size == (entry.width, entry.height) == (256, 28)


def test_a_page_is_written_when_all_are_through(tmp_path: Path) -> None:
    page = tmp_path / "g.html"
    passing = gathered(iter([photo("a.jpg", "one"), photo("b.jpg", "two")]), str(page))
    assert next(passing).caption == "one"
    next(passing)
    assert not page.exists()
    assert list(passing) == []
    assert "2 photos" in page.read_text(encoding="utf-8")
    assert list(gathered(iter([]), str(tmp_path / "none.html"))) == []
    assert not (tmp_path / "none.html").exists()


def test_a_page_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert MOST >= 1000
    monkeypatch.setattr("captioner.pages.gallery.MOST", 2)
    page = tmp_path / "g.html"
    assert len(list(gathered((photo(f"{i}.jpg", "x") for i in range(5)), str(page)))) == 5
    html = page.read_text()
    assert html.count("<figure") == 2
    assert "the 3 after these are left out" in html
    assert "3 are left out" in capsys.readouterr().err


def test_a_thousand_photos_are_quick() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(noise).resize((20, 15)).resize((320, 240)))
    candidates = (Candidate("a dog", -1.0, -1.0, (), ()),)
    began = time.perf_counter()
    html = gallery(
        [Entry.of(PhotoCaptions(Path(f"{i}.jpg"), candidates, preview=smooth)) for i in range(1000)]
    )
    assert time.perf_counter() - began < 10
    assert len(html) < 30_000_000
