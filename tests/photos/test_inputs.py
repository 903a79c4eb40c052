"""What a user names, as photos in order."""

import json
from pathlib import Path

import pytest
from conftest import make_photo
from hypothesis import given
from hypothesis import strategies as st

from captioner.errors import CaptionerError, UsageError
from captioner.photos.folders import Skipped, files_below
from captioner.photos.inputs import PhotoInput, braces, check_lists, expand
from captioner.photos.paths import SUFFIXES


def names(found: list[PhotoInput]) -> list[str]:
    return [str(photo.path) for photo in found]


@given(st.lists(st.lists(st.sampled_from(["a", "a.b", "b", "A"]), max_size=3), max_size=12))
def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path_factory, places):
    folder = tmp_path_factory.mktemp("photos")
    for i, place in enumerate(places):
        target = folder.joinpath(*place)
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{'ab'[i % 2]}.jpg").write_bytes(b"")
        (target / "notes.txt").write_bytes(b"")
    wanted = sorted((p for p in folder.rglob("*") if p.is_file() and p.suffix in SUFFIXES), key=str)
    assert [found.path for found in files_below(folder, Skipped())] == wanted


def test_lists(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.jpg\r\n\n b c.jpg\nnone.tar\n")
    wanted = ["a.jpg", " b c.jpg", "none.tar"]
    assert names(list(expand([f"@{tmp_path}/list.txt"]))) == wanted
    found = list(expand([], lists=[f"{tmp_path}/list.txt"]))
    assert names(found) == wanted
    assert found[2].error == "no such file"
    assert names(list(expand(["x.jpg", "-"], ["y.jpg\n", "\n"]))) == ["x.jpg", "y.jpg"]
    with pytest.raises(UsageError, match=r"--list: no file none\.txt"):
        check_lists(["@none.txt"], [])
    photo = make_photo(tmp_path / "a.png", 0)
    for named in ([f"@{photo}"], []), ([], [str(photo)]):
        with pytest.raises(UsageError, match=r"a\.png: not a list of paths"):
            check_lists(*named)


def test_braces(tmp_path: Path) -> None:
    assert braces("a-{008..010}.tar") == ["a-008.tar", "a-009.tar", "a-010.tar"]
    assert braces("{9..10}/{0..1}") == ["9/0", "9/1", "10/0", "10/1"]
    assert braces("{a,b}.jpg") == ["{a,b}.jpg"]
    with pytest.raises(UsageError, match="runs backwards"):
        braces("{2..1}")
    with pytest.raises(UsageError, match="more than 1,000,000 names"):
        braces("{0..999}{0..9999}")
    odd = make_photo(tmp_path / "{0..2}.png", 0)  # a file of that very name
    assert names(list(expand([str(odd)]))) == [str(odd)]
    for i in (0, 1, 3):
        make_photo(tmp_path / f"{i}" / "a.png", i)
    found = list(expand([f"{tmp_path}/{{0..2}}/*.png"]))
    assert names(found) == [f"{tmp_path}/{i}" for i in ("0/a.png", "1/a.png", "2/*.png")]


def coco(path: Path, images: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images}))
    return path


def test_coco_files(tmp_path: Path) -> None:
    photo = make_photo(tmp_path / "val2014" / "1.png", 1)
    outside = ["../secret.png", "/etc/secret.png", "a/../../secret.png"]
    entries = [{"file_name": name} for name in ("1.png", "2.png", *outside, "", 3)]
    file = coco(tmp_path / "annotations" / "captions_val2014.json", [*entries, "x"])
    found = list(expand([str(file)]))
    assert names(found[:2]) == [str(photo), str(photo.with_name("2.png"))]
    assert [photo.path for photo in found[2:]] == [file / f"images[{i}]" for i in range(2, 8)]
    assert all("is outside its folder" in str(photo.error) for photo in found[2:5])
    assert all("is no file name" in str(photo.error) for photo in found[5:])
    elsewhere = list(expand([str(file)], images=tmp_path))
    assert elsewhere[0].path == tmp_path / "1.png"


def test_coco_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(CaptionerError, match="not JSON"):
        list(expand([str(tmp_path / "a.json")]))
    file = coco(tmp_path / "sub" / "image_info_test.json", [{"file_name": "1.jpg"}])
    with pytest.raises(UsageError, match="set their folder with --images"):
        list(expand([str(file)]))


def test_names_too_long_for_a_file(tmp_path: Path) -> None:
    long = "x" * 5000 + ".jpg"
    assert names(list(expand([long]))) == [long]
    file = coco(tmp_path / "a.json", [{"file_name": long}])
    (tmp_path / "images").mkdir()
    assert names(list(expand([str(file)]))) == [str(tmp_path / "images" / long)]
