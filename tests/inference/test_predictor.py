"""Photos to captions: order, batches, bad photos, and the model's own probabilities."""

import os
from pathlib import Path

import pytest
import torch
from conftest import make_photo

import captioner.inference.predictor as predictor_module
from captioner import checkpoint
from captioner.decoding.options import SearchOptions
from captioner.errors import CaptionerError, UsageError
from captioner.inference.predictor import Predictor
from captioner.model.captioner import Captioner
from captioner.photos.source import PhotoSource
from captioner.text.vocabulary import END, START


def test_order_and_batches_change_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = [make_photo(tmp_path / f"{i}.png", i) for i in range(11)]
    predictor = Predictor.load(tiny_checkpoint, device="cpu")
    one = list(predictor.caption(photos, batch_size=1))
    assert [found.path for found in one] == photos
    for size in (3, 32):
        batched = list(predictor.caption(photos, batch_size=size))
        assert [found.caption for found in batched] == [found.caption for found in one]
    backwards = list(predictor.caption(reversed(photos), batch_size=4))
    assert [found.caption for found in reversed(backwards)] == [found.caption for found in one]


def test_bad_photos_take_their_place(tiny_checkpoint: Path, tmp_path: Path) -> None:
    good = make_photo(tmp_path / "good.png", 0)
    text = tmp_path / "text.jpg"
    text.write_text("not a photo")
    predictor = Predictor.load(tiny_checkpoint)
    found = list(predictor.caption([text, good, tmp_path / "none.jpg"], batch_size=2))
    assert [f.path.name for f in found] == ["text.jpg", "good.png", "none.jpg"]
    assert found[0].caption is None
    assert found[0].error is not None
    assert "not a picture" in found[0].error
    assert found[1].caption
    assert found[1].error is None
    assert found[2].error == "no such file"


def test_log_probabilities_are_the_models(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A teacher-forced pass over a caption gives the log-probability that the search reports."""
    photo = make_photo(tmp_path / "photo.png", 3)
    search = SearchOptions(beam_size=3, n_best=3, max_length=5)
    predictor = Predictor.load(tiny_checkpoint, search=search)
    (found,) = predictor.caption([photo])
    assert len(found.candidates) == 3
    captioner, vocabulary = predictor.trained.captioner, predictor.trained.vocabulary
    image = predictor.trained.transform.load(photo)[None].to(predictor.device)
    for candidate in found.candidates:
        words = vocabulary.encode(candidate.caption)
        words += [END] if len(words) < 5 else []
        with torch.inference_mode():
            state = captioner.decoder.initial_state(captioner.encode(image))
            unrolled = captioner.decoder.unroll(
                torch.tensor([START, *words[:-1]], device=predictor.device),
                torch.ones(len(words), dtype=int),
                state,
            )
            log_probs = captioner.decoder.logits(unrolled).log_softmax(1)
        total = sum(log_probs[t, word].item() for t, word in enumerate(words))
        assert candidate.log_prob == pytest.approx(total, abs=1e-4)


def test_the_search_begins_on_the_device(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search keeps tensors of the weights: they must be where they stay before it is made."""
    device = torch.device("meta")  # any other than the one that a checkpoint is read to

    def generator(captioners: list[Captioner], *_: object, **__: object) -> None:
        assert {weight.device for one in captioners for weight in one.parameters()} == {device}

    monkeypatch.setattr(predictor_module, "CaptionGenerator", generator)
    Predictor(checkpoint.load(tiny_checkpoint), device)


@pytest.mark.gpu
def test_the_same_captions_on_a_gpu_in_every_batch(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = [make_photo(tmp_path / f"{i}.png", i) for i in range(64)]
    search = SearchOptions(beam_size=3, max_length=6)

    def captions(device: str, batch_size: int) -> tuple[list[str | None], list[float]]:
        predictor = Predictor.load(tiny_checkpoint, device=device, search=search)
        found = list(predictor.caption(photos, batch_size=batch_size))
        return [one.caption for one in found], [one.candidates[0].log_prob for one in found]

    texts, log_probs = captions("cpu", 64)
    for batch_size in (1, 7, 64):
        found = captions("cuda", batch_size)
        assert found[0] == texts
        assert found[1] == pytest.approx(log_probs, abs=1e-3)


class EndsItsReader:
    """What ends the process that unpickles it, as the system does when memory is short."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (9,)


def test_a_reading_process_that_dies(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photo = PhotoSource(make_photo(tmp_path / "a.png", 0))
    deadly = PhotoSource(tmp_path / "b.png", EndsItsReader())  # type: ignore[arg-type]
    predictor = Predictor.load(tiny_checkpoint)
    with pytest.raises(CaptionerError, match="a process that reads photos was killed"):
        list(predictor.caption([photo, deadly, photo], batch_size=1, workers=1))


def test_unknown_device(tiny_checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="no device 'gppu'; did you mean gpu"):
        Predictor.load(tiny_checkpoint, device="gppu")
