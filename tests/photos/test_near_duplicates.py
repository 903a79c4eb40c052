import io
from itertools import combinations

import numpy as np
import pytest
from conftest import make_photo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from captioner.photos.decode import PhotoError
from captioner.photos.near_duplicates import (
    Fingerprint,
    difference_hash,
    like_hashes,
    same_colours,
)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 40),
    radius=st.integers(0, 12),
    flips=st.integers(0, 20),
    even=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_all_pairs_are_found_and_no_others(n, radius, flips, even, seed) -> None:
    """Beside comparing each with each: bits that are all alike but a few, or random."""
    rng = np.random.default_rng(seed)
    bits = np.zeros((n, 128), dtype=bool) if even else rng.random((n, 128)) < 0.5
    if n:
        bits[n // 2 :] = bits[0]
    for row in bits:
        row[rng.integers(0, 128, flips)] ^= True
    expected = [
        (one, other)
        for one, other in combinations(range(n), 2)
        if (bits[one] != bits[other]).sum() <= radius
    ]
    first, second = like_hashes(bits, radius)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == expected


def scene(seed: int) -> Image.Image:
    """Something like a photo: smooth, with large parts."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8))
    return small.resize((320, 240), Image.Resampling.BICUBIC)


def compressed(photo: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def thumbnail(photo: Image.Image, tmp_path, name: str = "one.png") -> np.ndarray:
    photo.save(tmp_path / name)
    return Fingerprint.of(tmp_path / name).thumbnail


@pytest.mark.parametrize(
    "change",
    [
        lambda photo: photo.resize((100, 100)),
        lambda photo: compressed(photo, 20),
        lambda photo: compressed(photo.resize((80, 60)), 50),
        lambda photo: ImageEnhance.Brightness(photo).enhance(1.05),
    ],
)
def test_copies_look_alike(change, tmp_path) -> None:
    for seed in range(10):
        photo = scene(seed)
        pair = np.stack([thumbnail(photo, tmp_path), thumbnail(change(photo), tmp_path)])
        first, second = like_hashes(difference_hash(pair), 10)
        assert (first.tolist(), second.tolist()) == ([0], [1])
        assert same_colours(pair, first, second).all()


def test_other_photos_do_not(tmp_path) -> None:
    thumbnails = np.stack([thumbnail(scene(seed), tmp_path) for seed in range(40)])
    assert not len(like_hashes(difference_hash(thumbnails), 16)[0])


def test_even_pictures_are_told_apart_by_their_colours(tmp_path) -> None:
    pictures = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "darkred", "red")]
    thumbnails = np.stack([thumbnail(picture, tmp_path) for picture in pictures])
    first, second = like_hashes(difference_hash(thumbnails), 0)
    assert len(first) == 6
    alike = same_colours(thumbnails, first, second)
    assert list(zip(first[alike].tolist(), second[alike].tolist(), strict=True)) == [(0, 3)]


def test_the_digest_is_of_the_file(tmp_path) -> None:
    one = make_photo(tmp_path / "one.png", 1)
    (tmp_path / "two.png").write_bytes(one.read_bytes())
    three = make_photo(tmp_path / "three.bmp", 1)
    digests = [Fingerprint.of(path).digest for path in (one, tmp_path / "two.png", three)]
    assert digests[0] == digests[1] != digests[2]
    (tmp_path / "bad.png").write_text("no")
    with pytest.raises(PhotoError):
        Fingerprint.of(tmp_path / "bad.png")
