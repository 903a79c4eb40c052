"""The decoder's contract: step equals unroll, padding and image copies never enter the products."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.build import build_decoder
from captioner.config.schema import DecoderConfig
from captioner.model.cells import GRU, LSTM, Elman
from captioner.model.decoder import Decoder, Place, Unrolled, select_rows
from captioner.model.decoder_settings import DropoutSettings, RecurrenceSettings, WordSettings

PLACES = ["init", "pre", "par", "merge"]
DEPTHS: dict[str, dict[str, Any]] = {
    "one layer": {},
    "three layers": {"layers": 3},
    "residual": {"layers": 2, "residual": True},
    "deep transition": {"transition_depth": 3},
    "deep output": {"output_depth": 2},
}


def make(
    kind: type = LSTM,
    dropout: float = 0.0,
    place: Place = "init",
    words: WordSettings | None = None,
    **recurrence: Any,
) -> Decoder:
    torch.manual_seed(0)
    return Decoder(
        11,
        6,
        RecurrenceSettings(kind, 7, **recurrence),
        place=place,
        words=words or WordSettings(5),
        dropout=DropoutSettings(dropout),
    )


def built(**settings: Any) -> Decoder:
    torch.manual_seed(0)
    config = DecoderConfig(embedding_size=5, hidden_size=7, dropout=0.0, **settings)
    return build_decoder(config, vocab_size=11, feature_size=6)


@pytest.mark.parametrize("depth", DEPTHS.values(), ids=DEPTHS.keys())
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("cell", ["elman", "jordan", "lstm", "gru"])
def test_step_by_step_equals_unroll_and_so_does_the_step_of_a_search(
    cell: str, place: str, depth: dict[str, Any]
) -> None:
    decoder = built(cell=cell, place=place, **depth).eval()
    batch_sizes = [3, 3, 2, 1]
    words = torch.randint(0, 11, (9,))
    state = decoder.initial_state(torch.randn(3, 6))
    logits = decoder.logits(decoder.unroll(words, torch.tensor(batch_sizes), state))
    search_step = decoder.search_step()
    for now, expected in zip(words.split(batch_sizes), logits.split(batch_sizes), strict=True):
        state = select_rows(state, torch.arange(len(now)))
        searched, searched_state = search_step(now, state)
        step_logits, state = decoder.step(now, state)
        torch.testing.assert_close(step_logits, expected)
        torch.testing.assert_close((searched, searched_state), (step_logits, state))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("cell", ["elman", "jordan", "lstm", "gru"])
def test_image_decides_the_first_word(cell: str, place: str) -> None:
    decoder = built(cell=cell, place=place).eval()
    start = torch.tensor([1])
    one, two = (decoder.step(start, decoder.initial_state(torch.randn(1, 6)))[0] for _ in range(2))
    assert not torch.allclose(one, two)


def test_init_gives_every_layer_its_part_of_the_image() -> None:
    decoder = make(LSTM, layers=2).eval()
    one = decoder.initial_state(torch.randn(1, 6))
    assert [len(cell) for cell in one] == [2, 2]
    assert all(tensor.shape == (1, 7) for cell in one for tensor in cell)


def test_merge_keeps_the_image_out_of_the_recurrence() -> None:
    """The hidden states after some words are the same for any two images (Tanti et al. 2018)."""
    decoder = make(GRU, place="merge").eval()
    hidden = []
    for _ in range(2):
        state = decoder.initial_state(torch.randn(1, 6))
        for word in (1, 4, 7):
            _, state = decoder.step(torch.tensor([word]), state)
        hidden.append(state[0][0])
    assert torch.equal(*hidden)


def test_pre_is_one_more_step_with_the_image_as_input() -> None:
    decoder = make(GRU, place="pre").eval()
    features = torch.randn(2, 6)
    image = torch.tanh(decoder.image(decoder.feature_norm(features)))
    h, _ = decoder.cells[0].step(image, (torch.zeros(2, 7),))
    torch.testing.assert_close(decoder.initial_state(features)[0][0], h)


def test_jordan_remembers_its_output_alone() -> None:
    """Two pasts that end in the same distribution over words leave the same state."""
    decoder = built(cell="jordan").eval()
    torch.nn.init.zeros_(decoder.projection.weight)  # the output no longer depends on h
    states = []
    for words in ([1, 4, 7], [1, 9, 2]):
        state = decoder.initial_state(torch.randn(1, 6))
        for word in words:
            _, state = decoder.step(torch.tensor([word]), state)
        states.append(state[0][0])
    assert torch.equal(*states)


def test_jordan_taught_by_words_is_fed_the_true_word() -> None:
    decoder = built(cell="jordan", teacher="word").eval()
    words, sizes = torch.tensor([1, 1, 4, 7]), torch.tensor([2, 2])
    state = decoder.initial_state(torch.randn(2, 6))
    unrolled = decoder.unroll(words, sizes, state)
    cell = decoder.cells[0]
    x = decoder.embedding(words[2:])
    second, _ = cell.step(x, cell.feed_back_words(words[2:], state[0]))
    torch.testing.assert_close(unrolled.outputs[2:], second)
    taught_by_itself = built(cell="jordan").eval()
    other = taught_by_itself.unroll(words, sizes, state)
    torch.testing.assert_close(other.outputs[:2], unrolled.outputs[:2])
    assert not torch.allclose(other.outputs[2:], unrolled.outputs[2:])


def test_residual_adds_what_comes_from_below() -> None:
    torch.manual_seed(0)
    plain = make(GRU, layers=2).eval()
    residual = make(GRU, layers=2, residual=True).eval()
    residual.load_state_dict(plain.state_dict())
    words, sizes = torch.tensor([1, 4]), torch.tensor([2])
    state = plain.initial_state(torch.randn(2, 6))
    first = plain.cells[0].unroll(plain.embedding(words), sizes, state[0])
    torch.testing.assert_close(
        residual.unroll(words, sizes, state).outputs,
        plain.unroll(words, sizes, state).outputs + first,
    )


def test_tied_embeddings_are_one_matrix() -> None:
    tied = Decoder(11, 6, RecurrenceSettings(GRU, 5), words=WordSettings(5, tie_embeddings=True))
    assert tied.projection.weight is tied.embedding.weight
    deep = make(GRU, place="merge", words=WordSettings(5, 1, tie_embeddings=True))
    assert deep.projection.weight.shape == (11, 5)
    with pytest.raises(ValueError, match="embeddings of 5 numbers cannot be tied to outputs of 7"):
        make(GRU, words=WordSettings(5, tie_embeddings=True))


def test_grid_is_averaged() -> None:
    decoder = make(GRU).eval()
    grid = torch.randn(2, 9, 6)
    torch.testing.assert_close(
        decoder.initial_state(grid)[0][0], decoder.initial_state(grid.mean(1))[0][0]
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_cross_entropy_of_the_logits(smoothing: float) -> None:
    decoder = make(LSTM)
    outputs, targets = torch.randn(4, 7), torch.tensor([1, 5, 0, 10])
    logits = decoder.projection(outputs)
    expected = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    for unrolled in (Unrolled(outputs), Unrolled(outputs, logits)):
        torch.testing.assert_close(decoder.loss(unrolled, targets, smoothing), expected)


def test_loss_without_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(F, "linear_cross_entropy", raising=False)
    test_loss_is_cross_entropy_of_the_logits(0.1)


def test_select_rows_repeats_an_image_for_its_captions() -> None:
    state = make(LSTM, layers=2).eval().initial_state(torch.randn(2, 6))
    rows = select_rows(state, torch.tensor([0, 0, 1]))
    for before, after in zip(state, rows, strict=True):
        for x, y in zip(before, after, strict=True):
            assert torch.equal(y, x[[0, 0, 1]])


@pytest.mark.parametrize("kind", [LSTM, Elman, partial(Elman, activation="logistic")])
def test_dropout_is_active_in_training_alone(kind: type) -> None:
    decoder = make(kind, dropout=0.5)
    words, features = torch.randint(0, 11, (5,)), torch.randn(2, 6)

    def outputs() -> Tensor:
        state = decoder.initial_state(features)
        return decoder.unroll(words, torch.tensor([2, 2, 1]), state).outputs

    assert not torch.equal(outputs(), outputs())
    decoder.eval()
    assert torch.equal(outputs(), outputs())
