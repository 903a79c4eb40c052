"""Region features of a detector, from `prepare` to captions of new photos."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_photo, write_jsonl
from test_resume import Interruption, check_same, interrupt_at
from test_run import prepared_run, trained_run

from captioner.cli import main
from captioner.config.parser import config_parser, parse_config
from captioner.inference.predictor import Predictor
from captioner.study.scoring import caption_stored

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, of many kinds

WIDTH = 6
SETTINGS = {
    "decoder.attention": "adaptive",
    "decoder.dropout": "0.3",
    "decoder.attention_size": "8",
    "data.batch_size": "2",
    "optimization.learning_rate": "0.02",
    "checkpoint.every_steps": "3",
    "watch.gradient_every": "4",
    "watch.gradient_steps": "2",
    "score.epochs": "1",
    "score.samples": "3",
    "score.learning_rate": "0.01",
}


def write_regions(folder: Path, photos: list[Path]) -> None:
    """Write 2 to 5 regions for each photo, named by photo or, for some, without its ending."""
    folder.mkdir(exist_ok=True)
    for photo in photos:
        rng = np.random.default_rng(sum(photo.name.encode()))
        count = int(rng.integers(2, 6))
        corner = rng.integers(0, 15, (count, 2))
        arrays = {
            "features": rng.normal(size=(count, WIDTH)).astype(np.float32),
            "boxes": np.concatenate((corner, corner + rng.integers(2, 15, (count, 2))), 1),
            "image_w": np.array(40),
            "image_h": np.array(30),
        }
        np.savez(folder / (photo.stem if count % 2 else photo.name), **arrays)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    root = write_jsonl(tmp_path_factory.mktemp("data"))
    write_regions(root / "regions", sorted(root.glob("*.png")))
    return root, prepared_run(root, SETTINGS, "--data.regions", str(root / "regions"))


@pytest.fixture(scope="module")
def whole(prepared: tuple[Path, list[str]]) -> Path:
    return trained_run(*prepared)


def best(run: Path) -> str:
    return str(run / "checkpoints" / "best.ckpt")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_prepare_reads_every_file(
    prepared: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, flags = prepared
    for more in ([], ["--verify"]):
        assert main(["prepare", *flags, *more]) == 0
        assert "have 2 to 5 regions of 6 numbers; 13 have boxes" in said(capsys)
    assert not (root / "features").exists()  # no second copy


def test_a_killed_run_with_attention_resumes_exactly_in_both_stages(
    prepared: tuple[Path, list[str]],
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flags = [*prepared[1], "--output", str(tmp_path / "run"), "--resume", "auto"]
    for step in (4, 10):
        with monkeypatch.context() as patch:
            interrupt_at(patch, step)
            with pytest.raises(Interruption):
                main(["train", *flags])
    assert main(["train", *flags]) == 0
    check_same(whole, tmp_path / "run")


def test_evaluate_writes_what_the_study_scores(
    prepared: tuple[Path, list[str]], whole: Path, tmp_path: Path
) -> None:
    """Alone, in a batch with more regions, from files elsewhere: the captions are the same."""
    root, flags = prepared
    config, _ = parse_config(config_parser("train", ""), flags)
    stored = caption_stored(config, Path(best(whole)), "val").system.captions
    moved = tmp_path / "moved"
    shutil.copytree(root / "regions", moved)
    call = ["evaluate", "--checkpoint", best(whole), "--split", "val"]
    for i, more in enumerate((["--batch-size", "1"], ["--data.regions", str(moved)])):
        output = tmp_path / f"{i}.json"
        assert main([*call, *more, "--captions", str(output)]) == 0
        found = {row["image_id"]: row["caption"] for row in json.loads(output.read_text())}
        assert found == stored


def test_new_photos_need_their_regions(
    prepared: tuple[Path, list[str]],
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photos = [make_photo(tmp_path / f"new{i}.png", i) for i in range(3)]
    write_regions(tmp_path / "own", photos[:2])
    call = ["caption", *map(str, photos), "--checkpoint", best(whole)]
    assert main(call) == 2
    assert "was trained on a detector's region features" in said(capsys)
    assert main([*call, "--regions", str(tmp_path / "nowhere")]) == 2
    assert "regions: no such folder" in said(capsys)
    capsys.readouterr()
    call += ["--regions", str(tmp_path / "own"), "--format", "jsonl", "--attention"]
    assert main(call) == 1
    first, second, third = map(json.loads, capsys.readouterr().out.splitlines())
    assert "no region file for new2.png" in third["error"]
    for record, photo in ((first, photos[0]), (second, photos[1])):
        (file,) = (tmp_path / "own").glob(f"{photo.stem}.*")
        own = np.load(file)
        attention = record["attention"]
        np.testing.assert_array_equal(attention["boxes"], own["boxes"])
        weights = np.array(attention["weights"])
        assert weights.shape == (len(attention["words"]), len(own["boxes"]))
        np.testing.assert_allclose(weights.sum(1) + attention["sentinel"], 1, atol=1e-5)
    figures = tmp_path / "figures"
    call = ["caption", str(photos[0]), "--checkpoint", best(whole), "--regions"]
    assert main([*call, str(tmp_path / "own"), "--attention-figures", str(figures)]) == 0
    assert len(list(figures.glob("*.png"))) == 1
    assert main(["inspect", str(photos[0]), "--checkpoint", best(whole), "--output", "x"]) == 2
    assert "inspect shows checkpoints that encode photos themselves" in said(capsys)


def test_a_folder_that_is_not_needed(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = make_photo(tmp_path / "a.png", 1)
    call = ["caption", str(photo), "--checkpoint", str(tiny_checkpoint)]
    assert main([*call, "--regions", str(tmp_path)]) == 2
    assert "reads no region features; leave --regions out" in said(capsys)


def test_ensembles_with_and_without_regions_and_exports(
    prepared: tuple[Path, list[str]], whole: Path, tmp_path: Path
) -> None:
    root, flags = prepared
    no_regions = [*flags, "--data.regions", "null", "--decoder.attention", "none"]
    encoded = [*no_regions, "--score.epochs", "0", "--output", str(tmp_path / "encoded")]
    mean = [*flags, "--decoder.attention", "none", "--decoder.cell", "lstm"]
    mean += ["--score.epochs", "0", "--output", str(tmp_path / "mean")]
    assert main(["prepare", *encoded]) == 0
    for one in (encoded, mean):
        assert main(["train", *one]) == 0
    assert (
        main(["export", "--checkpoint", best(whole), "--output", str(tmp_path / "exported")]) == 0
    )
    photos = sorted(root.glob("val*.png"))
    members = [best(tmp_path / "encoded"), best(whole), best(tmp_path / "mean")]
    together = Predictor.load(members, regions=root / "regions", attention=True)
    found = list(together.caption(photos))
    assert all(one.caption is not None for one in found)
    assert all(one.attention is not None and one.attention.boxes is not None for one in found)
    alone, exported = (
        [one.candidates for one in Predictor.load(path, regions=root / "regions").caption(photos)]
        for path in (best(whole), tmp_path / "exported")
    )
    assert alone == exported
    scorer = Predictor.load(best(whole), regions=root / "regions")
    long, short = scorer.score(photos[0], ["a red dog runs on a cat", "a red dog runs"])
    assert long < short < 0


@pytest.mark.parametrize("fault", ["missing", "damaged", "shared"])
def test_faults_of_a_data_set(
    prepared: tuple[Path, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fault: str,
) -> None:
    root, flags = prepared
    folder = tmp_path / "regions"
    shutil.copytree(root / "regions", folder)
    (file,) = folder.glob("train1.*")
    if fault == "damaged":
        file.write_bytes(file.read_bytes()[:-9])
    elif fault == "missing":
        file.unlink()
    else:
        root = shutil.copytree(root, tmp_path / "copy")
        lines = (root / "captions.jsonl").read_text().splitlines()
        (root / "a").mkdir()
        (root / "train1.png").rename(root / "a" / "train0.png")
        lines[1] = lines[1].replace('"train1.png"', '"a/train0.png"')
        (root / "captions.jsonl").write_text("\n".join(lines))
    flags = [*flags, "--data.regions", str(folder), "--data.root", str(root)]
    flags += ["--output", str(tmp_path / "run")]
    reasons = {
        "missing": "1 photos cannot be used (first: image 'train1.png' has no region file)",
        "damaged": f"1 of 13 region files are not usable (first: {file}: not a usable array",
        "shared": "image 'a/train0.png' shares train0",
    }
    assert main(["prepare", *flags]) == 1
    assert reasons[fault] in said(capsys)
    assert main(["train", *flags]) == 1
    last = said(capsys)
    assert (str(file) if fault == "damaged" else reasons[fault]) in last
    if fault == "damaged":
        return
    assert main(["prepare", *flags, "--data.on_problem", "skip"]) == 0
    assert "12 photos" in said(capsys)


def test_what_does_not_go_together(
    prepared: tuple[Path, list[str]],
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, flags = prepared
    assert main(["train", *flags, "--encoder.train_from", "all"]) == 2
    assert "there is no encoder to fine-tune" in said(capsys)
    other = [*flags, "--data.regions", "null", "--encoder.features", "grid"]
    other += ["--data.features", str(tmp_path)]
    assert main(["prepare", *other]) == 0
    last = str(whole / "checkpoints" / "last.ckpt")
    assert main(["train", *other, "--output", str(tmp_path / "run"), "--resume", last]) == 2
    assert "was trained on region features; set data.regions to their folder" in said(capsys)
    assert main(["train", *other, "--output", str(tmp_path / "run"), "--initial", last]) == 2
    assert "was trained on region features, this run is not" in said(capsys)
    wide = tmp_path / "wide"
    wide.mkdir()
    for photo in sorted(root.glob("val*.png")):
        np.save(wide / photo.stem, torch.zeros(2, WIDTH + 1).numpy())
    call = ["evaluate", "--checkpoint", best(whole), "--split", "val", "--data.regions", str(wide)]
    assert main(call) == 1
    assert "no photo of the val split can be captioned" in said(capsys)
