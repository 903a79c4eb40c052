"""Training and validation steps: gradient descent, and scores of written captions."""

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
    """A captioner being trained by an objective.

    Validation scores do not depend on how many processes shared the work: the loss is a sum over
    all words divided by their number, and captions are gathered by image id before they are scored.

    Args:
        captioner: the network.
        vocabulary: its words, to turn ids into captions.
        references: captions of the validation images by image id.
        search: how validation captions are searched for.
        optimizers: gives Lightning's optimiser and schedule for the module.
        contents: what a checkpoint holds besides the weights (plain values).
        objective: what a step minimises.
        from_photos: whether batches hold photos, which the encoder turns into features first, or
            stored features.
        stage: the part of the run that is trained; its epochs are counted from its start.
        samples: what is drawn at each validation beside the captions searched for, and its reward;
            None draws nothing.
        skip_not_finite: leave out a step whose loss or gradient is not finite, and count it,
            instead of ending the run.
        between_steps: called before each training batch, when nothing of a step is left undone.
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
        """Words that the last batch was learned from, on this process."""
        self.skip_not_finite = skip_not_finite
        self.between_steps = between_steps
        self.written: dict[ImageId, str] = {}
        """Captions of the validation images, after each validation, on every process."""
        self.counts = {"steps": 0.0, "clipped": 0.0, "skipped": 0.0}
        """Steps of this epoch so far, those whose gradient was clipped, and those of the whole run
        that were left out."""
        self._learned_from: list[tuple[list[ImageId], Tensor]] = []
        """Images of each batch since the last step, with its loss."""
        self._rows: list[tuple[ImageId, str]] = []
        self._loss_sum = 0.0
        self._words = 0
        self._generate: CaptionGenerator | None = None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimiser and schedule, as given."""
        return self.optimizers_for(self)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """The moment between two steps: Lightning has no other where all of one is done."""
        if self.trainer.training and self.between_steps is not None:
            self.between_steps(self.trainer)
        return batch

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of a batch, averaged over the words of all processes.

        Processes hold different numbers of words, and averaging their means would weigh a word by
        the process it happened to be on: each mean is scaled by its share of the words first.
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
        """Clip the norm of the whole gradient (Pascanu et al. 2013), and log what it was.

        `train/clipped` is the share of an epoch's steps whose gradient was longer than the limit.

        Raises:
            NotFiniteError: loss or gradient is not finite, and such steps are not skipped.
        """
        limit = float("inf") if gradient_clip_val is None else float(gradient_clip_val)
        weights = [w for group in optimizer.param_groups for w in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(weights, limit)
        self.log("train/gradient_norm", norm)
        length = float(norm)
        self.counts["steps"] += 1
        self.counts["clipped"] += length > limit
        seen, self._learned_from = self._learned_from, []
        # A loss that is not finite gives such a gradient, and on all processes the same one. With
        # 16-bit scaling that may happen to any gradient: the scaler sees to it.
        finite = isfinite(length)
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            finite = all(bool(torch.isfinite(loss)) for _, loss in seen)
        if not finite:
            self._leave_out(length, seen)
            optimizer.zero_grad(set_to_none=True)

    def on_train_epoch_end(self) -> None:
        """Log what was counted over the epoch."""
        self.log("train/clipped", self.counts["clipped"] / max(self.counts["steps"], 1.0))
        if self.skip_not_finite:
            self.log("train/skipped", self.counts["skipped"])
        self.counts |= {"steps": 0.0, "clipped": 0.0}

    def on_validation_epoch_start(self) -> None:
        """Forget the captions of the validation before, and the weights they were written by."""
        self._generate = CaptionGenerator([self.captioner], self.search)
        self._rows, self._loss_sum, self._words = [], 0.0, 0
        if self.samples is not None:
            self.samples.clear()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Sum the loss and write a caption for each image."""
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
        """Score the captions of all processes."""
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
        """Make the file self-contained; see `captioner.checkpoint.file`."""
        checkpoint["captioner"] = dict(self.contents)
        checkpoint["counts"] = dict(self.counts)
        checkpoint["stage"] = self.stage.asdict()
        checkpoint["products"] = library()  # two libraries round differently, in the last digit
        # The epoch last learned from, also where the next one is about to begin.
        epoch, batches = next_batch(self.trainer)
        checkpoint["epoch"] = epoch if batches else max(0, epoch - 1)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue the counts, and multiply with the library that the run began with."""
        self.counts |= checkpoint.get("counts", {})
        use_library(checkpoint.get("products", "onednn"))  # earlier versions knew no other

    def _leave_out(self, norm: float, seen: Sequence[tuple[list[ImageId], Tensor]]) -> None:
        """Count a step that cannot be done, or end the run.

        Raises:
            NotFiniteError: such steps are not skipped.
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
                "optimization.on_nonfinite skip"
            )
        self.counts["skipped"] += 1
        say(f"step {step}: {what}, {images}; skipped")

    def features_of(self, images: Tensor) -> Tensor:
        """Return the features of a batch's images, which the data gives as photos or features."""
        return self.captioner.encode(images) if self.from_photos else images

    def _loss(self, batch: Batch) -> Tensor:
        """The objective's value while training, cross-entropy of the true captions otherwise."""
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
