"""Attention on the photo: a network that looks at a known cell lights the right pixels."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captioner.analysis.attention_figure import PANEL, attention_figure, fitted, weight_map
from captioner.analysis.figure_files import ATTENTION, draw_all, figure_path, write_figure
from captioner.errors import CaptionerError
from captioner.inference.result import AttentionMap, Candidate, PhotoCaptions
from captioner.photos.decode import read_photo
from captioner.photos.source import PhotoSource, Read, read_pixels
from captioner.photos.transform import Transform

GRID = 5

TRANSFORMS = {
    "squash": Transform(size=100, fit="squash"),
    "crop": Transform(size=100, resize=100),
    "narrow crop": Transform(size=100, resize=140, interpolation="bicubic"),
    "reduced first": Transform(size=100, resize=120, detail=61),
    "squash of a reduced one": Transform(size=100, fit="squash", detail=40),
}


def cell_seen(transform: Transform, photo: Image.Image) -> tuple[int, int]:
    """A network that looks at the brightest cell of the square it is given."""
    square = transform.array(photo).astype(float).mean(0)
    step = transform.size // GRID
    cells = square.reshape(GRID, step, GRID, step).mean((1, 3))
    row, column = np.unravel_index(cells.argmax(), cells.shape)
    return int(row), int(column)


def one_cell(row: int, column: int) -> np.ndarray:
    weights = np.zeros((GRID, GRID), np.float32)
    weights[row, column] = 1.0
    return weights.ravel()


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(sorted(TRANSFORMS)),
    width=st.integers(90, 400),
    height=st.integers(90, 400),
    row=st.integers(0, GRID - 1),
    column=st.integers(0, GRID - 1),
)
def test_light_falls_where_the_network_looked(
    name: str, width: int, height: int, row: int, column: int
) -> None:
    """A spot of the photo, through the transform, to a cell, and back to the spot."""
    transform = TRANSFORMS[name]
    left, top, right, bottom = transform.box(width, height)
    assert -1 <= left < right <= width + 1
    assert -1 <= top < bottom <= height + 1
    x = left + (column + 0.5) * (right - left) / GRID
    y = top + (row + 0.5) * (bottom - top) / GRID
    photo = Image.new("RGB", (width, height))
    reach_x, reach_y = (right - left) / GRID / 3, (bottom - top) / GRID / 3
    spot = tuple(round(edge) for edge in (x - reach_x, y - reach_y, x + reach_x, y + reach_y))
    photo.paste((255, 255, 255), spot)
    assert cell_seen(transform, photo) == (row, column)

    seen = weight_map(one_cell(row, column), (GRID, GRID), (left, top, right, bottom), photo.size)
    assert seen.shape == (height, width)
    brightest_y, brightest_x = np.unravel_index(seen.argmax(), seen.shape)
    assert abs(brightest_x + 0.5 - x) <= (right - left) / GRID / 2 + 1
    assert abs(brightest_y + 0.5 - y) <= (bottom - top) / GRID / 2 + 1
    light = np.asarray(photo).mean(2) > 128
    assert seen[light].mean() > 0.5
    assert seen[light].mean() > 4 * seen[~light].mean()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["squash", "crop"])
def test_photos_with_a_rotation_flag(tmp_path: Path, orientation: int, name: str) -> None:
    """The file lies on its side; attention is drawn on the upright photo."""
    transform = TRANSFORMS[name]
    upright = Image.new("RGB", (203, 147))
    left, top, right, bottom = transform.box(*upright.size)
    cell = ((right - left) / GRID, (bottom - top) / GRID)
    corner = (round(left + 3 * cell[0]), round(top + cell[1]))
    spot = (*corner, corner[0] + round(cell[0]), corner[1] + round(cell[1]))
    upright.paste((255, 255, 255), spot)
    # What a camera stores: the picture that this flag turns upright.
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "turned.png"
    stored.save(file, exif=exif)

    read = read_pixels(PhotoSource(file), [transform], 90)
    assert isinstance(read, Read)
    assert read.size == upright.size
    assert read.preview is not None
    assert cell_seen(transform, read_photo(file)) == (1, 3)
    figure = figure_of(read, transform, one_cell(1, 3))
    panel, lit = panels(figure, Image.fromarray(read.preview))
    rows, columns = np.nonzero(lit > 0.7 * lit.max())
    across, down = panel[0] / read.size[0], panel[1] / read.size[1]
    assert spot[0] * across - 2 <= columns.mean() <= spot[2] * across + 2
    assert spot[1] * down - 2 <= rows.mean() <= spot[3] * down + 2


def figure_of(read: Read, transform: Transform, weights: np.ndarray) -> Image.Image:
    attention = AttentionMap(
        np.stack([weights])[None], (GRID, GRID), None, read.size, transform.box(*read.size)
    )
    found = PhotoCaptions(
        Path("photo.png"), (candidate("here"),), attention=attention, preview=read.preview
    )
    return Image.open(io.BytesIO(attention_figure(found))).convert("RGB")


def candidate(*words: str) -> Candidate:
    return Candidate(" ".join(words), -1.0, -1.0, words, (-0.5,) * len(words))


def panels(figure: Image.Image, preview: Image.Image) -> tuple[tuple[int, int], np.ndarray]:
    """Size of a panel, and how much lighter the word's panel is than where nothing was looked at.

    The panels stand side by side, the photo first; both end at the same height.
    """
    pixels = np.asarray(figure, float)
    width, height = fitted(preview, PANEL).size
    cell = max(width, 110)
    top = figure.height - 24 - height
    left = 12 + cell + 12
    return (width, height), pixels[top : top + height, left : left + width].mean(2)


def test_a_crop_leaves_what_was_not_seen_dark() -> None:
    transform = TRANSFORMS["narrow crop"]
    box = transform.box(400, 200)
    assert box == pytest.approx((200 - 71.43, 28.57, 200 + 71.43, 171.43), abs=0.8)
    seen = weight_map(np.ones(25, np.float32), (5, 5), box, (400, 200))
    assert seen[:, :127].max() == seen[:, 273:].max() == seen[:27].max() == 0
    assert seen[30:170, 130:270] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (4000, 3), (7, 5)])
@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_photos_of_odd_sizes_are_drawn(size: tuple[int, int], name: str) -> None:
    read = read_pixels(
        PhotoSource(Path("odd"), image=Image.new("RGB", size, "red")), [TRANSFORMS[name]], 640
    )
    assert isinstance(read, Read)
    assert figure_of(read, TRANSFORMS[name], one_cell(2, 2)).width > 200


def test_words_and_captions_of_any_kind(tmp_path: Path) -> None:
    """Line ends, other alphabets, emoji, marks that reorder text and endless words."""
    words = ("<script>", "two\nlines", "كلب", "🐕‍🦺", "\u202eabc", "w" * 5000, "\x1b[2J")
    preview = np.zeros((30, 40, 3), np.uint8)
    weights = np.full((2, len(words), 25), 0.04, np.float32)
    found = PhotoCaptions(
        Path("a/b.png"),
        (candidate(*words), candidate("short")),
        attention=AttentionMap(
            weights, (5, 5), np.full((2, len(words)), 0.3, np.float32), (40, 30), (0, 0, 40, 30)
        ),
        preview=preview,
    )
    one = Image.open(io.BytesIO(attention_figure(found)))
    both = Image.open(io.BytesIO(attention_figure(found, captions=2)))
    assert both.height > one.height
    assert one.width < 2000
    (kept,) = draw_all([found], tmp_path / "new" / "folder")
    assert kept is found
    (bare,) = draw_all([found], tmp_path / "new" / "folder", keep=False)
    assert bare.attention is None
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == ["b.png" + ATTENTION]


def test_an_ensemble_that_sees_different_parts_is_refused() -> None:
    attention = AttentionMap(np.ones((1, 1, 25), np.float32), (5, 5), None, (40, 30), None)
    found = PhotoCaptions(
        Path("x.png"), (candidate("a"),), attention=attention, preview=np.zeros((3, 4, 3), np.uint8)
    )
    with pytest.raises(CaptionerError, match="different parts of the photo"):
        attention_figure(found)


def test_photos_of_one_name_keep_a_figure_each(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG")
    first = figure_path(tmp_path, Path("a/dog.jpg"), ATTENTION)
    assert first.name == "dog.jpg.attention.png"
    write_figure(first, file.getvalue(), Path("a/dog.jpg"))
    second = figure_path(tmp_path, Path("b/dog.jpg"), ATTENTION)
    assert second.name.startswith("dog.jpg-")
    write_figure(second, file.getvalue(), Path("b/dog.jpg"))
    assert figure_path(tmp_path, Path("a/dog.jpg"), ATTENTION) == first  # a rerun's
    assert figure_path(tmp_path, Path("b/dog.jpg"), ATTENTION) == second
    odd = figure_path(tmp_path, Path("w" * 240 + "\udcff.jpg"), ATTENTION)
    assert len(odd.name.encode(errors="surrogateescape")) < 255
