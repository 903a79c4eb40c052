"""Training and validation steps of a captioner, and its validation scores."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from math import isfinite
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from captioner.console import say
from captioner.datasets.batches import Batch
from captioner.datasets.records import ImageId
from captioner.decoding.options import SearchOptions
from captioner.evaluation.diversity import describe
from captioner.evaluation.scores import score
from captioner.inference.generator import CaptionGenerator, write_captions
from captioner.model.captioner import Captioner
from captioner.model.kernels.linear import library, use_library
from captioner.text.vocabulary import Vocabulary
from captioner.training.datamodule import next_batch
from captioner.training.failures import NotFiniteError, named
from captioner.training.gather import gather_rows, total
from captioner.training.objectives import Objective
from captioner.training.self_critical import ValidationSamples
from captioner.training.stages import Stage


class TrainingModule(L.LightningModule):
    """A captioner and the objective that trains it.

    Validation scores do not depend on the number of processes: the loss is a sum over all words
    divided by their number, and captions are gathered by image id before they are scored.

    Args:
        captioner: The network.
        vocabulary: Its words, which turn ids into captions.
        references: Reference captions of the validation images, by image id.
        search: Search settings for validation captions.
        optimizers: Returns Lightning's optimiser and schedule for the module.
        contents: Contents of a checkpoint besides the weights, as plain values.
        objective: The loss that a step minimises.
        from_photos: Whether batches hold photos, which the encoder must encode, rather than stored
            features.
        stage: Stage of the run; its epochs are counted from its start.
        samples: Draws captions at each validation and measures their reward; None draws none.
        skip_not_finite: Skip and count a step whose loss or gradient is not finite, instead of
            ending the run.
        between_steps: Called before each training batch, between two complete steps.
        start: Weights of the decoder that checkpoints carry as the ones it started from.
    """

    def __init__(
        self,
        captioner: Captioner,
        *,
        vocabulary: Vocabulary,
        references: Mapping[ImageId, Sequence[str]],
        search: SearchOptions,
        optimizers: Callable[["TrainingModule"], OptimizerLRScheduler],
        contents: Mapping[str, Any],
        objective: Objective,
        from_photos: bool,
        stage: Stage,
        samples: ValidationSamples | None = None,
        skip_not_finite: bool = False,
        between_steps: Callable[[L.Trainer], None] | None = None,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.captioner = captioner
        self.vocabulary = vocabulary
        self.references = references
        self.search = search
        self.optimizers_for = optimizers
        self.contents = contents
        self.objective = objective
        self.from_photos = from_photos
        self.stage = stage
        self.samples = samples
        self.words = 0
        """Words in the loss of the last batch, on this process."""
        self.skip_not_finite = skip_not_finite
        self.between_steps = between_steps
        self.start = start
        self.written: dict[ImageId, str] = {}
        """Captions of the last validation by image id, on every process."""
        self.counts = {"steps": 0.0, "clipped": 0.0, "skipped": 0.0}
        """Steps and clipped steps of this epoch so far, and skipped steps of the whole run."""
        self._learned_from: list[tuple[list[ImageId], Tensor]] = []
        """Image ids and loss of each batch since the last optimiser step."""
        self._rows: list[tuple[ImageId, str]] = []
        self._loss_sum = 0.0
        self._words = 0
        self._generate: CaptionGenerator | None = None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser and its schedule."""
        return self.optimizers_for(self)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Call `between_steps`; no other Lightning hook runs after a step is entirely complete."""
        if self.trainer.training and self.between_steps is not None:
            self.between_steps(self.trainer)
        return batch

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of a batch, averaged over the words of all processes.

        Processes hold different numbers of words. A mean of their means would weigh a word by its
        process, so each mean is first scaled by its share of the words.
        """
        loss = self._loss(batch._replace(images=self.features_of(batch.images)))
        words = self.words
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=max(words, 1))
        self._learned_from.append((batch.image_ids, loss.detach()))
        if self.trainer.world_size > 1:
            count = torch.tensor(float(words), device=self.device)
            mean_words = self.trainer.strategy.reduce(count, reduce_op="mean")
            loss = loss * words / mean_words
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of the whole gradient (Pascanu et al. 2013) and log it.

        `train/clipped` is the share of an epoch's steps whose gradient norm exceeded the limit.

        Raises:
            NotFiniteError: The loss or gradient is not finite, and such steps are not skipped.
        """
        limit = float("inf") if gradient_clip_val is None else float(gradient_clip_val)
        weights = [w for group in optimizer.param_groups for w in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(weights, limit)
        self.log("train/gradient_norm", norm)
        length = float(norm)
        self.counts["steps"] += 1
        self.counts["clipped"] += length > limit
        seen, self._learned_from = self._learned_from, []
        # An infinite or NaN loss gives such a gradient, the same one on all processes. With 16-bit
        # loss scaling any gradient may overflow, and the scaler handles it.
        finite = isfinite(length)
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            finite = all(bool(torch.isfinite(loss)) for _, loss in seen)
        if not finite:
            self._leave_out(length, seen)
            optimizer.zero_grad(set_to_none=True)

    def on_train_epoch_end(self) -> None:
        """Log the counts of the epoch."""
        self.log("train/clipped", self.counts["clipped"] / max(self.counts["steps"], 1.0))
        if self.skip_not_finite:
            self.log("train/skipped", self.counts["skipped"])
        self.counts |= {"steps": 0.0, "clipped": 0.0}

    def on_validation_epoch_start(self) -> None:
        """Discard the captions and the generator of the previous validation."""
        self._generate = CaptionGenerator([self.captioner], self.search)
        self._rows, self._loss_sum, self._words = [], 0.0, 0
        if self.samples is not None:
            self.samples.clear()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Add the batch's loss and write one caption per image."""
        if not batch.image_ids:
            return
        batch = batch._replace(images=self.features_of(batch.images))
        words = len(batch.targets)
        self._loss_sum += float(self._loss(batch)) * words
        if self.samples is not None:
            self.samples.add(self.captioner, batch)
        self._words += words
        assert self._generate is not None
        found = self._generate([batch.images])
        captions = write_captions(found, self.vocabulary)
        self._rows += zip(batch.image_ids, captions, strict=True)

    def on_validation_epoch_end(self) -> None:
        """Score the captions of all processes and log the scores."""
        self._generate = None
        self.written = gather_rows(self._rows)
        loss_sum, words = total([self._loss_sum, float(self._words)], self.device)
        self.log("val/loss", loss_sum / max(words, 1.0), prog_bar=True)
        references = {image_id: self.references[image_id] for image_id in self.written}
        found = score(self.written, references, tokenizer=self.vocabulary.tokenizer)
        for name, value in found.corpus.items():
            self.log(f"val/{name}", value, prog_bar=name in ("BLEU-4", "CIDEr-D"))
        described = describe(self.written.values())
        self.log("val/length", described.mean_length)
        self.log("val/bad_endings", described.bad_endings)
        if self.samples is not None:
            self.log_dict(self.samples.numbers(self.device))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add everything that makes the file self-contained; see `captioner.checkpoint.file`."""
        checkpoint["captioner"] = dict(self.contents)
        checkpoint["counts"] = dict(self.counts)
        checkpoint["stage"] = self.stage.asdict()
        if self.start is not None:
            checkpoint["start"] = dict(self.start)
        checkpoint["products"] = library()  # two libraries round differently, in the last digit
        # The epoch of the last step, even if the next epoch is about to begin.
        epoch, batches = next_batch(self.trainer)
        checkpoint["epoch"] = epoch if batches else max(0, epoch - 1)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the counts, and the library that the run started to multiply with."""
        self.counts |= checkpoint.get("counts", {})
        self.start = checkpoint.get("start", self.start)
        use_library(checkpoint.get("products", "onednn"))  # earlier versions knew no other

    def _leave_out(self, norm: float, seen: Sequence[tuple[list[ImageId], Tensor]]) -> None:
        """Skip and count a step that is not finite, or end the run.

        Raises:
            NotFiniteError: Such steps are not skipped.
        """
        bad = [ids for ids, loss in seen if not bool(torch.isfinite(loss))]
        what = f"the gradient is not finite (its norm is {norm})"
        if bad:
            what = "the loss is not finite"
        images = f"images {named(list(chain(*(bad or [ids for ids, _ in seen]))))}"
        step = self.trainer.global_step
        if not self.skip_not_finite:
            raise NotFiniteError(
                f"step {step}: {what}, {images}; lower optimization.learning_rate, or set "
                "optimization.on_nonfinite to skip"
            )
        self.counts["skipped"] += 1
        say(f"step {step}: {what}, {images}; skipped")

    def features_of(self, images: Tensor) -> Tensor:
        """Return the features of a batch's images, which the data gives as photos or features."""
        return self.captioner.encode(images) if self.from_photos else images

    def _loss(self, batch: Batch) -> Tensor:
        """Return the objective's value in training, and cross-entropy in validation."""
        if self.trainer.training:
            epoch = self.current_epoch - self.stage.first_epoch
            mean, self.words, numbers = self.objective(
                self.captioner, batch, epoch=epoch, step=self.global_step
            )
            self.log_dict(dict(numbers), batch_size=max(self.words, 1))
            return mean
        return self.captioner.loss(
            batch.images,
            batch.inputs,
            batch.targets,
            torch.tensor(batch.batch_sizes),
            batch.rows,
        )
