"""What a checkpoint must be for a run to resume from it: whole, and of the same run."""

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
    "data.",  # the photos and captions themselves are compared
    "decoder.vectors",  # read at the beginning of a run only
    "encoder.batch_size",
    "encoder.weights",  # the weights themselves are compared
    "encoder.workers",
    "optimization.monitor",
    "optimization.on_nonfinite",
    "optimization.patience",
    "output",
    "score.epochs",
    "search.",
    "trainer.",
    "vocabulary.max_size",  # the words themselves are compared
    "vocabulary.min_count",
    "wandb.",
    "watch.",
)
"""Settings, or groups of them, that a resumed run may change. A change of any other would be
ignored (the optimiser's state brings its own rates) or would make it another run."""

SHORT = "data, search, trainer, checkpoint, watch, wandb, output and optimization.patience"
"""What may change, for messages."""

COSINE_STEPS = (
    "trainer.max_epochs",
    "trainer.limit_train_batches",
    "trainer.accumulate_grad_batches",
    "data.batch_size",
)
"""Settings that say how many steps a run has, which a cosine schedule is stretched over."""


def check_resume(path: Path, config: Config, prepared: Prepared) -> dict[str, Any]:
    """A checkpoint's contents, after comparing it with the run that resumes from it.

    Raises:
        UsageError: no checkpoint, a damaged one, or one of another run; the message names what
            differs.
    """
    try:
        raw = read_whole(path)
    except CaptionerError as error:
        raise UsageError(f"--resume: {error}{other_file(path, Path(config.output))}") from error
    ours = raw["captioner"]
    try:
        before, stage = from_dict(Config, ours["config"]), stage_of(raw)
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"--resume: {path}: damaged: no configuration") from error
    check_words(path, ours["vocabulary"], before, config, prepared)
    ahead = ("score.",) if stage.name == "cross_entropy" else ()  # not begun, so still free
    check_settings(path, before, config, MAY_CHANGE + ahead)
    if stage.name == "cross_entropy":
        check_epochs(path, raw, "trainer.max_epochs", config.trainer.max_epochs)
    else:
        check_epochs(path, raw, "score.epochs", config.score.epochs, stage.first_epoch)
    check_data(path, ours.get("data"), prepared.records)
    if config.encoder.train_from is None:
        check_encoder(path, raw["state_dict"], prepared)
    return raw


def read_whole(path: Path) -> dict[str, Any]:
    """A checkpoint with all that training resumes from; its checksums are compared.

    Raises:
        UsageError: it is damaged, or holds weights only.
    """
    if path.is_dir():
        raise UsageError(f"{path}: an export holds no training state; name a checkpoint")
    checkpoint.check_whole(path)
    raw = checkpoint.read(path)
    parts = ("loops", "callbacks", "optimizer_states", "lr_schedulers")
    missing = [part for part in parts if part not in raw]
    step = raw.get("global_step")
    ours = raw["captioner"]
    if missing or type(step) is not int or not isinstance(ours.get("config"), Mapping):
        raise UsageError(
            f"{path}: holds no complete training state ({', '.join(missing) or 'no step'}); "
            "it can caption, but not resume"
        )
    if not isinstance(ours.get("vocabulary"), list):
        raise UsageError(f"{path}: damaged: no vocabulary")
    return raw


def other_file(path: Path, output: Path) -> str:
    """For a message: the run's other checkpoint, if that is whole."""
    for other in (last_checkpoint(output), best_checkpoint(output)):
        if other.is_file() and not (path.exists() and other.samefile(path)):
            try:
                read_whole(other)
            except CaptionerError:
                continue
            return f"; resume from --resume {other}"
    return ""


def check_words(
    path: Path, words: Sequence[str], before: Config, config: Config, prepared: Prepared
) -> None:
    """Refuse another vocabulary.

    Raises:
        UsageError: the message says which settings differ.
    """
    now = list(prepared.vocabulary.words)
    if words == now:
        return
    changed = differences(before, config)
    named = [told(name, changed[name]) for name in changed if name.startswith("vocabulary.")]
    raise UsageError(
        f"--resume: {path}: its vocabulary of {len(words)} words is not that of these captions "
        f"({len(now)} words{', '.join(['', *named])}); resume with the data and the vocabulary "
        "settings that it was trained with"
    )


def check_settings(
    path: Path, before: Config, now: Config, may_change: tuple[str, ...] = MAY_CHANGE
) -> None:
    """Refuse settings that a resumed run cannot change.

    Raises:
        UsageError: the message names one with its old and new value, and what may change.
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
        why = "; the cosine schedule is stretched over the steps of the whole run"
    raise UsageError(
        f"--resume: {told(fixed[0], changed[fixed[0]])}{more}{why}; {path} can only be resumed "
        f"with its own; what may change: {SHORT}"
    )


def told(name: str, values: tuple[Any, Any]) -> str:
    """A setting with its old and new value."""
    return f"{name}: {shown(values[0])} in the checkpoint, {shown(values[1])} now"


def differences(before: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """Settings, by dotted name, in which two configurations differ: old and new value."""
    old, new = dict(flat(asdict(before))), dict(flat(asdict(now)))
    return {name: (old[name], new[name]) for name in new if old[name] != new[name]}


def check_epochs(
    path: Path, raw: Mapping[str, Any], name: str, epochs: int, first_epoch: int = 0
) -> None:
    """Refuse fewer epochs than the stage has begun.

    Args:
        path: the checkpoint.
        raw: its contents.
        name: the setting that says how many epochs the stage has.
        epochs: its value.
        first_epoch: epochs of the run before the stage.

    Raises:
        UsageError: the message says how many there are.
    """
    try:
        progress = raw["loops"]["fit_loop"]["epoch_progress"]["current"]
        completed = int(progress["completed"])
        begun = completed + (int(progress["ready"]) > completed) - first_epoch
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"--resume: {path}: damaged: no count of epochs") from error
    if epochs < begun:
        raise UsageError(
            f"--resume: {name}: {epochs}, but {path} is from epoch {begun}; give at least {begun}"
        )


def data_digest(records: Sequence[Record]) -> str:
    """Digest of image ids and captions."""
    digest = hashlib.blake2b(digest_size=16)
    for record in records:
        digest.update(repr((record.image_id, tuple(record.captions))).encode("utf-8", "replace"))
    return digest.hexdigest()


def described(records: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
    """What a checkpoint holds of its training data, to know them again: counts and a digest."""
    return {
        "train": len(records["train"]),
        "val": len(records["val"]),
        "digest": data_digest(records["train"]),
    }


def check_data(path: Path, before: object, records: Mapping[str, Sequence[Record]]) -> None:
    """Refuse another training split; checkpoints of older versions do not know theirs.

    Raises:
        UsageError: the message gives both numbers of photos.
    """
    if not isinstance(before, Mapping):
        return
    now = described(records)
    if before.get("digest") != now["digest"]:
        raise UsageError(
            f"--resume: data: {path} was trained on {before.get('train')} photos, these are "
            f"{now['train']} with other ids or captions; resume with the data set that it was "
            "trained with"
        )


def check_encoder(path: Path, state: Mapping[str, Any], prepared: Prepared) -> None:
    """Refuse other weights of a frozen encoder, which gave the features.

    Raises:
        UsageError: they differ.
    """
    for name, tensor in prepared.encoder.state_dict().items():
        saved = state.get(f"captioner.encoder.{name}")
        if saved is None:  # of a network described in another way: loading it will tell
            continue
        if saved.shape != tensor.shape or not torch.allclose(saved, tensor):
            raise UsageError(
                f"--resume: encoder.weights: other weights than those of {path} ({name} differs); "
                "resume with the encoder that it was trained with"
            )
