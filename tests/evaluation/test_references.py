"""References of every format, results of every form, and the way from a photo to its image."""

import json
import unicodedata
from pathlib import Path

import pytest

from captioner.cli import main
from captioner.errors import CaptionerError
from captioner.evaluation.references import ImageNames, load_references
from captioner.evaluation.report import read_system
from captioner.evaluation.result_files import load_results
from captioner.evaluation.special_tokens import strip_special_tokens

DOG, CAT = "a brown dog runs on the grass", "two cats sleep on a red sofa"


def coco(folder: Path, *names: tuple[object, str]) -> Path:
    """References whose images have the captions DOG and CAT."""
    images = [{"id": image, "file_name": name} for image, name in names]
    rows = [
        {"id": at, "image_id": image, "caption": text}
        for at, ((image, _), text) in enumerate(zip(names, (DOG, CAT), strict=True))
    ]
    file = folder / "refs.json"
    file.write_text(json.dumps({"images": images, "annotations": rows}), encoding="utf-8")
    return file


def results(folder: Path, *rows: tuple[str, str]) -> Path:
    file = folder / "results.jsonl"
    lines = [json.dumps({"image": name, "caption": text}) for name, text in rows]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("names", "photos"),
    [
        (((8, "7.jpg"), (7, "8.jpg")), ("7.jpg", "8.jpg")),
        (((8, "7.jpg"), (7, "8.jpg")), ("/data/val/7.jpg", "val/8.jpg")),
        (((1, "x/a.jpg"), (2, "y/a.jpg")), ("in/x/a.jpg", "in/y/a.jpg")),
        (
            ((1, "COCO_val2014_000000000042.jpg"), (42, "9.jpg")),
            ("COCO_val2014_000000000042.jpg", "9.jpg"),
        ),
        (((0, "caf\u00e9.jpg"), (1, "b.jpg")), (unicodedata.normalize("NFD", "café.jpg"), "b.jpg")),
    ],
)
def test_photos_are_found_by_file_name_first(tmp_path: Path, names, photos) -> None:
    file = results(tmp_path, (photos[0], DOG), (photos[1], CAT))
    system = read_system(file, coco(tmp_path, *names))
    assert system.captions == {names[0][0]: DOG, names[1][0]: CAT}


def test_a_number_is_an_id_only_where_no_file_name_contradicts_it() -> None:
    named = ImageNames([1, 391895], {1: "dog.jpg", 391895: "COCO_val2014_000000391895.jpg"})
    assert named.find("391895.png") == 391895
    assert named.find("1.jpg") is None
    assert ImageNames([1], {}).find("000001.jpg") == 1
    assert named.misleading() is None
    assert ImageNames([1, 2], {1: "2.jpg"}).misleading() == "2.jpg"


def test_a_name_of_two_photos_is_refused(tmp_path: Path) -> None:
    file = results(tmp_path, ("a.jpg", DOG))
    with pytest.raises(
        CaptionerError, match=r"line 1: 'a.jpg' matches images 1 and 2; include the fol"
    ):
        read_system(file, coco(tmp_path, (1, "x/a.jpg"), (2, "y/a.jpg")))


def test_a_coco_result_that_may_be_misread_is_noted(tmp_path: Path) -> None:
    references = coco(tmp_path, (2, "1.jpg"), (1, "2.jpg"))
    file = tmp_path / "r.json"
    rows = [{"image_id": 2, "caption": DOG}, {"image_id": 1, "caption": CAT}]
    file.write_text(json.dumps(rows))
    [note] = read_system(file, references).notes
    assert note.startswith("image_id in r.json is interpreted as an image id")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.csv", f"image,caption,error\nin/1.jpg,{DOG},\n2.jpg,{CAT},\n3.jpg,,not a photo\n"),
        ("r.txt", f"in/1.jpg\t{DOG}\n2.jpg\t{CAT}\n3.jpg\terror: not a photo\n"),
        ("r.tsv", f"caption\timage_id\n{DOG}\t7\n{CAT}\t8\n"),
        (
            "r.ndjson",
            json.dumps({"image_id": 7, "caption": DOG})
            + "\n"
            + json.dumps({"image": "2.jpg", "caption": CAT}),
        ),
    ],
)
def test_forms_of_results(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    system = read_system(tmp_path / name, coco(tmp_path, (7, "1.jpg"), (8, "2.jpg")))
    assert system.captions == {7: DOG, 8: CAT}


def test_a_folder_of_captions(tmp_path: Path) -> None:
    references = load_references(coco(tmp_path, (7, "1.jpg"), (8, "2.jpg")))
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(CaptionerError, match=r"no manifest\.json"):
        load_results(folder, references)
    for at, (name, text) in enumerate((("1.jpg", DOG), ("2.jpg", CAT))):
        line = json.dumps({"image": name, "caption": text})
        (folder / f"captions-{at:05d}.jsonl").write_text(line + "\n")
    shards = {str(at): {"file": f"captions-{at:05d}.jsonl", "count": 1} for at in range(2)}
    manifest = {"complete": False, "shards": shards}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CaptionerError, match="incomplete; rerun the `captioner caption` command"):
        load_results(folder, references)
    (folder / "manifest.json").write_text(json.dumps(manifest | {"complete": True}))
    assert load_results(folder, references).groups == {7: [DOG], 8: [CAT]}
    shards["0"]["file"] = "../refs.json"
    (folder / "manifest.json").write_text(json.dumps(manifest | {"complete": True}))
    with pytest.raises(CaptionerError, match="damaged: no file"):
        load_results(folder, references)


KARPATHY = {
    "images": [
        {
            "cocoid": 7,
            "filepath": "val2014",
            "filename": "1.jpg",
            "split": "test",
            "sentences": [{"raw": DOG}],
        },
        {
            "cocoid": 8,
            "filepath": "val2014",
            "filename": "2.jpg",
            "split": "test",
            "sentences": [{"raw": CAT}],
        },
        {
            "cocoid": 9,
            "filepath": "val2014",
            "filename": "3.jpg",
            "split": "restval",
            "sentences": [{"raw": "a cow"}],
        },
    ]
}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dataset_coco.json", json.dumps(KARPATHY)),
        ("Flickr8k.token.txt", f"1.jpg#0\t{DOG}\n2.jpg#0\t{CAT}\n"),
        ("captions.csv", f'"image","caption"\n"1.jpg","{DOG}"\n"2.jpg","{CAT}"\n'),
        ("results.csv", f"image_name| comment_number| comment\n1.jpg| 0| {DOG}\n2.jpg| 0| {CAT}\n"),
        (
            "captions.jsonl",
            json.dumps({"image": "a/1.jpg", "captions": [DOG], "split": "test", "id": 5})
            + "\n"
            + json.dumps({"image": "a/2.jpg", "captions": [CAT], "split": "test"})
            + "\n"
            + json.dumps({"image": "a/3.jpg", "captions": ["a cow"], "split": "train"}),
        ),
        (
            "metadata.jsonl",
            json.dumps({"file_name": "1.jpg", "text": DOG})
            + "\n"
            + json.dumps({"file_name": "2.jpg", "text": CAT}),
        ),
    ],
)
def test_references_of_every_format(tmp_path: Path, name: str, text: str, capsys) -> None:
    (tmp_path / name).write_bytes(text.encode("utf-16"))
    file = results(tmp_path, ("out/1.jpg", DOG), ("2.jpg", CAT))
    arguments = ["evaluate", "--results", file, "--references", tmp_path / name]
    assert main([*map(str, arguments)]) == 0
    printed = capsys.readouterr().out
    assert "BLEU-4    100.0" in printed
    assert ("split:test" in printed) == ("split" in text)


def test_flagged_references_do_not_count(tmp_path: Path) -> None:
    file = coco(tmp_path, (1, "1.jpg"), (2, "2.jpg"))
    document = json.loads(file.read_text())
    document["annotations"].append({"image_id": 1, "caption": "no", "is_precanned": True})
    file.write_text(json.dumps(document))
    loaded = load_references(file)
    assert loaded.groups == {1: [DOG], 2: [CAT]}
    assert loaded.notes == ("1 annotation flagged is_rejected or is_precanned is skipped",)


@pytest.mark.parametrize(
    ("caption", "stripped"),
    [
        ("<start> a dog runs <end>", "a dog runs"),
        ("<s>a dog runs</s><pad><pad>", "a dog runs"),
        ("[CLS] a dog runs [SEP] [PAD]", "a dog runs"),
        ("startseq a dog runs endseq endseq", "a dog runs"),
        ("<|endoftext|>a dog runs<|endoftext|> and on", "a dog runs"),
        ("a <unk> runs <END> on", "a <unk> runs"),
        ("<end>", ""),
        ("a dog <3 a backend>", "a dog <3 a backend>"),
    ],
)
def test_special_tokens(caption: str, stripped: str) -> None:
    assert strip_special_tokens(caption) == stripped


def test_special_tokens_are_stripped_and_counted(tmp_path: Path, capsys) -> None:
    file = results(tmp_path, ("1.jpg", f"<start> {DOG} <end>"), ("2.jpg", CAT))
    references = coco(tmp_path, (1, "1.jpg"), (2, "2.jpg"))
    assert main(["evaluate", "--results", str(file), "--references", str(references)]) == 0
    printed = capsys.readouterr().out
    assert "BLEU-4    100.0" in printed
    assert "note: 1 of 2 captions in results.jsonl contain special tokens" in printed
