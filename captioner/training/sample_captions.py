"""Log captions of some validation photos to W&B, with attention figures if the network attends."""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import WandbLogger
from PIL import Image

from captioner.analysis.attention_figure import Fonts, attention_figure
from captioner.datasets.batches import CaptionDataset
from captioner.inference.generator import CaptionGenerator
from captioner.inference.result import PhotoCaptions, attention_maps, candidates
from captioner.photos.source import PhotoSource, Read, read_pixels
from captioner.photos.transform import Transform
from captioner.training.lightning_module import TrainingModule

PREVIEW = 320
"""Longest side, in pixels, of the photo copies that figures are drawn on."""


class SampleCaptions(L.Callback):
    """Logs validation photos with their references and captions as a W&B table.

    Args:
        images: The validation split.
        count: Number of photos to show, the first ones at each validation.
        transform: Turns a photo into the encoder's input, which locates attention on the photo.
    """

    def __init__(self, images: CaptionDataset, count: int, transform: Transform) -> None:
        self.images = images
        self.count = min(count, len(images))
        self.transform = transform

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Log the table, if the run logs to W&B."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(module, TrainingModule)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                self._log_table(logger, module, max(trainer.global_step - 1, 0))

    def _log_table(self, logger: WandbLogger, module: TrainingModule, step: int) -> None:
        import wandb

        attends = module.captioner.decoder.kind != "none"
        columns = ["image", "references", "caption", *(["attention"] if attends else [])]
        places = [
            i
            for i, record in enumerate(self.images.records[: self.count])
            if record.image_id in module.written
        ]
        figures = self.figures(module, places) if attends else []
        rows: list[list[Any]] = []
        for row, place in enumerate(places):
            record = self.images.records[place]
            cells = [
                wandb.Image(str(record.path)),
                "\n".join(record.captions),
                module.written[record.image_id],
            ]
            if attends:
                figure = figures[row]
                cells.append(None if figure is None else wandb.Image(figure))
            rows.append(cells)
        logger.log_table("samples", columns=columns, data=rows, step=step)

    def figures(self, module: TrainingModule, places: Sequence[int]) -> list[Image.Image | None]:
        """Return an attention figure for each place; None for an unreadable photo.

        Args:
            module: The module, whose weights and mode are left as they are.
            places: Places of the photos in the split.
        """
        if not places:
            return []
        fonts = Fonts.load()
        drawn: list[Image.Image | None] = []
        for found in self._captioned(module, places):
            if found.preview is None:
                drawn.append(None)
            else:
                drawn.append(Image.open(io.BytesIO(attention_figure(found, fonts=fonts))))
        return drawn

    def _captioned(self, module: TrainingModule, places: Sequence[int]) -> list[PhotoCaptions]:
        """Caption photos with the validation's search, and read them to draw on."""
        captioner = module.captioner
        training = captioner.training
        captioner.eval()
        try:
            with torch.no_grad():
                images = torch.stack([self.images[place].image for place in places])
                features = module.features_of(images.to(module.device))
                found = CaptionGenerator([captioner], module.search, attention=True)([features])
        finally:
            captioner.train(training)
        maps = attention_maps(found, sentinel=captioner.decoder.kind == "adaptive")
        listed = candidates(found, module.vocabulary)
        captioned = []
        for place, own, of_photo in zip(places, listed, maps, strict=True):
            path = self.images.records[place].path
            read = read_pixels(PhotoSource(path), [self.transform], PREVIEW)
            if not isinstance(read, Read):
                captioned.append(PhotoCaptions(path, own))
                continue
            box = self.transform.box(*read.size)
            attention = replace(of_photo, size=read.size, box=box)
            captioned.append(PhotoCaptions(path, own, attention=attention, preview=read.preview))
        return captioned
