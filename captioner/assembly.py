"""Where a configuration becomes objects: records, encoder, decoder, search options.

The rooms below take plain arguments; only this file knows which setting feeds which argument.
"""

from pathlib import Path

from captioner.config import Config, DataConfig, DecoderConfig, EncoderConfig, SearchConfig
from captioner.data.records import Loaded
from captioner.data.sources import load_records
from captioner.data.transform import Transform
from captioner.decoding.options import SearchOptions
from captioner.model.captioner import Captioner
from captioner.model.cells import GRU, LSTM
from captioner.model.decoder import Decoder
from captioner.model.encoder import Encoder, torchvision_encoder

CELLS = {"lstm": LSTM, "gru": GRU}


def read_records(config: DataConfig) -> Loaded:
    """The captioned photos of all splits."""

    def path(name: str | None) -> Path | None:
        return None if name is None else Path(name)

    return load_records(
        format=config.format,
        root=Path(config.root),
        images=path(config.images),
        annotations=path(config.annotations),
        train_annotations=path(config.train_annotations),
        val_annotations=path(config.val_annotations),
        test_annotations=path(config.test_annotations),
        on_problem=config.on_problem,
    )


def build_encoder(config: EncoderConfig) -> tuple[Encoder, Transform]:
    """The frozen encoder, batch norm not folded, and what makes a photo fit for it."""
    encoder, preprocessing = torchvision_encoder(
        config.name, config.weights, grid=config.features == "grid"
    )
    size = config.size or preprocessing.size
    transform = Transform(
        size=size,
        resize=config.resize or max(size, preprocessing.resize),
        fit=config.fit,
        interpolation=preprocessing.interpolation,
    )
    return encoder, transform


def build_decoder(config: DecoderConfig, *, vocab_size: int, feature_size: int) -> Decoder:
    """The decoder, its weights at their starting values."""
    return Decoder(
        vocab_size=vocab_size,
        feature_size=feature_size,
        cell=CELLS[config.cell],
        embedding_size=config.embedding_size,
        hidden_size=config.hidden_size,
        layers=config.layers,
        dropout=config.dropout,
    )


def build_captioner(config: Config, encoder: Encoder, *, vocab_size: int) -> Captioner:
    """Encoder and a new decoder joined."""
    decoder = build_decoder(
        config.decoder, vocab_size=vocab_size, feature_size=encoder.feature_size
    )
    return Captioner(encoder, decoder)


def search_options(config: SearchConfig) -> SearchOptions:
    """How to search."""
    return SearchOptions(
        beam_size=config.beam_size,
        max_length=config.max_length,
        length_norm=config.length_norm,
    )
