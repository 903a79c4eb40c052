"""Create objects from a configuration: records, encoder, decoder and search options.

The packages below take plain arguments. Only this file maps settings to them.
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import cast

from captioner.config.schema import (
    Config,
    DataConfig,
    DataFormat,
    DecoderConfig,
    EncoderConfig,
    SearchConfig,
)
from captioner.datasets.detect import detect_format
from captioner.datasets.load import load_records
from captioner.datasets.records import Loaded
from captioner.decoding.options import SearchOptions
from captioner.model.captioner import Captioner
from captioner.model.cells import (
    GRU,
    LSTM,
    Cell,
    DeepTransition,
    Elman,
    Jordan,
    PeepholeLSTM,
    ResetBeforeGRU,
)
from captioner.model.decoder import Decoder
from captioner.model.decoder_settings import (
    AttentionSettings,
    DropoutSettings,
    RecurrenceSettings,
    WordSettings,
)
from captioner.model.encoder import Encoder, pretrained_encoder
from captioner.model.given_features import GivenFeatures
from captioner.photos.transform import Transform


def read_records(config: DataConfig) -> Loaded:
    """Read the records of all splits."""
    return load_records(
        format=config.format,
        root=Path(config.root),
        images=_path(config.images),
        annotations=_path(config.annotations),
        train_annotations=_path(config.train_annotations),
        val_annotations=_path(config.val_annotations),
        test_annotations=_path(config.test_annotations),
        columns=config.columns,
        split=config.split,
        split_seed=config.split_seed,
        on_problem=config.on_problem,
    )


def detected_format(config: DataConfig) -> DataFormat:
    """Return the format of a data set; `auto` looks at its files."""
    if config.format != "auto":
        return config.format
    found = detect_format(
        Path(config.root),
        images=_path(config.images),
        annotations=_path(config.annotations),
        columns=config.columns,
    )
    return cast(DataFormat, found)


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def build_encoder(config: EncoderConfig) -> tuple[Encoder, Transform]:
    """Return the frozen encoder, without batch norm folding, and its photo transform."""
    encoder, preprocessing = pretrained_encoder(
        config.name, config.weights, grid=config.features == "grid", size=config.size
    )
    size = config.size or preprocessing.size
    transform = Transform(
        size=size,
        resize=config.resize or max(size, preprocessing.resize),
        fit=config.fit,
        interpolation=preprocessing.interpolation,
    )
    return encoder, transform


def build_cell(
    config: DecoderConfig, input_size: int, hidden_size: int, *, vocab_size: int
) -> Cell:
    """Build one recurrent layer with initial weights."""
    cell: Cell
    if config.cell == "elman":
        cell = Elman(input_size, hidden_size, config.activation)
    elif config.cell == "jordan":
        cell = Jordan(input_size, hidden_size, vocab_size, config.activation)
    elif config.cell == "lstm":
        cell = (PeepholeLSTM if config.peepholes else LSTM)(input_size, hidden_size)
    else:
        cell = (GRU if config.reset_after else ResetBeforeGRU)(input_size, hidden_size)
    if config.transition_depth > 1:
        return DeepTransition(cell, hidden_size, config.transition_depth - 1)
    return cell


def build_decoder(config: DecoderConfig, *, vocab_size: int, feature_size: int) -> Decoder:
    """Build a decoder with initial weights."""
    return Decoder(
        vocab_size,
        feature_size,
        RecurrenceSettings(
            partial(build_cell, config, vocab_size=vocab_size),
            config.hidden_size,
            config.layers,
            config.residual,
            config.teacher,
        ),
        place=config.place,
        words=WordSettings(config.embedding_size, config.output_depth, config.tie_embeddings),
        attention=AttentionSettings(
            config.attention, config.attention_size, config.attention_score, config.attention_gate
        ),
        dropout=DropoutSettings(config.dropout, config.image_dropout),
    )


def build_captioner(
    config: Config, encoder: Encoder | GivenFeatures, *, vocab_size: int
) -> Captioner:
    """Combine an encoder with a new decoder."""
    decoder = build_decoder(
        config.decoder, vocab_size=vocab_size, feature_size=encoder.feature_size
    )
    return Captioner(encoder, decoder, backward=config.decoder.direction == "backward")


def search_options(config: SearchConfig) -> SearchOptions:
    """Return the search options of a configuration; fields have the same names."""
    return SearchOptions(**asdict(config))
