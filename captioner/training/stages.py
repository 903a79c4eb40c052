"""The stages of a run: cross-entropy first, then the score, in one folder and one log.

The second stage begins from a checkpoint like any that a run resumes from: `begin_score` writes
last.ckpt anew, with the best weights, sharpened, and no state of the first stage's optimiser. So
steps, epochs, metrics.csv, the W&B run and the best score continue, and a run killed between the
stages, or in either of them, resumes as ever. The best score so far stays the one to beat: the
second stage cannot end worse on the validation split than it began.
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
    """A part of a run with an objective, an optimiser and a schedule of its own.

    Attributes:
        name: what it trains on.
        first_epoch: epochs that the run had completed when the stage began.
    """

    name: Literal["cross_entropy", "score"] = "cross_entropy"
    first_epoch: int = 0

    def asdict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)


def stage_of(raw: dict[str, Any]) -> Stage:
    """The stage that a checkpoint belongs to; those before stages existed are of the first."""
    return Stage(**raw.get("stage", {}))


def begin_score(last: Path, best: Path, sharpen: float) -> None:
    """Turn last.ckpt, the end of the first stage, into the beginning of the second.

    Args:
        last: is written anew, as a whole.
        best: gives the weights; where it is absent those of `last` are kept.
        sharpen: multiplies the weights and biases of the output.

    Raises:
        CaptionerError: the checkpoint cannot be written.
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
