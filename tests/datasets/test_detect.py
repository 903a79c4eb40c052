"""`data.format auto`: what a folder's files say about its format."""

import json
from pathlib import Path

import pytest

from captioner.datasets.detect import detect_format
from captioner.datasets.load import load_records
from captioner.errors import UsageError

FILES = {
    "sidecar": {"a.jpg": "", "a.txt": "a dog\n", "notes.csv": "when,where\n1,2\n"},
    "jsonl": {"x.jpg": "", "metadata.jsonl": json.dumps({"file_name": "x.jpg", "text": "a dog"})},
    "csv": {"x.jpg": "", "captions.txt": "image,caption\nx.jpg,A dog .\n"},
    "flickr8k": {
        "Images/x.jpg": "",
        "captions.txt": "image,caption\nx.jpg,A dog .\n",
        "Flickr_8k.trainImages.txt": "x.jpg\n",
    },
    "karpathy": {
        "images/x.jpg": "",
        "dataset_flickr8k.json": json.dumps(
            {"images": [{"filename": "x.jpg", "split": "train", "sentences": [{"raw": "a dog"}]}]}
        ),
    },
    "coco": {
        "train/x.jpg": "",
        "annotations/captions_train.json": json.dumps(
            {
                "images": [{"id": 1, "file_name": "x.jpg"}],
                "annotations": [{"id": 1, "image_id": 1, "caption": "a dog"}],
            }
        ),
    },
}
OTHERS = [
    ("sidecar", {"deep/er/a.png": "", "deep/er/a.png.caption": "ein Hund"}),
    ("jsonl", {"train/0.jpg": "", "train/metadata.jsonl": '{"file_name": "0.jpg", "text": "a"}'}),
    ("csv", {"val/0.jpg": "", "val/metadata.csv": "file_name,text\n0.jpg,a\n"}),
    ("csv", {"0.jpg": "", "mine.tsv": "0.jpg\ta dog\n"}),
    ("csv", {"flickr30k_images/0.jpg": "", "results.csv": "image_name| comment\n0.jpg| a\n"}),
    ("flickr8k", {"Images/0.jpg": "", "Flickr8k.token.txt": "0.jpg#0\ta dog\n"}),
]


def make(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(("name", "files"), [*FILES.items(), *OTHERS])
def test_one_format(tmp_path: Path, name: str, files: dict[str, str]) -> None:
    root = make(tmp_path, files)
    assert detect_format(root) == name
    divided = None if name in ("coco", "karpathy") else "1/0"
    [record] = load_records(format="auto", root=root, split=divided).records
    assert record.path.is_file()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("x.jsonl", "{}", "jsonl"),
        ("x.json", "{}", "karpathy"),
        ("x.dat", "a.jpg#0\ta dog\n", "flickr8k"),
        ("x.dat", "a.jpg\ta dog\n", "csv"),
    ],
)
def test_a_named_file(tmp_path: Path, name: str, text: str, expected: str) -> None:
    (tmp_path / name).write_text(text)
    assert detect_format(tmp_path, annotations=tmp_path / name) == expected


def test_headings_of_ones_own(tmp_path: Path) -> None:
    make(tmp_path, {"x.jpg": "", "bilder.csv": "bild;satz\nx.jpg;ein Hund\n"})
    with pytest.raises(UsageError, match="no captions in"):
        detect_format(tmp_path)
    assert detect_format(tmp_path, columns="image=bild, caption=satz") == "csv"


def test_nothing_and_too_much_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"data\.root: no folder"):
        detect_format(tmp_path / "nowhere")
    (tmp_path / "x.jpg").touch()
    with pytest.raises(UsageError) as caught:
        detect_format(tmp_path)
    assert str(caught.value) == (
        f"data.root: no captions in {tmp_path}; expected a text file beside each photo (a.jpg and "
        "a.txt), metadata.jsonl or captions.csv; for anything else set data.format"
    )
    make(tmp_path, FILES["jsonl"] | FILES["sidecar"])
    with pytest.raises(UsageError) as caught:
        detect_format(tmp_path)
    assert str(caught.value) == (
        f"data.root: {tmp_path} has captions in several formats: jsonl (metadata.jsonl), sidecar "
        "(a.txt); choose one with data.format"
    )
