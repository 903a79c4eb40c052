"""Start a run from the beginning, from its own checkpoint, or from the weights of another."""

from dataclasses import dataclass
from pathlib import Path

from captioner import checkpoint
from captioner.config.schema import Config
from captioner.errors import UsageError
from captioner.features.prepare import Prepared
from captioner.model.captioner import Captioner
from captioner.model.given_features import GivenFeatures
from captioner.training.resume_checks import check_resume
from captioner.training.stages import Stage, stage_of
from captioner.training.wandb_log import new_run_id


@dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
        checkpoint: Checkpoint to resume from; None for a new run.
        step: Optimiser step of that checkpoint; None for a new run.
        wandb_run: W&B id of the run.
        stage: Current stage of the run.
    """

    checkpoint: Path | None
    step: int | None
    wandb_run: str
    stage: Stage


def start_of(resume: Path | None, config: Config, prepared: Prepared) -> Start:
    """Return where a run starts, after checking the checkpoint that it resumes from.

    Raises:
        UsageError: The checkpoint is missing, damaged, or from another run; the message names the
            difference.
    """
    if resume is None:
        return Start(None, None, new_run_id(), Stage())
    raw = check_resume(resume, config, prepared)
    known = raw["captioner"].get("wandb_run")
    return Start(resume, raw["global_step"], known or new_run_id(), stage_of(raw))


def load_initial(captioner: Captioner, path: Path, prepared: Prepared, config: Config) -> None:
    """Initialise a network with the weights of a checkpoint.

    The encoder's weights are loaded only if it was fine-tuned. A frozen encoder is the one that
    computed the stored features.

    Raises:
        UsageError: The checkpoint has another vocabulary, encoder or decoder.
    """
    given = checkpoint.load(path)
    if given.vocabulary.words != prepared.vocabulary.words:
        raise UsageError(
            f"--initial: {path} has a vocabulary of {len(given.vocabulary):,} words, this data "
            f"set one of {len(prepared.vocabulary):,}; use the data and the vocabulary settings "
            "of that checkpoint"
        )
    if given.reads_regions != isinstance(captioner.encoder, GivenFeatures):
        what = "region features" if given.reads_regions else "encoded photos"
        raise UsageError(
            f"--initial: {path} was trained on {what}, this run is not; see data.regions"
        )
    theirs, ours = given.config.encoder, config.encoder
    same = (theirs.name, theirs.features) == (ours.name, ours.features)
    if not (same or given.reads_regions):
        raise UsageError(
            f"--initial: {path} was trained on {theirs.features} features of {theirs.name}; this "
            f"run uses {ours.features} features of {ours.name}"
        )
    if theirs.train_from is not None and ours.train_from is None:
        raise UsageError(
            f"--initial: {path} has a fine-tuned encoder; set encoder.train_from (it was "
            f"{theirs.train_from}) to continue with it"
        )
    try:
        captioner.decoder.load_state_dict(given.captioner.decoder.state_dict())
        if theirs.train_from is not None:
            captioner.encoder.load_state_dict(given.captioner.encoder.state_dict())
    except RuntimeError as error:
        raise UsageError(
            f"--initial: the network in {path} does not match the settings of this run "
            f"({' '.join(str(error).split())[:200]})"
        ) from error
