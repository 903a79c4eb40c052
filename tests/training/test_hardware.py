"""Devices, strategies and precisions that are not there: one line with the choices."""

from dataclasses import replace

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from captioner.cli import main
from captioner.config.schema import TrainerConfig
from captioner.errors import UsageError
from captioner.training.hardware import available_devices, check_hardware


@pytest.mark.parametrize(
    ("flag", "value", "hint"),
    [
        ("accelerator", "npu", "choose one of auto, cpu, gpu, cuda, mps, tpu"),
        ("accelerator", "CPU", "choose one of auto, cpu"),
        ("strategy", "dpp", "did you mean ddp? choose one of auto, ddp, "),
        ("strategy", "fsdp", "choose one of auto, ddp, "),
        ("precision", "fp16", "choose one of 32-true, bf16-mixed, 16-mixed"),
        ("precision", "64-true", "choose one of 32-true, bf16-mixed, 16-mixed"),
    ],
)
@pytest.mark.parametrize("command", ["train", "prepare"])
def test_unknown_names(
    command: str, flag: str, value: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, f"--trainer.{flag}", value]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"captioner: error: trainer.{flag}: unknown {flag} {value!r}; ")
    assert hint in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(("kind", "name"), [("gpu", "cuda"), ("cuda", "cuda"), ("mps", "mps")])
def test_devices_that_are_not_there(
    kind: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=rf"{kind} is not available here; .*: cpu \(\d+\)$"):
        check_hardware(TrainerConfig(accelerator=kind))


def test_a_tpu_that_is_not_there() -> None:
    if "tpu" in available_devices():
        pytest.skip("there is one")
    with pytest.raises(UsageError, match="tpu is not available here"):
        check_hardware(TrainerConfig(accelerator="tpu"))


def test_more_devices_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioner.training.hardware.available_devices", lambda: {"cpu": 2})
    trainer = TrainerConfig(accelerator="cpu", devices=9)
    with pytest.raises(UsageError, match=r"devices: 9; at most 8 processes on 2 CPU cores here"):
        check_hardware(trainer)
    check_hardware(replace(trainer, devices=2, strategy="ddp"))
    monkeypatch.setattr(
        "captioner.training.hardware.available_devices", lambda: {"cpu": 2, "cuda": 1}
    )
    with pytest.raises(UsageError, match="devices: 2; at most 1 cuda devices here"):
        check_hardware(TrainerConfig(accelerator="gpu", devices=2))


def test_settings_that_do_not_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**flags: object) -> None:
        raise MisconfigurationException("no such pair:\n see the manual")

    monkeypatch.setattr("lightning.Trainer", refuse)
    with pytest.raises(UsageError, match=r"accelerator cpu, .*cannot be combined here: no such"):
        check_hardware(TrainerConfig(accelerator="cpu"))
