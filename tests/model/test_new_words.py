"""A decoder for a larger vocabulary: known words keep their scores, new ones are average."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.build import build_decoder
from captioner.config.schema import DecoderConfig
from captioner.model.decoder import Decoder
from captioner.model.new_words import with_new_words

FEATURES, SPECIAL = 5, 4


def decoder(words: int, seed: int = 0, **settings: object) -> Decoder:
    torch.manual_seed(seed)
    config = DecoderConfig(**({"embedding_size": 6, "hidden_size": 7} | settings))  # type: ignore[arg-type]
    made = build_decoder(config, vocab_size=words, feature_size=FEATURES)
    with torch.no_grad():
        for weights in made.parameters():
            weights.add_(0.5 * torch.randn_like(weights))
    return made.eval()


def extended(known: Decoder, words: int, **settings: object) -> Decoder:
    larger = decoder(words, seed=1, **settings)
    larger.load_state_dict(with_new_words(known.state_dict(), larger, SPECIAL))
    return larger


KINDS = [
    {"cell": "gru"},
    {"cell": "lstm", "place": "par", "layers": 2},
    {"cell": "gru", "place": "merge"},
    {"cell": "gru", "tie_embeddings": True, "embedding_size": 7},
    {"cell": "lstm", "output_depth": 1},
    {"cell": "elman", "hidden_size": 9, "embedding_size": 9},  # as large as the vocabulary
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=5, deadline=None)
@given(new=st.integers(0, 6), seed=st.integers(0, 1000))
def test_known_words_keep_their_scores(kind: dict[str, object], new: int, seed: int) -> None:
    known = 9
    before = decoder(known, seed, **kind)
    after = extended(before, known + new, **kind)
    state, _ = before.begin(torch.randn(2, FEATURES))
    for words in ([1, 5], [7, 8]):
        old, next_state = before.step(torch.tensor(words), state)
        scores, _ = after.step(torch.tensor(words), state)
        torch.testing.assert_close(scores[:, :known], old)
        # Jensen's inequality: a mean of logits is at most the logarithm of their mean exponential.
        share = scores.softmax(1)[:, known:].sum(1)
        assert bool((share <= new / (known - SPECIAL + new) + 1e-6).all())
        state = next_state


def test_a_jordan_cell_reads_new_words() -> None:
    before = decoder(9, cell="jordan")
    after = extended(before, 12, cell="jordan")
    shapes = {name: tensor.shape for name, tensor in before.state_dict().items()}
    changed = [n for n, tensor in after.state_dict().items() if tensor.shape != shapes[n]]
    assert len(changed) == 4  # embedding, projection, its bias, the recurrence on the output
    state, _ = after.begin(torch.randn(1, FEATURES))
    scores, _ = after.step(torch.tensor([11]), state)
    assert scores.shape == (1, 12)


def test_new_words_are_the_mean_of_real_ones() -> None:
    before = decoder(9)
    weights = with_new_words(before.state_dict(), decoder(11), SPECIAL)
    for name in ("embedding.weight", "projection.weight", "projection.bias"):
        mean = before.state_dict()[name][SPECIAL:].mean(0)
        for row in weights[name][9:]:
            torch.testing.assert_close(row, mean)


def test_another_network_is_left_for_loading_to_refuse() -> None:
    weights = with_new_words(decoder(9).state_dict(), decoder(11, hidden_size=8), SPECIAL)
    with pytest.raises(RuntimeError, match="size mismatch"):
        decoder(11, hidden_size=8).load_state_dict(weights)
