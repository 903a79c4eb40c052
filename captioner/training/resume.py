"""Where a run starts: at its beginning, or at a checkpoint that fits its settings."""

from dataclasses import dataclass
from pathlib import Path

from captioner import checkpoint
from captioner.config.schema import Config
from captioner.errors import UsageError
from captioner.features.prepare import Prepared
from captioner.model.captioner import Captioner
from captioner.training.resume_checks import check_resume
from captioner.training.stages import Stage, stage_of
from captioner.training.wandb_log import new_run_id


@dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
        checkpoint: the file that training resumes from; None begins a run.
        step: optimiser step of that checkpoint; None begins a run.
        wandb_run: W&B's name for the run.
        stage: the stage of the run that training is in.
    """

    checkpoint: Path | None
    step: int | None
    wandb_run: str
    stage: Stage


def start_of(resume: Path | None, config: Config, prepared: Prepared) -> Start:
    """The start of a run, after checking the checkpoint that it resumes from.

    Raises:
        UsageError: no checkpoint, a damaged one, or one of another run; the message names what
            differs.
    """
    if resume is None:
        return Start(None, None, new_run_id(), Stage())
    raw = check_resume(resume, config, prepared)
    known = raw["captioner"].get("wandb_run")
    return Start(resume, raw["global_step"], known or new_run_id(), stage_of(raw))


def load_initial(captioner: Captioner, path: Path, prepared: Prepared, config: Config) -> None:
    """Start a network from the weights of a checkpoint.

    The encoder's weights are taken if it was fine-tuned; a frozen one is that of the stored
    features.

    Raises:
        UsageError: the checkpoint's words, encoder or decoder are others.
    """
    given = checkpoint.load(path)
    if given.vocabulary.words != prepared.vocabulary.words:
        raise UsageError(
            f"--initial: {path} has a vocabulary of {len(given.vocabulary)} words, which is not "
            f"that of these captions ({len(prepared.vocabulary)} words)"
        )
    theirs, ours = given.config.encoder, config.encoder
    if (theirs.name, theirs.features) != (ours.name, ours.features):
        raise UsageError(
            f"--initial: {path} was trained on {theirs.features} features of {theirs.name}, and "
            f"this run is on {ours.features} features of {ours.name}"
        )
    if theirs.train_from is not None and ours.train_from is None:
        raise UsageError(
            f"--initial: the encoder of {path} was fine-tuned; set encoder.train_from (it was "
            f"{theirs.train_from}) to train on with it"
        )
    try:
        captioner.decoder.load_state_dict(given.captioner.decoder.state_dict())
        if theirs.train_from is not None:
            captioner.encoder.load_state_dict(given.captioner.encoder.state_dict())
    except RuntimeError as error:
        raise UsageError(
            f"--initial: {path} holds another network than the settings of this run describe "
            f"({' '.join(str(error).split())[:200]})"
        ) from error
