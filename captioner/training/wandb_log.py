"""Logging to Weights & Biases: the same run when resumed, and never the end of one."""

import netrc
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

from captioner.console import say


class WandbLog(WandbLogger):
    """Lightning's logger, with two differences.

    Rows carry their step: what a resumed run logs again W&B knows already, and drops. An error of
    W&B is told once and training goes on: metrics.csv has all numbers.
    """

    _silent = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Lightning always passes this setting on, and W&B warns that it has no effect.
        self._wandb_init.pop("anonymous", None)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log a row."""
        import wandb

        try:
            row = dict(metrics) if step is None else {**metrics, "trainer/global_step": step}
            self.experiment.log(row, step=step)
        except (wandb.Error, OSError) as error:
            if not self._silent:
                say(f"W&B: {one_line(error)}; training goes on, metrics.csv has all numbers")
            self._silent = True


def new_run_id() -> str:
    """A name for a run that no other has."""
    return secrets.token_hex(4)


def open_wandb_log(
    output: Path, *, mode: str, run_id: str, resumed: bool, **about: Any
) -> WandbLog | None:
    """The logger of a run; offline where W&B cannot be reached, None where it is disabled.

    Args:
        output: the run's folder.
        mode: "online", "offline", "disabled", or "auto": online where an API key is found, disabled
            elsewhere; `WANDB_MODE` decides instead of that where it is set.
        run_id: W&B's name for the run.
        resumed: whether the run is known already.
        about: project, name, group, tags.
    """
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if has_wandb_key() else "disabled")
    if mode == "disabled":
        return None
    import wandb

    output.mkdir(parents=True, exist_ok=True)
    # Silent: W&B's own lines go to the terminal otherwise; what matters of them is said here.
    about |= {"save_dir": output, "id": run_id, "settings": wandb.Settings(silent=True)}
    later = f"`wandb sync {output / 'wandb'}/offline-run-*` sends it later"
    first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
    if mode != "offline" and first:
        log = WandbLog(**about, resume="allow")
        try:
            say(f"W&B: {log.experiment.url}")
        except (wandb.Error, OSError) as error:
            reason = one_line(error)[:120]
            say(f"W&B cannot be reached ({reason}): the run is logged offline; {later}")
            wandb.teardown()
            return WandbLog(**about, offline=True)
        return log
    if mode == "offline" and first:
        say(f"W&B: the run is logged offline; {later}")
    return WandbLog(**about, offline=mode == "offline", resume="allow" if resumed else None)


def has_wandb_key() -> bool:
    """Whether an API key is in the environment or where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def one_line(error: BaseException) -> str:
    """What an error says, in a line."""
    return " ".join(str(error).split()) or type(error).__name__
