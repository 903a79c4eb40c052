"""The look at the gradient: exact where one can work it out, and free of side effects."""

import pytest
import torch
from torch import Tensor, nn

from captioner.analysis.gradient_flow import gradient_through_time
from captioner.build import build_decoder
from captioner.config.schema import DecoderConfig
from captioner.model.decoder import Decoder

STEPS = 6


def decoder_of(cell: str, **settings: object) -> Decoder:
    torch.manual_seed(0)
    config = DecoderConfig(
        cell=cell,
        embedding_size=4,
        hidden_size=4,
        dropout=0.0,
        **settings,  # type: ignore[arg-type]
    )
    return build_decoder(config, vocab_size=9, feature_size=5).eval()


def captions(n: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(0, 9, (n, STEPS + 1), generator=generator)
    return torch.randn(n, 5, generator=generator), words[:, :-1], words[:, 1:]


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_fades_or_bursts_by_the_recurrent_weight(factor: float) -> None:
    """ReLU units that are all on, U = factor * I: each step back multiplies by the factor."""
    decoder = decoder_of("elman", activation="relu")
    kernel = decoder.cells[0].recurrence
    assert isinstance(kernel, nn.RNN)
    _, u, b, _ = kernel.all_weights[0]
    u.data.copy_(factor * torch.eye(4))
    nn.init.constant_(b, 100.0)
    (norms,) = gradient_through_time(decoder, *captions()).by_distance
    assert norms.shape == (STEPS,)
    torch.testing.assert_close(norms[1:] / norms[:-1], torch.full((STEPS - 1,), factor))


def test_an_open_forget_gate_keeps_the_gradient() -> None:
    """With f = 1 and nothing written, c carries the gradient back at full length."""
    decoder = decoder_of("lstm")
    _, u, b, _ = decoder.cells[0].recurrence.all_weights[0]  # type: ignore[union-attr,operator,index]
    nn.init.zeros_(u)
    b.data.copy_(torch.tensor([-50.0] * 4 + [50.0] * 4 + [0.0] * 8))
    look = gradient_through_time(decoder, *captions())
    (norms,) = look.by_distance
    torch.testing.assert_close(norms, norms[:1].expand(STEPS), rtol=1e-4, atol=0)
    assert look.gates["forget"] == pytest.approx(1)
    assert look.gates["input"] == pytest.approx(0)
    assert look.saturated["forget"] == 1
    assert look.saturated["output"] < 1


def test_is_the_gradient_of_the_loss() -> None:
    """By finite differences in the first state: |dL_T/ds_0| and |dL/ds_0| of a single caption."""
    decoder = decoder_of("gru").double()
    features, words, targets = captions(1)
    look = gradient_through_time(decoder, features.double(), words, targets)
    (h0,) = decoder.initial_state(features.double())[0]

    def losses(h: Tensor) -> Tensor:
        state = ((h,),)
        found = []
        for t in range(STEPS):
            logits, state = decoder.step(words[:, t], state)  # type: ignore[assignment]
            found.append(nn.functional.cross_entropy(logits, targets[:, t]))
        return torch.stack(found)

    eps = 1e-5
    with torch.no_grad():
        slopes = torch.stack(
            [(losses(h0 + eps * e) - losses(h0 - eps * e)) / (2 * eps) for e in torch.eye(4)]
        )
    assert float(look.by_distance[0, -1]) == pytest.approx(float(slopes[:, -1].norm()), rel=1e-5)
    assert float(look.by_time[0, 0]) == pytest.approx(float(slopes.sum(1).norm()), rel=1e-5)


@pytest.mark.parametrize("place", ["init", "pre", "par", "merge"])
@pytest.mark.parametrize("cell", ["elman", "jordan", "lstm", "gru"])
def test_every_network_can_be_looked_at(cell: str, place: str) -> None:
    decoder = decoder_of(cell, place=place, layers=2)
    look = gradient_through_time(decoder, *captions())
    assert look.by_distance.shape == look.by_time.shape == (2, STEPS)
    assert (look.by_distance[-1] > 0).all()
    assert all(weight.grad is None for weight in decoder.parameters())
    assert set(look.saturated) == (set(look.gates) or {"hidden"})
    assert all(0 <= value <= 1 for value in (*look.gates.values(), *look.saturated.values()))


@pytest.mark.parametrize(
    ("activation", "bias", "share"),
    [("tanh", 50.0, 1.0), ("tanh", 0.0, 0.0), ("logistic", 50.0, 1.0), ("relu", -50.0, 1.0)],
)
def test_saturated_units_of_a_simple_network(activation: str, bias: float, share: float) -> None:
    decoder = decoder_of("elman", activation=activation)
    w, u, b, _ = decoder.cells[0].recurrence.all_weights[0]  # type: ignore[union-attr,operator,index]
    for matrix in (w, u):
        nn.init.zeros_(matrix)
    nn.init.constant_(b, bias)
    look = gradient_through_time(decoder, *captions())
    assert look.saturated == {"hidden": share}
