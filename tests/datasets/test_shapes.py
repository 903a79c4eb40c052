"""The built-in data set: what it promises of its scenes, captions, pictures and files."""

import hashlib
import json
import random
import re
from pathlib import Path

import pytest
from PIL import Image

from captioner.datasets.load import load_records
from captioner.datasets.shapes import (
    COLOURS,
    NUMBERS,
    PLACES,
    SHAPES,
    SPLITS,
    Scene,
    describe,
    divide_scenes,
    is_finished,
    paint,
    render,
)
from captioner.errors import UsageError

NOUNS = {shape: shape for shape in SHAPES} | {
    "squares": "square",
    "rings": "ring",
    "crosses": "cross",
    "triangles": "triangle",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    render(folder, train=60, val=10, test=12)
    return folder


def test_no_scene_is_shared_between_splits() -> None:
    scenes = divide_scenes(random.Random(0))
    sets = [set(scenes[split]) for split in SPLITS]
    assert [len(s) for s in sets] == [len(scenes[split]) for split in SPLITS]
    assert sum(map(len, sets)) == len(set().union(*sets)) == 1344


def test_scenes_on_disk_keep_their_split(root: Path) -> None:
    seen: dict[str, set[str]] = {}
    for split in SPLITS:
        content = json.loads((root / "annotations" / f"captions_{split}.json").read_text())
        seen[split] = {json.dumps(image["scene"]) for image in content["images"]}
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_read_as_coco_is(root: Path) -> None:
    loaded = load_records(format="shapes", root=root)
    counts = {split: sum(r.split == split for r in loaded.records) for split in SPLITS}
    assert counts == {"train": 60, "val": 10, "test": 12}
    assert all(len(record.captions) == 5 for record in loaded.records)
    assert not loaded.problems


def test_every_caption_is_true() -> None:
    """Each attribute that a caption names is the scene's; each caption is of the grammar."""
    rng = random.Random(1)
    scenes = divide_scenes(random.Random(0))["train"]
    assert {scene.count for scene in scenes} == {1, 2, 3}
    for scene in scenes:
        captions = describe(scene, rng)
        assert len(set(captions)) == 5
        for caption in captions:
            text = caption.lower()
            words = re.findall(r"[a-z]+", text)
            assert {w for w in words if w in COLOURS} == {scene.colour}
            without_order = text.replace("in a triangle", "")  # which is no shape
            named = {NOUNS[w] for w in re.findall("[a-z]+", without_order) if w in NOUNS}
            assert named == {scene.shape}
            sizes = {"small": "small", "little": "small", "large": "large", "big": "large"}
            assert {sizes[w] for w in words if w in sizes} <= {scene.size}
            assert {w for w in words if w in ("light", "dark")} <= {scene.ground}
            numbers = {NUMBERS.index(w) for w in words if w in NUMBERS[2:]}
            assert numbers == ({scene.count} if scene.count > 1 else set())
            places = [place for place in PLACES if place in text]
            assert not places or scene.place in places


def test_the_first_two_forms_are_always_there() -> None:
    scene = Scene("small", "red", "cross", "in the middle", "dark")
    captions = describe(scene, random.Random(3))
    assert {"A small red cross in the middle.", "There is a small red cross in the middle."} <= set(
        captions
    )


def test_a_picture_shows_its_colour_where_the_scene_says() -> None:
    for place, points in PLACES.items():
        scene = Scene("large", "red", "square", place, "light")
        picture = paint(scene, 64, random.Random(0))
        for x, y in points:
            red, green, blue = picture.getpixel((round(63 * x), round(63 * y)))  # type: ignore[misc]
            assert red > 150
            assert max(green, blue) < 110


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    def digest(folder: Path, seed: int) -> str:
        render(folder, train=6, val=2, test=2, seed=seed)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

    assert digest(tmp_path / "a", 5) == digest(tmp_path / "b", 5) != digest(tmp_path / "c", 6)


def test_a_killed_run_leaves_nothing_that_looks_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            render(tmp_path / "shapes", train=3, val=1, test=1)
    assert not is_finished(tmp_path / "shapes")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty; choose a new folder"):
        render(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    with pytest.raises(UsageError, match="each split needs at least one picture"):
        render(tmp_path / "new", val=0)
    with pytest.raises(UsageError, match="size 8 is too small; at least 32 pixels"):
        render(tmp_path / "new", size=8)
