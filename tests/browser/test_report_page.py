"""The report of `captioner report`, in a browser."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from browser.report_material import material
from browser.watching import HOSTILE, Watched, focused, is_dark, overflow
from captioner.display import one_line
from captioner.pages.report import write_report

pytestmark = pytest.mark.slow

PAGE = "index.html"
METRICS = ("BLEU", "ROUGE-L", "CIDEr-D")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models and forty photos."""
    folder = tmp_path_factory.mktemp("report")
    write_report(folder / "report", material(folder / "photos"), metrics=METRICS, resamples=200)
    return folder / "report" / PAGE


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hostile names, captions and references, and a hostile name of each model."""
    folder = tmp_path_factory.mktemp("hostile")
    extra = [(text, [text, f"other {text}"], [text, f"second {text}"]) for text in HOSTILE]
    made = material(count=4, extra=extra)
    models = tuple(
        type(model)(name, model.system, model.log_probs, model.attention)
        for model, name in zip(made.models, (HOSTILE[0], HOSTILE[8]), strict=True)
    )
    made = type(made)(HOSTILE[2], models, made.names, made.photos)
    write_report(folder / "report", made, metrics=METRICS, resamples=50)
    return folder / "report" / PAGE


def cards(page: Page) -> list[str]:
    """The names of the images in the list, in order."""
    return page.locator(".card .name").all_text_contents()


def open_gallery(page: Page, path: Path, query: str = "") -> None:
    page.goto(path.as_uri() + query)
    page.locator("#images").scroll_into_view_if_needed()
    page.evaluate("document.getElementById('images').scrollIntoView()")
    expect(page.locator(".card").first).to_be_visible()


def test_loads_from_disk_with_its_photos(watched: Watched, written: Path) -> None:
    page = watched.page
    open_gallery(page, written)
    expect(page).to_have_title("Animals")
    expect(page.locator("#count")).to_contain_text("40 of 40 images; mean CIDEr-D")
    expect(page.locator(".card img").first).to_have_js_property("naturalWidth", 40)
    assert {url.split(":")[0] for url in watched.requests} == {"file"}
    expect(page.locator("#scores tbody tr")).to_have_count(6)
    expect(page.locator("#comparison")).to_contain_text("worse")
    assert page.locator("#distributions svg rect").count() > 40


def test_sorts_by_any_score_of_any_model(page: Page, written: Path) -> None:
    open_gallery(page, written)
    values = page.evaluate("REPORT.models.map((m) => m.scores.find(([n]) => n === 'CIDEr-D')[1])")

    def shown() -> list[float]:
        page.wait_for_timeout(50)
        texts = page.locator(".card p:nth-child(2) .value").all_text_contents()
        return [float(text) for text in texts]

    page.get_by_label("of", exact=True).select_option(label="second")
    assert shown() == sorted(values[1])[: len(shown())]
    page.get_by_label("order").select_option("high")
    assert shown() == sorted(values[1], reverse=True)[: len(shown())]
    page.get_by_label("Sort by").select_option("length")
    assert shown()[0] == 4
    page.get_by_label("Sort by").select_option("name")
    page.get_by_label("order").select_option("low")
    assert cards(page)[:3] == ["photo-0.png", "photo-1.png", "photo-10.png"]
    page.get_by_label("Sort by").select_option("probability")
    assert shown() == [-1.5] * len(shown())


def test_filters(page: Page, written: Path) -> None:
    open_gallery(page, written)
    count = page.locator("#count")
    page.get_by_label("Find words").fill("cat")
    expect(count).to_contain_text("8 of 40")
    page.get_by_label("Find words").fill("ca")
    expect(count).to_contain_text("0 of 40")
    page.get_by_label("Find words").fill("ca*")
    expect(count).to_contain_text("8 of 40")
    page.get_by_label("Find words").fill("photo-39")
    expect(count).to_contain_text("1 of 40")
    page.get_by_label("Find words").fill("small")
    expect(count).to_contain_text("40 of 40")
    page.get_by_label("in", exact=True).select_option("captions")
    expect(count).to_contain_text("0 of 40")
    page.get_by_label("in", exact=True).select_option("missing")
    expect(count).to_contain_text("40 of 40")
    page.get_by_role("button", name="Show all").click()
    page.get_by_label("with object").select_option("bird")
    expect(count).to_contain_text("8 of 40")
    assert all(int(name[6:-4]) % 5 == 3 for name in cards(page))
    page.get_by_label("with object").select_option("")
    page.get_by_label("of", exact=True).select_option(label="second")
    page.get_by_label("with fault").select_option("ending")
    expect(count).to_contain_text("10 of 40")
    page.get_by_label("with fault").select_option("training")
    expect(count).to_contain_text("30 of 40")
    page.get_by_label("words to", exact=True).fill("3")
    expect(count).to_contain_text("30 of 40")
    page.get_by_label("words from").fill("4")
    expect(count).to_contain_text("0 of 40")
    page.get_by_role("button", name="Show all").click()
    page.get_by_label("value from").fill("100000")
    expect(count).to_contain_text("0 of 40")
    expect(page.locator(".card")).to_have_count(0)


def test_links_of_the_tables_filter_the_images(page: Page, written: Path) -> None:
    page.goto(written.as_uri())
    page.locator("#faults a").filter(has_text="10 (25").click()
    expect(page.locator("#count")).to_contain_text("10 of 40")
    expect(page.get_by_label("with fault")).to_have_value("ending")
    page.locator("#objects a", has_text="horse").click()
    expect(page.locator("#count")).to_contain_text("8 of 40")
    page.go_back()
    expect(page.locator("#count")).to_contain_text("10 of 40")
    page.locator("#words table").nth(1).get_by_role("link", name="small").click()
    expect(page.get_by_label("Find words")).to_have_value("small")
    expect(page.locator("#count")).to_contain_text("40 of 40")


def test_compares_models_side_by_side(page: Page, written: Path) -> None:
    open_gallery(page, written)
    expect(page.locator(".card").first.locator(".value")).to_have_count(2)
    wins = page.locator("#comparison a").nth(1)
    number = wins.text_content()
    wins.click()
    expect(page.locator("#count")).to_contain_text(
        f"{number} of 40 images; mean difference in CIDEr-D"
    )
    values = page.locator(".card").first.locator(".value")
    expect(values).to_have_count(2)  # the list is drawn again after the count is written
    first, second = (float(text) for text in values.all_text_contents())
    assert first > second
    expect(page.get_by_label("of", exact=True)).to_have_value("0-1")


def test_a_photo_opens_with_all_that_is_known(page: Page, written: Path) -> None:
    open_gallery(page, written, "#by=name")
    page.locator(".card .open").nth(2).click()
    window = page.get_by_role("dialog")
    expect(window.get_by_role("heading", level=2)).to_contain_text("photo-10.png 3 of 40")
    expect(
        window.get_by_role("listitem").filter(has_text="A brown dog runs on a street.")
    ).to_be_visible()
    expect(window.locator("ol li")).to_contain_text("a dog is on a street -2.5")
    expect(window).to_contain_text("log-probability -1.5")
    expect(window.locator(".flag").first).to_contain_text("copied from training")
    page.keyboard.press("ArrowRight")
    expect(window.get_by_role("heading", level=2)).to_contain_text("4 of 40")
    window.get_by_role("button", name="Previous").click()
    expect(window.get_by_role("heading", level=2)).to_contain_text("3 of 40")
    page.keyboard.press("Escape")
    expect(window).to_be_hidden()
    assert focused(page).startswith("button photo-10.png")


@pytest.mark.parametrize("width", [390, 1280])
def test_a_word_shows_where_it_looks(page: Page, written: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    open_gallery(page, written, "#by=name")
    page.locator(".card .open").first.click()
    window = page.get_by_role("dialog")
    canvas = window.locator("canvas")
    expect(canvas).to_be_hidden()
    window.get_by_role("button", name="brown").hover()
    expect(canvas).to_be_visible()
    expect(window.get_by_role("status")).to_have_text("Attention: 7 % to the sentence, “brown”")
    photo, light = window.locator("img").bounding_box(), canvas.bounding_box()
    assert photo is not None
    assert light is not None
    assert light["x"] == pytest.approx(photo["x"] + photo["width"] / 2, abs=1)
    assert light["height"] == pytest.approx(photo["height"], abs=1)
    # Dark everywhere but in the last region, at the bottom right.
    dark, clear = canvas.evaluate(
        """(it) => {
             const { data } = it.getContext('2d').getImageData(0, 0, it.width, it.height);
             return [data[3], data[data.length - 1]];
           }"""
    )
    assert dark > 180
    assert clear < 40


def test_works_with_the_keyboard_alone(page: Page, written: Path) -> None:
    page.goto(written.as_uri())
    page.keyboard.press("Tab")
    assert focused(page) == "a Skip to the images"
    page.keyboard.press("Enter")
    for _ in range(30):
        page.keyboard.press("Tab")
        if focused(page).startswith("button photo"):
            break
    first = focused(page)
    assert first.startswith("button photo")
    page.keyboard.press("ArrowDown")
    assert focused(page) != first
    page.keyboard.press("End")
    expect(page.locator(".card:focus-within")).to_have_attribute("aria-posinset", "40")
    page.keyboard.press("Home")
    assert focused(page) == first
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # Close, after Next
    expect(page.get_by_role("dialog")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_is_accessible(
    page: Page, written: Path, accessible: Callable[[Page], None], scheme: str, width: int
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    open_gallery(page, written)
    assert is_dark(page) == (scheme == "dark")
    assert overflow(page) <= 0
    page.evaluate("document.querySelectorAll('details').forEach((it) => { it.open = true; })")
    accessible(page)
    page.evaluate("document.getElementById('images').scrollIntoView()")
    page.locator(".card .open").first.click()
    expect(page.get_by_role("dialog").get_by_role("button", name="brown")).to_be_visible()
    assert overflow(page) <= 0
    accessible(page)


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_texts_are_shown_and_harmless(
    watched: Watched, hostile: Path, accessible: Callable[[Page], None], width: int
) -> None:
    page = watched.page
    page.set_viewport_size({"width": width, "height": 800})
    open_gallery(page, hostile, "#by=name")
    expect(page).to_have_title(HOSTILE[2])  # no script of theirs ran
    expect(page.locator("script")).to_have_count(2)
    assert overflow(page) <= 0
    accessible(page)
    for text in HOSTILE:
        page.get_by_label("Find words").fill(one_line(text))
        first = page.locator(".card", has=page.get_by_text(one_line(text), exact=True))
        expect(first.first).to_be_attached()
        first.first.locator(".open").click()
        window = page.get_by_role("dialog")
        expect(window.locator(".spoken").first).to_have_text(one_line(text))
        assert overflow(page) <= 0
        assert window.evaluate("it => it.scrollWidth - it.clientWidth") <= 0
        page.keyboard.press("Escape")
    assert {url.split(":")[0] for url in watched.requests} == {"file"}


def test_thousands_of_images_are_a_short_list(page: Page, tmp_path: Path) -> None:
    """Of 5,000 images only the visible cards exist, wherever the page stands."""
    write_report(tmp_path / "report", material(count=5000), metrics=["CIDEr-D"], resamples=20)
    open_gallery(page, tmp_path / "report" / PAGE, "#by=name")
    assert page.locator(".card").count() < 60
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.locator('.card[aria-posinset="5000"]')).to_be_visible()
    assert page.locator(".card").count() < 60
    page.get_by_label("Find words").fill("number 4321")
    expect(page.locator("#count")).to_contain_text("1 of 5,000")


def test_says_that_its_data_are_missing(watched: Watched, written: Path, tmp_path: Path) -> None:
    """A page that was moved without its folder keeps its tables."""
    page = tmp_path / PAGE
    page.write_bytes(written.read_bytes())
    watched.page.goto(page.as_uri())
    expect(watched.page.locator("#count")).to_contain_text("data.js is missing")
    assert len(watched.errors) == 1  # of loading it
    assert "ERR_FILE_NOT_FOUND" in watched.errors[0]
    watched.errors.clear()


def test_one_model_needs_no_comparison(page: Page, tmp_path: Path) -> None:
    write_report(tmp_path / "report", material(models=1, count=12), metrics=METRICS, resamples=20)
    open_gallery(page, tmp_path / "report" / PAGE)
    expect(page.locator("#comparison")).to_have_count(0)
    expect(page.get_by_label("of", exact=True).locator("option")).to_have_count(1)
    assert json.loads((tmp_path / "report" / "report.json").read_text())["comparisons"] == []
