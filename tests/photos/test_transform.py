"""Transform against torchvision's own preprocessing, and its values against bad ones."""

import io
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms

from captioner.errors import UsageError
from captioner.photos.decode import PhotoError, convert_image, decode_photo
from captioner.photos.jpeg import quality_of
from captioner.photos.transform import Transform


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """The hardest picture for equality to the bit: every pixel its own value."""
    generator = np.random.default_rng(seed)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def torchvisions(photo: Image.Image, transform: Transform) -> torch.Tensor:
    mode = InterpolationMode(transform.interpolation)
    return transforms.Compose(
        [
            transforms.Resize(transform.resize, interpolation=mode, antialias=True),
            transforms.CenterCrop(transform.size),
            transforms.PILToTensor(),
        ]
    )(photo)


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    sizes=st.sampled_from([(224, 256), (224, 232), (7, 7), (31, 48), (299, 342), (1, 2)]),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
@example(width=500, height=375, sizes=(224, 256), interpolation="bilinear")
@example(width=375, height=500, sizes=(224, 256), interpolation="bilinear")
@example(width=256, height=256, sizes=(224, 256), interpolation="bicubic")
@example(width=1, height=1, sizes=(224, 256), interpolation="bilinear")
@example(width=400, height=50, sizes=(224, 256), interpolation="bilinear")
def test_crop_equals_torchvision(width, height, sizes, interpolation):
    size, resize = sizes
    transform = Transform(size=size, resize=resize, interpolation=interpolation)
    photo = noise(width, height, seed=width * height)
    pixels = transform(photo)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, size, size)
    assert pixels.is_contiguous()
    if max(width, height) <= 8 * min(width, height):
        assert torch.equal(pixels, torchvisions(photo, transform))
    elif max(width, height) <= 60 * min(width, height):  # else torchvision's takes too much memory
        difference = pixels.int() - torchvisions(photo, transform).int()
        # Pillow takes the cheaper axis first, and bicubic's overshoot is clipped between the two.
        assert difference.abs().max() <= (2 if interpolation == "bilinear" else 40)
        assert difference.abs().float().mean() <= 1.5


@pytest.mark.parametrize("size", [(4000, 3), (3, 4000), (100_000, 1), (1, 1)])
def test_extreme_photos_give_a_square(size):
    photo = Image.new("RGB", size, (10, 20, 30))
    for fit in ("crop", "squash"):
        pixels = Transform(fit=fit)(photo)
        assert pixels.shape == (3, 224, 224)
        assert (pixels == torch.tensor([10, 20, 30]).view(3, 1, 1)).all()


def test_extreme_photos_show_their_middle():
    photo = Image.new("RGB", (4000, 3))
    photo.paste((255, 255, 255), (1990, 0, 2010, 3))
    assert (Transform()(photo) == 255).all()


def test_squash_keeps_the_whole_photo():
    photo = noise(90, 30)
    expected = transforms.Compose(
        [transforms.Resize((24, 24), antialias=True), transforms.PILToTensor()]
    )(photo)
    assert torch.equal(Transform(size=24, fit="squash")(photo), expected)


def test_squash_leaves_a_photo_of_that_size_alone():
    photo = noise(224, 224)
    pixels = Transform(fit="squash")(photo)
    assert (pixels.permute(1, 2, 0).numpy() == np.asarray(photo)).all()
    pixels[:] = 0  # the tensor is its own memory
    assert np.asarray(photo).any()


def test_one_pixel_can_be_written():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of memory that cannot be written
        Transform(size=1, resize=1)(Image.new("RGB", (1, 1)))


def test_load_reads_and_fits(tmp_path):
    photo = noise(60, 40)
    photo.save(tmp_path / "a.png")
    transform = Transform(size=24, resize=32)
    assert torch.equal(transform.load(tmp_path / "a.png"), transform(photo))
    with pytest.raises(PhotoError, match="no such file"):
        transform.load(tmp_path / "b.png")


@given(
    st.builds(
        Transform,
        size=st.integers(1, 200),
        resize=st.integers(200, 4096),
        fit=st.sampled_from(["crop", "squash"]),
        interpolation=st.sampled_from(["bilinear", "bicubic"]),
    )
)
def test_plain_values_and_back(transform):
    values = transform.asdict()
    assert all(type(value) in (int, str) for value in values.values())
    assert Transform.from_dict(values) == transform


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"size": 0}, "transform.size: 0 is not an integer from 1 to 4096"),
        ({"size": True}, "transform.size: True is not an integer"),
        ({"size": "224"}, "transform.size: '224' is not an integer"),
        ({"resize": 5000}, "transform.resize: 5000 is not an integer from 1 to 4096"),
        ({"resize": 200}, "transform.resize: 200 is smaller than transform.size, 224"),
        ({"fit": "pad"}, "transform.fit: 'pad' is not one of crop, squash"),
        ({"fit": ["crop"]}, "transform.fit: ['crop'] is not one of crop, squash"),
        ({"interpolation": "nearest"}, "'nearest' is not one of bilinear, bicubic"),
        ({"interpolate": "bicubic"}, "no such setting; did you mean interpolation?"),
        ({"mean": 0}, "transform.mean: no such setting; choose one of size, resize, fit"),
    ],
)
def test_wrong_values(values, text):
    with pytest.raises(UsageError) as error:
        Transform.from_dict(values)
    assert text in str(error.value)


def test_squash_has_no_use_for_resize():
    assert Transform(size=300, resize=256, fit="squash").size == 300


def test_real_photos_equal_torchvision():
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "photos"
    if not folder.exists():
        pytest.skip("no real photos here")
    for path in sorted(folder.iterdir())[:8]:
        with Image.open(path) as picture:
            expected = torchvisions(picture.convert("RGB"), Transform())
        assert torch.equal(Transform().load(path), expected)


def test_what_is_made_larger() -> None:
    crop, squash = Transform(size=224, resize=256), Transform(size=320, fit="squash")
    assert [crop.enlarges(*size) for size in ((256, 400), (255, 400))] == [False, True]
    assert [squash.enlarges(*size) for size in ((500, 250), (224, 224))] == [False, True]


@given(st.integers(1, 500), st.integers(1, 500))
def test_detail_brings_larger_photos_to_what_training_photos_had(width: int, height: int) -> None:
    photo = noise(width, height)
    for fit, resize in (("squash", 256), ("crop", 300)):
        plain = Transform(size=260, resize=resize, fit=fit)
        detailed = replace(plain, detail=100)
        if min(width, height) <= 100:
            assert torch.equal(detailed(photo), plain(photo))
        elif fit == "squash":
            assert torch.equal(
                detailed(photo), plain(photo.resize((100, 100), Image.Resampling.BILINEAR))
            )


def test_detail_is_that_of_most_training_photos() -> None:
    squash = Transform(size=260, fit="squash")
    assert squash.detail_for([(224, 224)] * 3 + [(500, 375)] * 2) == 224
    assert squash.detail_for([(224, 224)] * 2 + [(500, 375)] * 2) is None
    assert Transform(size=260, resize=292).detail_for([(300, 200)]) == 200
    assert squash.detail_for([]) is None


def test_detail_is_written_only_where_there_is_one() -> None:
    assert "detail" not in Transform().asdict()
    detailed = Transform(detail=224)
    assert Transform.from_dict(detailed.asdict()) == detailed
    with pytest.raises(UsageError, match=r"transform\.detail: 0 is neither null nor an integer"):
        Transform(detail=0)


# JPEG quality of small training photos


def test_quality_shows_a_photo_as_the_compressed_training_photos_were():
    plain = Transform(size=48, resize=48, fit="squash", interpolation="bicubic", detail=32)
    compressing = replace(plain, quality=80)
    photo = noise(100, 60)
    small = photo.resize((32, 32), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    np.testing.assert_array_equal(compressing.array(photo), plain.array(Image.open(file)))
    # JPEGs of that size and quality are such photos already.
    read = decode_photo(file.getvalue())
    np.testing.assert_array_equal(compressing.array(read), plain.array(read))


@pytest.mark.parametrize("fit", ["squash", "crop"])
@pytest.mark.parametrize("size", [(1, 1), (7, 900), (900, 7), (70_000, 2), (31, 33)])
def test_quality_holds_for_photos_of_any_shape(fit, size):
    transform = Transform(size=48, resize=48, fit=fit, detail=32, quality=60)
    assert transform.array(Image.new("RGB", size, "red")).shape == (3, 48, 48)


def test_quality_reduces_each_side_that_is_longer_than_the_detail():
    transform = Transform(
        size=48, resize=48, fit="squash", interpolation="bicubic", detail=32, quality=80
    )
    photo = noise(200, 20)
    small = photo.resize((32, 20), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(transform.array(photo), transform.array(small))


def saved_as(photo: Image.Image, form: str, **options: int) -> Image.Image:
    file = io.BytesIO()
    photo.save(file, form, **options)
    return decode_photo(file.getvalue())


@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_small_photo_that_never_was_a_jpeg_is_compressed_too(fit: str) -> None:
    photo = noise(32, 32)
    plain = Transform(size=32, resize=32, fit=fit, detail=32)
    compressing = replace(plain, quality=80)
    wanted = plain.array(saved_as(photo, "JPEG", quality=80))
    for one in (photo, saved_as(photo, "PNG"), saved_as(photo, "BMP")):
        np.testing.assert_array_equal(compressing.array(one), wanted)
        np.testing.assert_array_equal(plain.array(one), plain.array(photo))
    fine = saved_as(photo, "JPEG", quality=95)  # far above the quality of training photos
    assert (compressing.array(fine) != plain.array(fine)).any()


@pytest.mark.parametrize("quality", [10, 50, 75, 80, 84])
def test_small_jpeg_of_about_the_quality_is_left_alone(quality: int) -> None:
    photo = saved_as(noise(32, 32), "JPEG", quality=quality)
    plain = Transform(size=32, resize=32, detail=32)
    np.testing.assert_array_equal(replace(plain, quality=80).array(photo), plain.array(photo))


def test_opened_jpeg_counts_like_its_file() -> None:
    file = io.BytesIO()
    noise(32, 32).save(file, "JPEG", quality=80)
    transform = Transform(size=32, resize=32, detail=32, quality=80)
    with Image.open(file) as opened:
        image = convert_image(opened)
        wanted = transform.array(decode_photo(file.getvalue()))
        np.testing.assert_array_equal(transform.array(image), wanted)
        assert (transform.array(convert_image(opened.transpose(0))) != wanted).any()


def test_quality_is_kept_where_it_is_given_alone():
    transform = Transform(detail=32, quality=80)
    assert Transform.from_dict(transform.asdict()) == transform
    assert "quality" not in Transform(detail=32).asdict()


@pytest.mark.parametrize(
    "values", [{"quality": 80}, {"detail": 9, "quality": 0}, {"detail": 9, "quality": 80.0}]
)
def test_quality_out_of_range_is_refused(values):
    with pytest.raises(UsageError, match=r"transform\.quality"):
        Transform(**values)


@pytest.mark.parametrize("quality", [20, 30, 50, 75, 80, 95])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_quality_of_a_jpeg_is_found(quality: int, mode: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.new(mode, (20, 20)).save(path, quality=quality)
    found = quality_of(path)
    assert found is not None
    assert abs(found - quality) <= 1


def test_only_jpegs_have_a_quality(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "photo.png")
    assert quality_of(tmp_path / "photo.png") is None
