"""Views of training photos: mirrored, and cropped within bounds."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioner.photos.view import AREA, ASPECT, crop_of, view_of


def photo(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def test_first_views_are_the_photo_and_its_mirror_image():
    original = photo(9, 7)
    assert view_of(original, 0, "a") == original
    mirrored = np.asarray(view_of(original, 1, "a"))
    assert np.array_equal(mirrored, np.asarray(original)[:, ::-1])


def test_a_crop_depends_on_its_number_and_the_photo_only():
    original = photo(90, 70)
    once, again = (view_of(original, 4, "a") for _ in range(2))
    assert once == again
    sizes = {view_of(original, number, name).size for number in (2, 4) for name in "abc"}
    assert len(sizes) > 3


def test_every_second_crop_is_mirrored():
    width, height = 80, 60
    across = np.broadcast_to(np.arange(width, dtype=np.uint8), (height, width))
    ramp = Image.fromarray(np.stack([across] * 3, 2))
    for number in range(2, 8):
        row = np.asarray(view_of(ramp, number, "x"))[0, :, 0].astype(int)
        assert set(np.diff(row)) == {-1 if number % 2 else 1}


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(0, 10**6))
def test_crops_lie_within_the_photo_and_keep_enough_of_it(width: int, height: int, seed: int):
    left, top, right, bottom = crop_of(width, height, random.Random(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    if min(width, height) >= 100:
        across, down = (right - left) / width, (bottom - top) / height
        assert AREA[0] - 0.02 <= across * down <= AREA[1]
        assert 1 / ASPECT - 0.02 <= across / down <= ASPECT + 0.02
