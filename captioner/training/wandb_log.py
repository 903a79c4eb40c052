"""Log to Weights & Biases; a resumed run continues its W&B run, and W&B errors never end it."""

import netrc
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

from captioner.console import say
from captioner.files.atomic import write_whole


class WandbLog(WandbLogger):
    """Lightning's W&B logger with two differences.

    Rows carry their step, so that W&B drops the rows that a resumed run logs again. A W&B error is
    reported once and training continues, because metrics.csv holds all metrics.
    """

    _silent = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Lightning always passes this setting on, and W&B warns that it has no effect.
        self._wandb_init.pop("anonymous", None)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log one row."""
        import wandb

        try:
            row = dict(metrics) if step is None else {**metrics, "trainer/global_step": step}
            self.experiment.log(row, step=step)
        except (wandb.Error, OSError) as error:
            if not self._silent:
                say(f"W&B: {one_line(error)}; training continues, metrics.csv has all metrics")
            self._silent = True


def new_run_id() -> str:
    """Return a random id for a run."""
    return secrets.token_hex(4)


def open_wandb_log(
    output: Path, *, mode: str, run_id: str, resumed: bool, **about: Any
) -> WandbLog | None:
    """Open the logger of a run: offline if W&B is unreachable, None if it is disabled.

    Args:
        output: Folder of the run.
        mode: "online", "offline", "disabled", or "auto": the value of `WANDB_MODE`, or else online
            if an API key is found and disabled otherwise.
        run_id: W&B id of the run.
        resumed: Whether the run resumes from a checkpoint.
        about: Project, name, group and tags.
    """
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if has_wandb_key() else "disabled")
    if mode == "disabled":
        return None
    import wandb

    output.mkdir(parents=True, exist_ok=True)
    # Silent: W&B's own lines go to the terminal otherwise; what matters of them is said here.
    about |= {"save_dir": output, "id": run_id, "settings": wandb.Settings(silent=True)}
    later = f"`wandb sync {output / 'wandb'}/offline-run-*` uploads it later"
    first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
    if mode != "offline" and first:
        log = WandbLog(**about, resume="allow")
        try:
            say(f"W&B: {log.experiment.url}")
        except (wandb.Error, OSError) as error:
            reason = one_line(error)[:120]
            say(f"W&B is unreachable ({reason}): logging this run offline; {later}")
            wandb.teardown()
            return WandbLog(**about, offline=True)
        return log
    if mode == "offline" and first:
        say(f"W&B: the run is logged offline; {later}")
    return WandbLog(**about, offline=mode == "offline", resume="allow" if resumed else None)


def log_study(
    output: Path, *, mode: str, project: str, tags: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Log the table and plots of a study as a W&B run of its own; reporting again updates it.

    Args:
        output: Folder of the study, which holds plots.png.
        mode: As in `open_wandb_log`.
        project: W&B project.
        tags: Tags of the run.
        rows: The table, one row per run.
    """
    known = output / "wandb_run"
    run_id = known.read_text("utf-8").strip() if known.is_file() else new_run_id()
    log = open_wandb_log(
        output,
        mode=mode,
        run_id=run_id,
        resumed=known.is_file(),
        project=project,
        name=output.name,
        job_type="study",
        tags=list(tags),
    )
    if log is None:
        return
    import wandb

    write_whole(known, f"{run_id}\n")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    try:
        log.log_image("study", [str(output / "plots.png")])
        log.log_table("runs", columns=columns, data=[[row.get(c) for c in columns] for row in rows])
        log.experiment.finish()
    except (wandb.Error, OSError) as error:
        say(f"W&B: {one_line(error)}; {output} holds the table and plots")


def has_wandb_key() -> bool:
    """Return whether the environment or the file of `wandb login` holds an API key."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def one_line(error: BaseException) -> str:
    """Return an error's message as one line."""
    return " ".join(str(error).split()) or type(error).__name__
