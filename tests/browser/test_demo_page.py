"""The page of `captioner demo`, in a browser."""

import base64
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import make_photo, save_checkpoint, tiny_config
from PIL import Image
from playwright.sync_api import Page, Route, expect

from browser.watching import HOSTILE, Watched, focused, is_dark, overflow
from captioner.config.schema import DecoderConfig, EncoderConfig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def attending(tmp_path_factory: pytest.TempPathFactory) -> Path:
    encoder = EncoderConfig(
        name="squeezenet1_1", weights="none", size=48, fit="squash", features="grid"
    )
    decoder = DecoderConfig(
        cell="gru", embedding_size=8, hidden_size=12, attention="adaptive", attention_size=6
    )
    config = tiny_config(encoder=encoder, decoder=decoder)
    return save_checkpoint(tmp_path_factory.mktemp("attending") / "a.ckpt", config)


def served(*checkpoints: Path) -> Iterator[str]:
    """The command, in a process of its own; yields the page's address."""
    command = [sys.executable, "-m", "captioner", "demo", "--port", "0", "--device", "cpu"]
    for path in checkpoints:
        command += ["--checkpoint", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert found is not None
        yield found[0]
        process.terminate()


@pytest.fixture(scope="module")
def one(attending: Path) -> Iterator[str]:
    yield from served(attending)


@pytest.fixture(scope="module")
def two(attending: Path, tiny_checkpoint: Path) -> Iterator[str]:
    yield from served(attending, tiny_checkpoint)


@pytest.fixture
def demo(watched: Watched, one: str) -> Page:
    watched.server = one
    watched.page.goto(one)
    return watched.page


def hand_over(page: Page, event: str, files: list[Path]) -> None:
    """Drop or paste files, as the browser does for its user."""
    content = [[file.name, base64.b64encode(file.read_bytes()).decode()] for file in files]
    page.evaluate(
        """([event, content]) => {
          const data = new DataTransfer();
          for (const [name, text] of content) {
            const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
            data.items.add(new File([bytes], name, {type: "image/png"}));
          }
          const more = {bubbles: true, cancelable: true, clipboardData: data, dataTransfer: data};
          const kind = event === "paste" ? ClipboardEvent : DragEvent;
          const names = event === "paste" ? [event] : ["dragenter", "dragover", "drop"];
          for (const name of names) document.body.dispatchEvent(new kind(name, more));
        }""",
        [event, content],
    )


def settle(page: Page) -> None:
    expect(page.locator(".waiting")).to_have_count(0)


def lit(page: Page) -> dict[str, float]:
    """Where the drawing over the photo lets most light through: its centre, from 0 to 1."""
    found: dict[str, float] = page.evaluate(
        """() => {
          const canvas = document.querySelector(".photo canvas");
          const {width, height} = canvas;
          const copy = document.createElement("canvas");
          [copy.width, copy.height] = [width, height];
          copy.getContext("2d").drawImage(canvas, 0, 0);
          const {data} = copy.getContext("2d").getImageData(0, 0, width, height);
          let [x, y, sum, dark, drawn] = [0, 0, 0, 0, 0];
          for (let i = 0; i < width * height; i++) {
            const alpha = data[4 * i + 3];
            drawn += alpha > 0;
            dark = Math.max(dark, alpha);
            if (alpha > 0 && alpha < 110) {
              [x, y, sum] = [x + i % width + 0.5, y + Math.floor(i / width) + 0.5, sum + 1];
            }
          }
          return {x: x / sum / width, y: y / sum / height, share: sum / width / height, dark,
                  drawn: drawn / width / height};
        }"""
    )
    return found


def test_a_dropped_photo_is_captioned(demo: Page, photos: list[Path]) -> None:
    hand_over(demo, "drop", photos[:2])
    settle(demo)
    expect(demo.locator("article")).to_have_count(2)
    expect(demo.locator("article h2").first).to_have_text("1.png")  # the newest first
    expect(demo.locator("#over")).to_be_hidden()
    first = demo.locator("article").first
    expect(first.locator(".others button")).to_have_count(3)
    expect(first.locator("img")).to_have_js_property("naturalWidth", 40)
    first.locator(".others button").nth(1).click()
    words = first.locator(".word:not(.end) span").all_inner_texts()
    expect(first.locator(".others button").nth(1)).to_contain_text(" ".join(words))
    first.get_by_role("button", name="Remove").click()
    expect(demo.locator("article")).to_have_count(1)
    assert focused(demo) == "button Remove 0.png"


def test_a_pasted_photo_is_captioned(demo: Page, tmp_path: Path) -> None:
    hand_over(demo, "paste", [make_photo(tmp_path / "image.png", 3)])
    settle(demo)
    expect(demo.locator("article h2")).to_have_text("pasted-1.png")
    expect(demo.locator("#status")).to_contain_text("Caption: ")


def test_hovering_a_word_shows_where_it_looked(demo: Page, photos: list[Path]) -> None:
    demo.set_input_files("#files", photos[0])
    settle(demo)
    word = demo.locator(".word").first
    word.hover()
    expect(demo.locator("figcaption")).to_contain_text(f"“{word.locator('span').inner_text()}”")
    expect(demo.locator("figcaption")).to_contain_text("of its attention")
    assert lit(demo)["drawn"] == 1
    demo.mouse.move(5, 5)
    expect(demo.locator("figcaption")).to_have_text("")
    assert lit(demo)["drawn"] == 0
    word.click()  # stays when the mouse has left
    demo.mouse.move(5, 5)
    assert lit(demo)["drawn"] == 1
    word.click()
    demo.mouse.move(5, 5)
    assert lit(demo)["drawn"] == 0


BOXES = {
    "squashed": ((400, 200), [0, 0, 400, 200]),
    "cropped": ((400, 200), [128.57, 28.57, 271.43, 171.43]),
    "upright": ((90, 300), [0, 105, 90, 195]),
    "thin": ((300, 3), [0, 0, 300, 3]),
    "beyond the edge": ((120, 100), [-5, -5, 125, 105]),
}


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("cell", [(0, 0), (1, 3), (4, 2)])
def test_light_falls_where_the_network_looked(
    name: str, cell: tuple[int, int], demo: Page, photos: list[Path]
) -> None:
    """The server's answer, with all weight on one of 5 x 5 cells."""
    size, box = BOXES[name]
    row, column = cell

    def answer(route: Route) -> None:
        content = route.fetch().json()
        weights = [[0.0] * 25 for _ in content["record"]["candidates"][0]["words"]]
        weights[0][5 * row + column] = 1.0
        for candidate in content["record"]["candidates"]:
            candidate["attention"] = {"grid": [5, 5], "weights": weights}
        content |= {"size": size, "box": box}
        route.fulfill(json=content)

    demo.route("**/caption*", answer)
    demo.set_input_files("#files", photos[0])
    settle(demo)
    demo.locator(".word").first.hover()
    found = lit(demo)
    left, top, right, bottom = box
    x = (left + (column + 0.5) * (right - left) / 5) / size[0]
    y = (top + (row + 0.5) * (bottom - top) / 5) / size[1]
    cell_width, cell_height = (right - left) / 5 / size[0], (bottom - top) / 5 / size[1]
    assert abs(found["x"] - x) < 0.3 * cell_width
    assert abs(found["y"] - y) < max(0.3 * cell_height, 0.34 if name == "thin" else 0)
    assert found["share"] < cell_width * cell_height * (1.2 if name != "thin" else 3)
    assert found["dark"] == pytest.approx(0.7 * 255, abs=1.5)


def test_a_turned_photo_is_shown_upright(demo: Page, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "turned.jpg"
    Image.new("RGB", (60, 20), "red").save(file, exif=exif)
    demo.set_input_files("#files", file)
    settle(demo)
    shown = demo.locator("img").bounding_box()
    assert shown is not None
    assert shown["height"] > 2 * shown["width"]
    demo.locator(".word").first.hover()
    drawn = demo.locator(".photo canvas").bounding_box()
    assert drawn == shown


def test_formats_that_browsers_lack_are_shown(demo: Page, tmp_path: Path) -> None:
    file = tmp_path / "scan.tif"
    Image.new("RGB", (64, 48), "blue").save(file)
    demo.set_input_files("#files", file)
    settle(demo)
    expect(demo.locator("img")).to_be_visible()
    expect(demo.locator("img")).to_have_js_property("naturalWidth", 64)


def test_a_wrong_file_is_answered_in_words(demo: Page, tmp_path: Path, photos: list[Path]) -> None:
    wrong = tmp_path / "notes.txt"
    wrong.write_text("no photo")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    demo.set_input_files("#files", [wrong, photos[0], empty])
    settle(demo)
    expect(demo.locator("article .note")).to_have_text(
        [re.compile("the file is empty"), re.compile(r"^\d"), re.compile("^not a picture")]
    )
    expect(demo.locator(".error")).to_have_count(2)


def test_settings_are_those_of_the_command_line(demo: Page, photos: list[Path]) -> None:
    demo.set_input_files("#files", photos[0])
    settle(demo)
    demo.locator("#more summary").click()
    demo.get_by_label("Beam size").fill("4")
    demo.get_by_label("Must say").fill("dog, red")
    demo.get_by_label("Must not say").fill("cat")
    demo.get_by_label("At most").fill("9")
    demo.get_by_role("button", name="Caption again").click()
    settle(demo)
    caption = demo.locator(".word span").all_inner_texts()
    assert {"dog", "red"} <= set(caption)
    command = demo.locator("code").text_content() or ""
    for flag in ("--beam-size=4", "--require=dog", "--require=red", "--ban=cat", "--max-length=9"):
        assert flag in command
    demo.get_by_label("Sampling").check()
    expect(demo.get_by_label("Must say")).to_be_hidden()
    demo.get_by_label("Seed").fill("4")
    demo.get_by_role("button", name="Caption again").click()
    settle(demo)
    expect(demo.locator(".others button")).to_have_count(5)
    assert "--sample=5 --seed=4" in (demo.locator("code").text_content() or "")


def test_wrong_settings_are_answered_in_words(
    watched: Watched, demo: Page, photos: list[Path]
) -> None:
    demo.set_input_files("#files", photos[0])
    settle(demo)
    demo.locator("#more summary").click()
    demo.get_by_label("Must say").fill("zebra")
    demo.get_by_role("button", name="Caption again").click()
    expect(demo.locator(".note")).to_contain_text("the captioner does not know 'zebra'")
    assert len(watched.errors) == 1  # the browser reports status 400
    watched.errors.clear()


def test_two_checkpoints_stand_side_by_side(watched: Watched, two: str, photos: list[Path]) -> None:
    page, watched.server = watched.page, two
    page.goto(two)
    page.set_input_files("#files", photos[0])
    settle(page)
    answers = page.locator(".answer")
    expect(answers).to_have_count(2)
    boxes = [answers.nth(i).bounding_box() for i in range(2)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["y"] == boxes[1]["y"]
    answers.nth(1).locator(".word").first.hover()
    expect(page.locator("figcaption")).to_contain_text("this network has no attention")


def test_keyboard_only(demo: Page, photos: list[Path]) -> None:
    demo.keyboard.press("Tab")
    assert focused(demo) == "button Choose photos"
    # Not the dialog itself: headless Chromium opens it now and then only.
    demo.evaluate("document.querySelector('#files').onclick = () => { window.asked = true; }")
    demo.keyboard.press("Enter")
    assert demo.evaluate("window.asked")
    demo.set_input_files("#files", photos[0])
    settle(demo)
    seen = []
    while not focused(demo).startswith("button Remove"):
        demo.keyboard.press("Tab")
        seen.append(focused(demo))
        assert len(seen) < 10
    demo.keyboard.press("Tab")
    expect(demo.locator("figcaption")).to_contain_text("probability")
    demo.keyboard.press("ArrowRight")
    assert demo.evaluate("document.activeElement === document.querySelectorAll('.word')[1]")
    assert lit(demo)["drawn"] == 1
    demo.keyboard.press("End")
    last = demo.evaluate(
        "document.activeElement === [...document.querySelectorAll('.word')].at(-1)"
    )
    assert last
    demo.keyboard.press("Tab")
    assert lit(demo)["drawn"] == 0
    demo.keyboard.press("Tab")
    demo.keyboard.press("Enter")
    expect(demo.locator(".others button").nth(1)).to_have_attribute("aria-pressed", "true")


def test_narrow_screen(demo: Page, photos: list[Path]) -> None:
    demo.set_viewport_size({"width": 390, "height": 844})
    demo.set_input_files("#files", photos[:2])
    settle(demo)
    demo.locator("#more summary").click()
    assert overflow(demo) == 0
    for button in demo.locator("button:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible_in_light_and_dark(
    scheme: Any, demo: Page, photos: list[Path], tmp_path: Path, accessible: Callable[[Page], None]
) -> None:
    demo.emulate_media(color_scheme=scheme)
    accessible(demo)
    (tmp_path / "bad.jpg").write_text("no photo")
    demo.set_input_files("#files", [photos[0], tmp_path / "bad.jpg"])
    settle(demo)
    demo.locator("#more summary").click()
    demo.locator(".word").first.click()
    accessible(demo)
    assert is_dark(demo) == (scheme == "dark")


def test_hostile_captions_and_names_stay_text(demo: Page, photos: list[Path]) -> None:
    def answer(route: Route) -> None:
        content = route.fetch().json()
        candidates = content["record"]["candidates"]
        for candidate, text in zip(candidates, HOSTILE[:3], strict=True):
            candidate |= {"caption": text, "words": list(HOSTILE)}
            candidate["word_log_probs"] = [-0.5] * len(HOSTILE)
            candidate.pop("attention")
        route.fulfill(json=content | {"command": HOSTILE[0]})

    demo.route("**/caption*", answer)
    demo.set_viewport_size({"width": 390, "height": 844})
    name = HOSTILE[2].replace("/", "_")
    content = {"name": name, "mimeType": "image/png", "buffer": photos[0].read_bytes()}
    demo.set_input_files("#files", content)  # type: ignore[arg-type]
    settle(demo)
    assert demo.locator("h2").text_content() == name
    assert demo.locator(".word span").all_text_contents() == list(HOSTILE)
    assert demo.title() == "captioner demo"
    assert overflow(demo) == 0


def test_too_many_photos_are_refused_in_words(demo: Page, tmp_path: Path) -> None:
    demo.route("**/caption*", lambda route: route.fulfill(json={"record": {"error": "x"}}))
    files = [make_photo(tmp_path / f"{i}.png", i, (4, 4)) for i in range(26)]
    hand_over(demo, "drop", files)
    expect(demo.locator("article")).to_have_count(24)
    settle(demo)
    expect(demo.locator("#status")).to_contain_text("24 photos; 2 were left out")


def test_a_photo_by_camera(watched: Watched, one: str) -> None:
    page, watched.server = watched.page, one
    # A camera that shows a drawing.
    page.add_init_script(
        """navigator.mediaDevices.getUserMedia = async () => {
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [64, 48];
          const context = canvas.getContext("2d");
          setInterval(() => {
            context.fillStyle = `hsl(${Date.now() % 360} 80% 50%)`;
            context.fillRect(0, 0, 64, 48);
          }, 20);
          return canvas.captureStream(30);
        }"""
    )
    page.goto(one)
    page.get_by_role("button", name="Use camera").click()
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Take photo").click()
    expect(page.locator("article h2")).to_have_text("camera-1.jpg")
    settle(page)
    expect(page.locator("dialog")).to_be_hidden()
    expect(page.locator(".word").first).to_be_visible()


def test_a_server_that_has_ended_is_told(
    watched: Watched, attending: Path, photos: list[Path]
) -> None:
    serving = served(attending)
    page, watched.server = watched.page, next(serving)
    page.goto(watched.server)
    next(serving, None)
    page.set_input_files("#files", photos[0])
    expect(page.locator(".note")).to_contain_text("does `captioner demo` still run?")
    assert all("ERR_CONNECTION_REFUSED" in error for error in watched.errors)
    watched.errors.clear()
