"""Training and validation steps: gradient descent, and scores of written captions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from captioner.data.batches import Batch
from captioner.data.records import ImageId
from captioner.data.vocabulary import Vocabulary
from captioner.decoding.options import SearchOptions
from captioner.evaluation.scores import score
from captioner.generation import generate, write_captions
from captioner.model.captioner import Captioner
from captioner.training.gather import gather_rows, total


class CaptioningModule(L.LightningModule):
    """A captioner being trained by cross-entropy.

    Validation scores do not depend on how many processes shared the work: the loss is a sum over
    all words divided by their number, and captions are gathered by image id before they are scored.

    Args:
        captioner: the network.
        vocabulary: its words, to turn ids into captions.
        references: captions of the validation images by image id.
        search: how validation captions are searched for.
        optimizers: gives Lightning's optimiser and schedule for the module.
        contents: what a checkpoint holds besides the weights (plain values).
        label_smoothing: share of a target's probability spread over the vocabulary.
    """

    def __init__(
        self,
        captioner: Captioner,
        *,
        vocabulary: Vocabulary,
        references: Mapping[ImageId, Sequence[str]],
        search: SearchOptions,
        optimizers: Callable[["CaptioningModule"], OptimizerLRScheduler],
        contents: Mapping[str, Any],
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.captioner = captioner
        self.vocabulary = vocabulary
        self.references = references
        self.search = search
        self.optimizers_for = optimizers
        self.contents = contents
        self.label_smoothing = label_smoothing
        self.written: dict[ImageId, str] = {}
        """Captions of the validation images, after each validation, on every process."""
        self._rows: list[tuple[ImageId, str]] = []
        self._loss_sum = 0.0
        self._words = 0

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimiser and schedule, as given."""
        return self.optimizers_for(self)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of a batch, averaged over the words of all processes.

        Processes hold different numbers of words, and averaging their means would weigh a word by
        the process it happened to be on: each mean is scaled by its share of the words first.
        """
        loss = self._loss(batch, self.label_smoothing)
        words = len(batch.targets)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=words)
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
        """
        limit = float("inf") if gradient_clip_val is None else float(gradient_clip_val)
        weights = [w for group in optimizer.param_groups for w in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(weights, limit)
        self.log("train/gradient_norm", norm)
        self.log("train/clipped", (norm > limit).float(), on_step=False, on_epoch=True)

    def on_validation_epoch_start(self) -> None:
        """Forget the captions of the validation before."""
        self._rows, self._loss_sum, self._words = [], 0.0, 0

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Sum the loss and write a caption for each image."""
        words = len(batch.targets)
        self._loss_sum += float(self._loss(batch)) * words
        self._words += words
        found = generate(self.captioner, batch.images, self.search)
        captions = write_captions(found, self.vocabulary)
        self._rows += zip(batch.image_ids, captions, strict=True)

    def on_validation_epoch_end(self) -> None:
        """Score the captions of all processes."""
        self.written = gather_rows(self._rows)
        loss_sum, words = total([self._loss_sum, float(self._words)], self.device)
        self.log("val/loss", loss_sum / max(words, 1.0), prog_bar=True)
        references = {image_id: self.references[image_id] for image_id in self.written}
        for name, value in score(self.written, references).corpus.items():
            self.log(f"val/{name}", value, prog_bar=name in ("BLEU-4", "CIDEr-D"))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the file self-contained; see `captioner.checkpoint`."""
        checkpoint["captioner"] = dict(self.contents)

    def _loss(self, batch: Batch, label_smoothing: float = 0.0) -> Tensor:
        return self.captioner.loss(
            batch.images,
            batch.inputs,
            batch.targets,
            torch.tensor(batch.batch_sizes),
            batch.rows,
            label_smoothing=label_smoothing,
        )
