"""The stages of a run: cross-entropy first, then the score, in one folder and one log.

The second stage starts from a checkpoint like any resumed run. `begin_score` rewrites last.ckpt
with the best weights, sharpened, and without the state of the first stage's optimiser. Steps,
epochs, metrics.csv, the W&B run and the best score continue. A run killed between or within the
stages resumes with the same command. The best score so far is kept, so best.ckpt is never worse on
the validation split after the second stage than before it.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from captioner.checkpoint.file import WEIGHTS_PREFIX
from captioner.files.tensors import read_tensors
from captioner.training.checkpoints import move, write_checkpoint

OUTPUT_WEIGHTS = ("decoder.projection.weight", "decoder.projection.bias")


@dataclass(frozen=True)
class Stage:
    """A part of a run with its own objective, optimiser and schedule.

    Attributes:
        name: What the stage trains on.
        first_epoch: Number of epochs completed before the stage began.
    """

    name: Literal["cross_entropy", "score"] = "cross_entropy"
    first_epoch: int = 0

    def asdict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return asdict(self)


def stage_of(raw: dict[str, Any]) -> Stage:
    """Return the stage of a checkpoint; older checkpoints without one belong to the first."""
    return Stage(**raw.get("stage", {}))


def begin_score(last: Path, best: Path, sharpen: float) -> None:
    """Rewrite last.ckpt, the end of the first stage, as the start of the second.

    Args:
        last: File to replace, atomically.
        best: File whose weights are used; if it is missing, the weights of `last` are kept.
        sharpen: Factor for the weights and biases of the output layer.

    Raises:
        CaptionerError: The checkpoint cannot be written.
    """
    raw = read_tensors(last)
    weights = read_tensors(best)["state_dict"] if best.is_file() else raw["state_dict"]
    for name in OUTPUT_WEIGHTS:
        weights[WEIGHTS_PREFIX + name] = weights[WEIGHTS_PREFIX + name] * sharpen
    completed = raw["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"]
    kept = {name: state for name, state in raw["callbacks"].items() if name == "RunCheckpoints"}
    raw |= {
        "state_dict": weights,
        "optimizer_states": [],
        "lr_schedulers": [],
        "callbacks": kept,
        "stage": Stage("score", completed).asdict(),
    }
    draft = last.with_name(last.name + ".part")
    write_checkpoint(raw, draft)
    move(draft, last)
