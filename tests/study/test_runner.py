"""What is left to do, in which order, and what becomes of failures; nothing is trained here."""

import json
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from captioner.config.schema import Config, DecoderConfig
from captioner.errors import CaptionerError, UsageError
from captioner.study import conduct, job, runner
from captioner.study.conduct import can_share_this_process, held, interrupted_by_sigterm
from captioner.study.plan import Configuration, Run, Study
from captioner.study.run_folder import Summary, read_curves, read_failure, read_summary, state_of
from captioner.study.runner import InItsOwnProcess, InThisProcess, Progress, execute, spoken
from captioner.training.failures import TerminatedError


def run_in(folder: Path, name: str = "cell=gru", seed: int = 0) -> Run:
    config = Config(
        output=str(folder / name / f"seed-{seed}"),
        seed=seed,
        decoder=DecoderConfig(cell="gru", hidden_size=8),
    )
    return Run(name, seed, config)


def summary(split: str = "val", cider: float = 0.5) -> Summary:
    return Summary(split, {"CIDEr-D": cider}, {"split": split}, 10, 100.0, 2, 3)


def leave(run: Run, *names: str) -> None:
    """Make the files of a run that has come so far."""
    for name in names:
        path = run.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"checkpoints/{'best' if name == 'trained' else name}.ckpt")
    if names:
        (run.folder / "config.yaml").write_text(yaml.safe_dump(asdict(run.config)))


def end(run: Run, what: Summary) -> None:
    (run.folder / "summary.json").write_text(json.dumps(asdict(what)))


class FakeJob:
    """Takes some looks to end, with or without a problem."""

    def __init__(self, looks: int, problem: str | None, events: list[str], name: str) -> None:
        self.looks, self._problem, self.events, self.name = looks, problem, events, name

    def ended(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def problem(self) -> str | None:
        self.events.append(f"end {self.name}")
        return self._problem

    def stop(self) -> None:
        self.events.append(f"stop {self.name}")


def test_states(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    assert state_of(run, "val") == "new"
    leave(run, "vocabulary.txt")
    assert state_of(run, "val") == "new", "killed before its first checkpoint"
    leave(run, "checkpoints/last.ckpt")
    assert state_of(run, "val") == "started"
    leave(run, "trained")
    assert state_of(run, "val") == "trained"
    end(run, summary())
    assert state_of(run, "val") == "done"
    assert state_of(run, "test") == "trained", "to be scored on the other split"
    assert read_summary(run.folder) == summary()


def test_what_cannot_change_a_result_may_differ(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    leave(run, "checkpoints/last.ckpt", "trained")
    config = replace(run.config, data=replace(run.config.data, workers=3, features="there"))
    assert state_of(replace(run, config=config), "val") == "trained"


def test_another_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    leave(run, "checkpoints/last.ckpt")
    other = replace(run.config, decoder=replace(run.config.decoder, hidden_size=16))
    with pytest.raises(UsageError, match=r"decoder.hidden_size 8, this study needs 16"):
        state_of(replace(run, config=other), "val")


def test_a_folder_whose_run_never_began_is_used_anew(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    leave(run, "log.txt")
    other = replace(run.config, decoder=replace(run.config.decoder, hidden_size=16))
    assert state_of(replace(run, config=other), "val") == "new"


def test_damaged_files_are_named(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    leave(run, "trained")
    (run.folder / "summary.json").write_text("{")
    with pytest.raises(CaptionerError, match=r"summary.json: damaged; remove it to score"):
        state_of(run, "val")
    (run.folder / "config.yaml").write_text("[1")
    with pytest.raises(UsageError, match=r"config.yaml: not a run configuration; remove"):
        state_of(run, "val")


def test_carry_out_does_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New runs are trained, started ones resumed, trained ones scored, done ones left alone."""
    calls: list[str] = []

    def train(config: Config, resume: Path | None) -> Path:
        calls.append("train" if resume is None else f"resume {resume.name}")
        leave(run, "checkpoints/last.ckpt")
        return Path(config.output) / "checkpoints" / "best.ckpt"

    def caption_stored(config: Config, path: Path, split: str) -> None:
        calls.append(f"score {path.name} on {split}")
        raise CaptionerError("far enough")

    monkeypatch.setattr("captioner.training.run.train", train)
    monkeypatch.setattr("captioner.study.scoring.caption_stored", caption_stored)
    run = run_in(tmp_path)

    def again() -> list[str]:
        calls.clear()
        with pytest.raises(CaptionerError, match="far enough"):
            job.carry_out(run, "val")
        return list(calls)

    assert again() == ["train", "score best.ckpt on val"]
    assert again() == ["score best.ckpt on val"]
    (run.folder / "trained").unlink()
    assert again() == ["resume last.ckpt", "score best.ckpt on val"]
    end(run, summary())
    calls.clear()
    job.carry_out(run, "val")
    assert calls == []


def test_runs_share_slots_and_failures_do_not_end_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.0)
    runs = [run_in(tmp_path, seed=seed) for seed in range(4)]
    events: list[str] = []
    lines: list[str] = []

    def start(run: Run, slot: int) -> FakeJob:
        events.append(f"start {run.seed} in {slot}")
        problem = "no memory" if run.seed == 1 else None
        return FakeJob([9, 1, 1, 1][run.seed], problem, events, str(run.seed))

    progress = Progress(total=5, done=1)
    execute(
        runs,
        start,
        slots=2,
        progress=progress,
        show=lambda now: lines.append(now.line()),
        result=lambda run: f"CIDEr-D {run.seed}.0",
    )
    assert events[:4] == ["start 0 in 0", "start 1 in 1", "end 1", "start 2 in 1"]
    assert sorted(events[4:]) == ["end 0", "end 2", "end 3", "start 3 in 1"]
    assert (progress.done, progress.failed, progress.running) == (4, [runs[1]], [])
    assert read_failure(runs[1].folder) == "no memory"
    assert lines[0] == "study: 1 of 5 runs done, 1 running"
    assert any("1 failed, about 0 s left, last: cell=gru seed 1 failed: no mem" in x for x in lines)
    assert (
        lines[-1]
        == "study: 4 of 5 runs done, 0 running, 1 failed, last: cell=gru seed 0 CIDEr-D 0.0"
    )


def test_an_interrupted_study_stops_its_jobs(tmp_path: Path) -> None:
    events: list[str] = []

    def start(run: Run, slot: int) -> FakeJob:
        if run.seed == 1:
            raise KeyboardInterrupt
        return FakeJob(9, None, events, str(run.seed))

    with pytest.raises(KeyboardInterrupt):
        execute(
            [run_in(tmp_path, seed=seed) for seed in range(2)],
            start,
            slots=2,
            progress=Progress(total=2),
            show=lambda now: None,
            result=str,
        )
    assert events == ["stop 0"]


def test_a_failure_in_this_process_goes_to_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def carry_out(run: Run, split: str) -> None:
        print("a line of the run")
        raise CaptionerError("the data\nare not there") if run.seed else ValueError("oh")

    monkeypatch.setattr(runner, "carry_out", carry_out)
    first, second = (InThisProcess(run_in(tmp_path, seed=seed), "val") for seed in range(2))
    assert first.ended()
    assert first.problem() == "ValueError: oh"
    assert second.problem() == "the data are not there"
    log = (run_in(tmp_path).folder / "log.txt").read_text()
    assert "a line of the run" in log
    assert "Traceback" in log
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_that_lightning_made_an_exit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def carry_out(run: Run, split: str) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(runner, "carry_out", carry_out)
    with pytest.raises(KeyboardInterrupt):
        InThisProcess(run_in(tmp_path), "val")


@pytest.mark.slow
def test_a_failure_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The data set is not there; the reason comes from the log of the run."""
    config = replace(run_in(tmp_path).config, data=replace(Config().data, format="coco", root="no"))
    started = InItsOwnProcess(replace(run_in(tmp_path), config=config), "val", threads=1)
    while not started.ended():
        time.sleep(0.1)
    assert started.problem() == "data.root: no folder no"
    assert "Traceback" in (run_in(tmp_path).folder / "log.txt").read_text()


def test_a_process_of_its_own_can_be_stopped(tmp_path: Path) -> None:
    started = InItsOwnProcess(run_in(tmp_path), "val", threads=1, device="0")
    started.stop()
    assert started.ended()
    assert started.problem() is not None


def test_when_a_run_gets_a_process_of_its_own() -> None:
    config = Config()
    quiet = replace(config, wandb=replace(config.wandb, mode="disabled"))
    assert can_share_this_process(quiet)
    assert not can_share_this_process(config)
    assert not can_share_this_process(replace(quiet, trainer=replace(config.trainer, devices=2)))


def test_conducting_skips_what_is_done_and_shares_out_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features once; a process for each run, with its threads and its device."""
    runs = tuple(run_in(tmp_path, seed=seed) for seed in range(4))
    study = Study(tmp_path, "CIDEr-D", "val", (Configuration("cell=gru", {}, runs),))
    leave(runs[1], "trained", "checkpoints/last.ckpt")
    end(runs[1], summary())
    prepared: list[Config] = []
    started: list[tuple[int, int, str | None]] = []

    class Process(FakeJob):
        def __init__(self, run: Run, split: str, threads: int, device: str | None) -> None:
            super().__init__(0, None, [], str(run))
            started.append((run.seed, threads, device))
            leave(run, "trained")
            end(run, summary())

    monkeypatch.setattr("captioner.features.prepare.prepare", prepared.append)
    monkeypatch.setattr(conduct, "InItsOwnProcess", Process)
    monkeypatch.setattr(conduct, "processors", lambda: 8)
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.0)
    progress = conduct.conduct(study, jobs=3, devices=["0", "7"])
    assert started == [(0, 2, "0"), (2, 2, "7"), (3, 2, "0")]
    assert progress.done == 4
    assert [config.output for config in prepared] == [str(tmp_path)]
    assert conduct.conduct(study).done == 4
    assert len(prepared) == 1, "nothing is left to prepare for"


def test_a_study_is_conducted_by_one_process_at_a_time(tmp_path: Path) -> None:
    study = Study(tmp_path / "out", "CIDEr-D", "val", ())
    with (
        held(study),
        pytest.raises(CaptionerError, match="out: another process conducts this study"),
        held(study),
    ):
        pass
    with held(study):
        pass


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.2, "3 s"), (100, "2 min"), (5399, "1 h 30 min"), (7500, "2 h 05 min")]
)
def test_time_left_in_words(seconds: float, words: str) -> None:
    assert spoken(seconds) == words


def test_curves_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(
        "epoch,step,lr-Adam,train/loss,words_per_second,val/loss\n"
        ",0,0.1,,,\n0,0,,4.0,100,\n0,1,,3.0,120,\n0,1,,,,3.5\n1,2,,2.0,300,\n1,3,,,,2.5\n"
    )
    curves = read_curves(tmp_path)
    assert curves.train_loss == [(0.5, 3.5), (1.5, 2.0)]
    assert curves.val_loss == [(1.0, 3.5), (2.0, 2.5)]
    assert curves.median_speed == 210
    assert read_curves(tmp_path / "nowhere").median_speed is None


def test_the_loss_on_the_score_is_not_in_the_curve(tmp_path: Path) -> None:
    """It is minus a reward, not nats per word."""
    (tmp_path / "metrics.csv").write_text(
        "epoch,step,train/loss,val/loss,train/sampled_reward\n"
        "0,1,3.5,,\n0,1,,3.2,\n1,2,-0.02,,0.4\n1,2,,4.4,\n"
    )
    curves = read_curves(tmp_path)
    assert curves.train_loss == [(0.5, 3.5)]
    assert curves.val_loss == [(1.0, 3.2), (2.0, 4.4)]


def test_sigterm_is_told_from_an_interrupt_of_the_keyboard() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if started by `command &`
    with pytest.raises(TerminatedError, match="rerun the same command"), interrupted_by_sigterm():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupted_by_sigterm():
        signal.raise_signal(signal.SIGINT)
