"""Region features: the layouts of published files, names, and refusals of one line."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captioner.errors import UsageError
from captioner.files.arrays import ArrayError
from captioner.photos.regions import RegionFolder, file_names, names_of

FEATURES = np.arange(12, dtype=np.float32).reshape(3, 4)
BOXES = np.array([[0, 0, 9, 9], [1, 2, 3, 4], [5, 5, 8, 9]], np.float32)


def write(path: Path, **arrays: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def test_bottom_up_files(tmp_path: Path) -> None:
    for i, names in enumerate([("features", "boxes"), ("x", "bbox")]):
        size = {"image_w": np.array(640), "image_h": np.array(480)}
        other = {"info": np.array({"objects": [1]}, dtype=object)}  # never unpickled
        write(tmp_path / f"{i}.npz", **{names[0]: FEATURES, names[1]: BOXES}, **size, **other)
        found = RegionFolder(tmp_path).read(names_of(Path("photos/beach.jpg"), i))
        np.testing.assert_array_equal(found.features, FEATURES)
        assert found.boxes is not None
        np.testing.assert_array_equal(found.boxes, BOXES)
        assert found.size == (640, 480)


def test_files_of_ruotianluo(tmp_path: Path) -> None:
    """cocobu_att/ID.npz with `feat`, cocobu_fc/ID.npy and cocobu_box/ID.npy."""
    photo = names_of(Path("COCO_val2014_000000391895.jpg"))
    write(tmp_path / "cocobu_att" / "391895.npz", feat=FEATURES.astype(np.float16))
    for folder, array in (("cocobu_fc", FEATURES[0]), ("cocobu_box", BOXES)):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "391895.npy", array)
    attended = RegionFolder(tmp_path / "cocobu_att").read(photo)
    np.testing.assert_array_equal(attended.features, FEATURES)
    assert attended.features.dtype == np.float32
    assert attended.boxes is not None
    np.testing.assert_array_equal(attended.boxes, BOXES)
    pooled = RegionFolder(tmp_path / "cocobu_fc").read(photo)
    np.testing.assert_array_equal(pooled.features, FEATURES[:1])
    assert pooled.boxes is None


def test_a_grid_is_its_cells_row_by_row(tmp_path: Path) -> None:
    grid = np.arange(24.0).reshape(2, 3, 4)
    write(tmp_path / "1.npz", feat=grid)
    np.testing.assert_array_equal(
        RegionFolder(tmp_path).read(["1"]).features, [grid[i, j] for i in (0, 1) for j in range(3)]
    )


def test_names() -> None:
    assert list(file_names(["7", "a.jpg"])) == [
        "7.npz", "7.npy", "a.jpg.npz", "a.jpg.npy", "a.npz", "a.npy",
    ]  # fmt: skip
    assert list(file_names(["v1.2"])) == ["v1.2.npz", "v1.2.npy"]
    assert list(file_names(["000000000139.jpg"]))[-2:] == ["139.npz", "139.npy"]
    for outside in ("../a", "/etc/a", "a/../../b", "", "a\0b"):
        assert list(file_names([outside])) == []


def test_a_file_that_came_later_is_found(tmp_path: Path) -> None:
    folder = RegionFolder(tmp_path)
    assert folder.find(["1"]) is None
    write(tmp_path / "1.npz", features=FEATURES)
    assert folder.find(["1"]) == tmp_path / "1.npz"
    assert pickle.loads(pickle.dumps(folder)).find(["1"]) == tmp_path / "1.npz"


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"features": FEATURES.astype(np.int32)}, "features of type int32"),
        ({"features": np.zeros((0, 4), np.float32)}, "no region"),
        ({"features": np.zeros((3, 0), np.float32)}, "no region"),
        ({"features": np.zeros((2, 2, 2, 2), np.float32)}, "features of shape (2, 2, 2, 2)"),
        ({"features": np.array(1.0)}, "features of shape ()"),
        ({"features": np.full((3, 4), np.nan)}, "not finite"),
        ({"features": np.full((3, 4), 1e300)}, "not finite"),
        ({"features": np.zeros((5000, 1), np.float32)}, "5,000 regions, more than the 4,096"),
        ({"features": np.zeros((3, 5), np.float32)}, "regions of 5 numbers, not 4"),
        ({"features": FEATURES, "boxes": BOXES[:2]}, "3 regions, but 2 boxes"),
        ({"features": FEATURES, "boxes": BOXES[:, :3]}, "boxes of shape (3, 3)"),
        ({"features": FEATURES, "boxes": BOXES + np.inf}, "boxes of shape (3, 4)"),
        ({"features": np.array([{}], dtype=object)}, "not plain numbers"),
        ({"boxes": BOXES, "width": np.array(3)}, "no array of features"),
    ],
)
def test_unusable_files_are_one_line(tmp_path: Path, arrays: Any, reason: str) -> None:
    write(tmp_path / "1.npz", **arrays)
    with pytest.raises(ArrayError) as caught:
        RegionFolder(tmp_path, width=4).read(["1"])
    assert reason in str(caught.value)
    assert str(tmp_path / "1.npz") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ArrayError, match=r"no region file for beach.jpg, such as beach.jpg.npz"):
        RegionFolder(tmp_path).read(names_of(Path("a/beach.jpg")))
    with pytest.raises(UsageError, match="no such folder"):
        RegionFolder(tmp_path / "nowhere")
    (tmp_path / "1.npz").mkdir()
    with pytest.raises(ArrayError, match="cannot be read: Is a directory"):
        RegionFolder(tmp_path).read(["1"])
