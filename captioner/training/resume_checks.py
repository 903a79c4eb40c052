"""Check that a checkpoint is complete and belongs to the run that resumes from it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from captioner import checkpoint
from captioner.config.schema import Config
from captioner.config.settings import flat, from_dict
from captioner.datasets.records import Record
from captioner.errors import CaptionerError, UsageError, shown
from captioner.features.prepare import Prepared
from captioner.training.run_files import best_checkpoint, last_checkpoint
from captioner.training.stages import stage_of

MAY_CHANGE = (
    "checkpoint.",
    "data.",  # photos and captions are compared directly
    "decoder.vectors",  # read only at the start of a run
    "encoder.batch_size",
    "encoder.weights",  # the weights are compared directly
    "encoder.workers",
    "finetune.checkpoint",  # read only at the start of a run
    "optimization.monitor",
    "optimization.on_nonfinite",
    "optimization.patience",
    "output",
    "score.epochs",
    "search.",
    "trainer.",
    "vocabulary.max_size",  # the words are compared directly
    "vocabulary.min_count",
    "wandb.",
    "watch.",
)
"""Settings, or groups of settings, that a resumed run may change. A change to any other setting
would have no effect (the optimiser's state includes its own rates) or make it another run."""

SHORT = "data, search, trainer, checkpoint, watch, wandb, output and optimization.patience"
"""The settings that may change, for messages."""

COSINE_STEPS = (
    "trainer.max_epochs",
    "trainer.limit_train_batches",
    "trainer.accumulate_grad_batches",
    "data.batch_size",
)
"""Settings that determine the number of steps of a run, which a cosine schedule depends on."""


def check_resume(path: Path, config: Config, prepared: Prepared) -> dict[str, Any]:
    """Compare a checkpoint with the run that resumes from it, and return its contents.

    Raises:
        UsageError: The checkpoint is missing, damaged, or from another run; the message names the
            difference.
    """
    raw = read_resumed(path, config)
    ours = raw["captioner"]
    try:
        before, stage = from_dict(Config, ours["config"]), stage_of(raw)
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"--resume: {path}: damaged: it has no configuration") from error
    check_words(path, ours["vocabulary"], before, config, prepared)
    check_regions(path, before, config)
    ahead = ("score.",) if stage.name == "cross_entropy" else ()  # that stage has not begun
    check_settings(path, before, config, MAY_CHANGE + ahead)
    if stage.name == "cross_entropy":
        check_epochs(path, raw, "trainer.max_epochs", config.trainer.max_epochs)
    else:
        check_epochs(path, raw, "score.epochs", config.score.epochs, stage.first_epoch)
    check_data(path, ours.get("data"), prepared.records)
    if config.encoder.train_from is None:
        check_encoder(path, raw["state_dict"], prepared)
    return raw


def read_resumed(path: Path, config: Config) -> dict[str, Any]:
    """Read a checkpoint to resume from; see `read_whole`.

    Raises:
        UsageError: The file is damaged; the message names another one if the run has an intact one.
    """
    try:
        return read_whole(path)
    except CaptionerError as error:
        raise UsageError(f"--resume: {error}{other_file(path, Path(config.output))}") from error


def read_whole(path: Path) -> dict[str, Any]:
    """Read a checkpoint with its whole training state, and verify its checksums.

    Raises:
        UsageError: The file is damaged, or holds weights only.
    """
    if path.is_dir():
        raise UsageError(f"{path}: an export has no training state; name a checkpoint")
    checkpoint.check_whole(path)
    raw = checkpoint.read(path)
    parts = ("loops", "callbacks", "optimizer_states", "lr_schedulers")
    missing = [part for part in parts if part not in raw]
    step = raw.get("global_step")
    ours = raw["captioner"]
    if missing or type(step) is not int or not isinstance(ours.get("config"), Mapping):
        raise UsageError(
            f"{path}: the training state is incomplete ({', '.join(missing) or 'no step'}); "
            "the file can caption, but not resume"
        )
    if not isinstance(ours.get("vocabulary"), list):
        raise UsageError(f"{path}: damaged: it has no vocabulary")
    return raw


def other_file(path: Path, output: Path) -> str:
    """Return a hint that names the run's other checkpoint if it is intact, for a message."""
    for other in (last_checkpoint(output), best_checkpoint(output)):
        if other.is_file() and not (path.exists() and other.samefile(path)):
            try:
                read_whole(other)
            except CaptionerError:
                continue
            return f"; use --resume {other} instead"
    return ""


def check_words(
    path: Path, words: Sequence[str], before: Config, config: Config, prepared: Prepared
) -> None:
    """Refuse a vocabulary that differs from the checkpoint's.

    Raises:
        UsageError: The message names the vocabulary settings that differ.
    """
    now = list(prepared.vocabulary.words)
    if words == now:
        return
    changed = differences(before, config)
    named = [told(name, changed[name]) for name in changed if name.startswith("vocabulary.")]
    raise UsageError(
        f"--resume: {path} has a vocabulary of {len(words):,} words, this data set another one "
        f"({len(now):,} words{', '.join(['', *named])}); resume with the data and the vocabulary "
        "settings of that run"
    )


def check_settings(
    path: Path, before: Config, now: Config, may_change: tuple[str, ...] = MAY_CHANGE
) -> None:
    """Refuse a changed setting that a resumed run cannot change.

    Raises:
        UsageError: The message names the setting with both values, and the settings that may
            change.
    """
    changed = differences(before, now)
    fixed = [name for name in changed if not name.startswith(may_change)]
    if now.optimization.schedule == "cosine":
        fixed += [name for name in changed if name in COSINE_STEPS]
    if not fixed:
        return
    more = f" (and {', '.join(fixed[1:4])})" if len(fixed) > 1 else ""
    why = ""
    if fixed[0] in COSINE_STEPS:
        why = "; the cosine schedule depends on the number of steps of the whole run"
    raise UsageError(
        f"--resume: {told(fixed[0], changed[fixed[0]])}{more}{why}; restore the value to resume "
        f"from {path}; a resumed run may change {SHORT}"
    )


def told(name: str, values: tuple[Any, Any]) -> str:
    """Return a setting with its old and new value, for a message."""
    return f"{name}: {shown(values[0])} in the checkpoint, {shown(values[1])} now"


def differences(before: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ, by dotted name, with their old and new values."""
    old, new = dict(flat(asdict(before))), dict(flat(asdict(now)))
    return {name: (old[name], new[name]) for name in new if old[name] != new[name]}


def check_epochs(
    path: Path, raw: Mapping[str, Any], name: str, epochs: int, first_epoch: int = 0
) -> None:
    """Refuse fewer epochs than the stage has begun.

    Args:
        path: The checkpoint.
        raw: Its contents.
        name: Setting that holds the number of epochs of the stage.
        epochs: Value of that setting.
        first_epoch: Epochs of the run before the stage.

    Raises:
        UsageError: The message states the number of epochs begun.
    """
    try:
        progress = raw["loops"]["fit_loop"]["epoch_progress"]["current"]
        completed = int(progress["completed"])
        begun = completed + (int(progress["ready"]) > completed) - first_epoch
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"--resume: {path}: damaged: it has no epoch count") from error
    if epochs < begun:
        raise UsageError(
            f"--resume: {name} {epochs}: {path} is already in epoch {begun}; set at least {begun}"
        )


def data_digest(records: Sequence[Record]) -> str:
    """Return a digest of image ids and captions."""
    digest = hashlib.blake2b(digest_size=16)
    for record in records:
        digest.update(repr((record.image_id, tuple(record.captions))).encode("utf-8", "replace"))
    return digest.hexdigest()


def described(records: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
    """Return the counts and the digest of the training data that a checkpoint stores."""
    return {
        "train": len(records["train"]),
        "val": len(records["val"]),
        "digest": data_digest(records["train"]),
    }


def check_data(path: Path, before: object, records: Mapping[str, Sequence[Record]]) -> None:
    """Refuse another training split; older checkpoints without a digest are not checked.

    Raises:
        UsageError: The message states both numbers of photos.
    """
    if not isinstance(before, Mapping):
        return
    now = described(records)
    if before.get("digest") != now["digest"]:
        raise UsageError(
            f"--resume: data: {path} was trained on {before.get('train')} photos; this data set "
            f"has {now['train']} with other ids or captions; resume with the data set of that run"
        )


def check_regions(path: Path, before: Config, now: Config) -> None:
    """Refuse region features where photos were encoded, or the other way round.

    Raises:
        UsageError: The message says what the checkpoint was trained on.
    """
    if (before.data.regions is None) == (now.data.regions is None):
        return
    what = "encoded photos" if before.data.regions is None else "region features"
    right = "null" if before.data.regions is None else f"their folder ({before.data.regions})"
    raise UsageError(
        f"--resume: data.regions: {path} was trained on {what}; set data.regions to {right}"
    )


def check_encoder(path: Path, state: Mapping[str, Any], prepared: Prepared) -> None:
    """Refuse a frozen encoder whose weights differ from the checkpoint's.

    Raises:
        UsageError: The weights differ.
    """
    for name, tensor in prepared.encoder.state_dict().items():
        saved = state.get(f"captioner.encoder.{name}")
        if saved is None:  # another network structure: loading its weights reports that
            continue
        if saved.shape != tensor.shape or not torch.allclose(saved, tensor):
            raise UsageError(
                f"--resume: encoder.weights: {name} differs from the encoder in {path}; resume "
                "with the encoder of that run"
            )
