"""Refusals to resume: one line names the reason, and nothing on disk changes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_jsonl
from test_run import arguments

from captioner.cli import main
from captioner.config.schema import Config
from captioner.training.resume_checks import differences

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, of many kinds

MORE = ("--data.batch_size", "2", "--optimization.schedule", "cosine", "--trainer.max_epochs", "2")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run of two epochs, and its flags."""
    from torchvision import models

    torch.manual_seed(0)
    root = write_jsonl(tmp_path_factory.mktemp("data"))
    weights = root / "squeezenet.pth"
    torch.save(models.squeezenet1_1().state_dict(), weights)
    flags = arguments(root, "--encoder.weights", str(weights), *MORE)
    assert main(["prepare", *flags]) == 0
    assert main(["train", *flags]) == 0
    return root / "run", flags


@pytest.fixture
def run(trained: tuple[Path, list[str]], tmp_path: Path) -> tuple[Path, list[str]]:
    """A copy of it, to be damaged."""
    shutil.copytree(trained[0], tmp_path / "run")
    return tmp_path / "run", [*trained[1], "--output", str(tmp_path / "run"), "--resume", "auto"]


def refusal(
    run: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str], *more: str, code: int = 2
) -> str:
    """Return the error line; check that config.yaml and last.ckpt are unchanged."""
    files = [
        path
        for path in (run[0] / "config.yaml", run[0] / "checkpoints" / "last.ckpt")
        if path.is_file()
    ]
    before = [path.read_bytes() for path in files]
    capsys.readouterr()
    assert main(["train", *run[1], *more]) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert [path.read_bytes() for path in files] == before
    lines = [line for line in said.splitlines() if line.startswith("captioner: error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("decoder.hidden_size", "16", "24"),
        ("decoder.embedding_size", "8", "12"),
        ("decoder.cell", "'gru'", "lstm"),
        ("decoder.dropout", "0.0", "0.5"),
        ("optimization.optimizer", "'adam'", "rmsprop"),
        ("optimization.learning_rate", "0.001", "0.01"),
        ("optimization.schedule", "'cosine'", "plateau"),
        ("optimization.schedule", "'cosine'", "constant"),
        ("optimization.warmup_steps", "0", "5"),
        ("optimization.label_smoothing", "0.0", "0.1"),
        ("encoder.train_from", "None", "features.12"),
        ("vocabulary.max_length", "30", "3"),
        ("seed", "0", "7"),
        ("trainer.max_epochs", "2", "4"),  # a cosine schedule depends on it
    ],
)
def test_settings_that_cannot_change(
    run: tuple[Path, list[str]],
    capsys: pytest.CaptureFixture[str],
    name: str,
    old: str,
    new: str,
) -> None:
    line = refusal(run, capsys, f"--{name}", new)
    assert f"--resume: {name}: {old} in the checkpoint, " in line
    assert f"{new}" in line.split("in the checkpoint, ")[1]
    assert "a resumed run may change data, search, trainer" in line


def test_settings_that_may_change(run: tuple[Path, list[str]]) -> None:
    unscheduled(run[0])
    more = ("--search.beam_size", "1", "--optimization.patience", "9", "--wandb.project", "x")
    longer = ("--optimization.schedule", "constant", "--trainer.max_epochs", "3")
    assert main(["train", *run[1], *more, *longer]) == 0
    assert "beam_size: 1" in (run[0] / "config.yaml").read_text()


def test_fewer_epochs(run: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    unscheduled(run[0])
    more = ("--optimization.schedule", "constant", "--trainer.max_epochs", "1")
    assert "trainer.max_epochs 1: " in (line := refusal(run, capsys, *more))
    assert line.endswith("is already in epoch 2; set at least 2")


def change(run: Path, action: Any) -> None:
    last = run / "checkpoints" / "last.ckpt"
    raw = torch.load(last, weights_only=True)
    action(raw)
    torch.save(raw, last)


def unscheduled(run: Path) -> None:
    """Rewrite the checkpoint as one without a schedule, whose run may be extended."""
    change(run, lambda raw: raw["captioner"]["config"]["optimization"].update(schedule="constant"))


def test_another_data_set_of_the_same_words(
    run: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same photos and words, but another id of a training photo."""
    root = Path(run[1][run[1].index("--data.root") + 1])
    other = shutil.copytree(root, tmp_path / "other")
    rows = [json.loads(line) for line in (other / "captions.jsonl").read_text().splitlines()]
    rows[0]["id"] = "another"
    (other / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = [*run[1], "--data.root", str(other)]
    assert main(["prepare", *flags[: flags.index("--resume")], "--data.root", str(other)]) == 0
    assert "was trained on 8 photos; this data set has 8 with other ids or captions" in refusal(
        (run[0], flags), capsys
    )


def test_another_encoder(
    run: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision import models

    torch.manual_seed(1)
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "other.pth")
    flags = ["--encoder.weights", str(tmp_path / "other.pth")]
    assert main(["prepare", *run[1][: run[1].index("--resume")], *flags]) == 0
    assert "differs from the encoder in" in refusal(run, capsys, *flags)


@pytest.mark.parametrize(
    "action",
    [
        lambda raw: raw.pop("loops"),
        lambda raw: raw.pop("optimizer_states"),
        lambda raw: raw.pop("global_step"),
        lambda raw: raw.update(loops=3),
        lambda raw: raw["captioner"].update(config=[1]),
        lambda raw: raw["captioner"].pop("vocabulary"),
        lambda raw: raw["optimizer_states"][0]["param_groups"].clear(),
        lambda raw: raw["callbacks"].clear() or raw["callbacks"].update(RunCheckpoints=1),
        lambda raw: raw["state_dict"].pop("captioner.decoder.embedding.weight"),
    ],
)
def test_incomplete_checkpoints(
    run: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str], action: Any
) -> None:
    change(run[0], action)
    line = refusal(run, capsys)
    assert "--resume: " in line
    assert "last.ckpt" in line


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "bit"])
def test_a_damaged_last_checkpoint_names_the_best(
    run: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    last = run[0] / "checkpoints" / "last.ckpt"
    data = bytearray(last.read_bytes())
    if damage == "bit":
        data[len(data) // 2] ^= 1  # of a weight
    content = {"empty": b"", "cut": data[: len(data) // 2], "text": b"<html>", "bit": data}[damage]
    last.write_bytes(content)
    line = refusal(run, capsys)
    assert "damaged" in line
    best = last.with_name("best.ckpt")
    assert line.endswith(f"; use --resume {best} instead")
    last.unlink()
    assert main(["train", *run[1], "--resume", str(best)]) == 0


def test_differences_are_by_dotted_name() -> None:
    assert differences(Config(seed=1), Config(seed=2)) == {"seed": (1, 2)}
