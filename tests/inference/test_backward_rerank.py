"""Two directions: reversed captions, probabilities of both, and what agreement chooses."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from conftest import save_checkpoint, tiny_config

from captioner import checkpoint
from captioner.cli import main
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.options import SampleOptions, SearchOptions
from captioner.errors import UsageError
from captioner.inference.backward_rerank import agreed, log_probs
from captioner.inference.generator import CaptionGenerator
from captioner.inference.phrases import Wording
from captioner.inference.predictor import Predictor
from captioner.model.captioner import Captioner
from captioner.text.vocabulary import END, START


@pytest.fixture(scope="module")
def backward_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config()
    config = replace(config, decoder=replace(config.decoder, direction="backward"))
    return save_checkpoint(tmp_path_factory.mktemp("backward") / "backward.ckpt", config, seed=1)


@pytest.fixture
def pair(tiny_checkpoint: Path, backward_checkpoint: Path) -> tuple[Captioner, Captioner]:
    forward, backward = checkpoint.load(tiny_checkpoint), checkpoint.load(backward_checkpoint)
    assert (forward.captioner.backward, backward.captioner.backward) == (False, True)
    return forward.captioner, backward.captioner


def generate(captioner: Captioner, images: torch.Tensor, options: SearchOptions) -> Hypotheses:
    return CaptionGenerator([captioner], options)([captioner.encode(images)])


def images(n: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, 48, 48), dtype=torch.uint8, generator=generator)


def by_steps(captioner: Captioner, image: torch.Tensor, words: list[int]) -> float:
    """Log-probability of words, fed one by one in the captioner's own order."""
    with torch.inference_mode():
        state = captioner.decoder.initial_state(captioner.encode(image[None]))
        total, fed = 0.0, START
        for word in [*(reversed(words) if captioner.backward else words), END]:
            logits, state = captioner.decoder.step(torch.tensor([fed]), state)
            total += float(logits.log_softmax(1)[0, word])
            fed = word
    return total


def test_log_probs_are_those_of_the_steps(pair: tuple[Captioner, Captioner]) -> None:
    photos = images()
    found = generate(pair[0], photos, SearchOptions(beam_size=4, n_best=4, max_length=6))
    for captioner in pair:
        scores = log_probs(captioner, captioner.encode(photos), found)
        for i, own in enumerate(found.captions()):
            for k, words in enumerate(own):
                assert float(scores[i, k]) == pytest.approx(
                    by_steps(captioner, photos[i], words), rel=1e-4
                )


def test_a_forward_captioner_agrees_with_its_own_search(pair: tuple[Captioner, Captioner]) -> None:
    found = generate(pair[0], images(), SearchOptions(beam_size=3, n_best=3, max_length=30))
    ended = found.lengths < 30  # a caption that was cut has no end word to count
    torch.testing.assert_close(
        log_probs(pair[0], pair[0].encode(images()), found)[ended],
        found.log_probs[ended],
        atol=1e-4,
        rtol=0,
    )


def test_a_backward_search_gives_reading_order(pair: tuple[Captioner, Captioner]) -> None:
    """Word by word its log-probabilities are those of the reversed sentence."""
    _, backward = pair
    found = generate(backward, images(), SearchOptions(beam_size=3, n_best=3, max_length=30))
    own = log_probs(backward, backward.encode(images()), found)
    ended = found.lengths < 30
    torch.testing.assert_close(own[ended], found.log_probs[ended], atol=1e-4, rtol=0)
    torch.testing.assert_close(found.word_log_probs.sum(2), found.log_probs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_agreement_chooses_the_best_sum(pair: tuple[Captioner, Captioner], weight: float) -> None:
    photos = images()
    found = generate(pair[0], photos, SearchOptions(beam_size=4, n_best=4, max_length=6))
    best = agreed(
        found, pair[1], pair[1].encode(photos), weight, SearchOptions(n_best=2, max_length=6)
    )
    other = log_probs(pair[1], pair[1].encode(photos), found)
    for i, k in product(range(len(photos)), range(2)):
        sums = ((1 - weight) * found.log_probs[i] + weight * other[i]).sort(descending=True).values
        assert float(best.scores[i, k]) == pytest.approx(float(sums[k]), abs=1e-4)


@pytest.mark.parametrize(
    "search",
    [
        SearchOptions(beam_size=4, n_best=4, max_length=6, length_norm="average"),
        SearchOptions(beam_size=4, n_best=4, max_length=6, length_norm="gnmt", length_alpha=0.9),
        SearchOptions(beam_size=4, n_best=4, max_length=6, word_reward=1.5),
    ],
    ids=["average", "gnmt", "word reward"],
)
def test_agreement_makes_of_length_what_the_search_made(
    pair: tuple[Captioner, Captioner], search: SearchOptions
) -> None:
    photos = images()
    found = generate(pair[0], photos, search)
    same = agreed(found, pair[1], pair[1].encode(photos), 0.0, search)
    torch.testing.assert_close(same.scores, found.scores)
    assert same.captions() == found.captions()
    other = replace(found, log_probs=log_probs(pair[1], pair[1].encode(photos), found))
    penalty = [
        float(own / score) if not search.word_reward else 1.0
        for own, score in zip(found.log_probs[0], found.scores[0], strict=True)
    ]
    reward = [search.word_reward * min(int(n) + 1, 6) for n in found.lengths[0]]
    expected = sorted(
        (float(p) / by + r for p, by, r in zip(other.log_probs[0], penalty, reward, strict=True)),
        reverse=True,
    )
    best = agreed(found, pair[1], pair[1].encode(photos), 1.0, search)
    assert best.scores[0].tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_agreement_does_not_choose_what_does_not_exist(
    pair: tuple[Captioner, Captioner], weight: float
) -> None:
    search = SearchOptions(beam_size=3, n_best=3, max_length=6)
    found = generate(pair[0], images(1), search)
    gone = torch.tensor([[False, True, False]])
    found = replace(
        found,
        scores=found.scores.masked_fill(gone, -torch.inf),
        log_probs=found.log_probs.masked_fill(gone, -torch.inf),
    )
    best = agreed(found, pair[1], pair[1].encode(images(1)), weight, search)
    assert best.scores[0].isfinite().tolist() == [True, True, False]


def test_a_caption_that_does_not_exist_stays_last(pair: tuple[Captioner, Captioner]) -> None:
    found = generate(pair[0], images(1), SearchOptions(beam_size=3, n_best=3, max_length=6))
    scores = found.scores.clone()
    scores[0, 1] = -torch.inf
    found = replace(found, scores=scores)
    assert log_probs(pair[1], pair[1].encode(images(1)), found)[0, 1] == -torch.inf


def test_on_the_command_line(
    tiny_checkpoint: Path,
    backward_checkpoint: Path,
    photos: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["caption", *map(str, photos), "--checkpoint", str(tiny_checkpoint)]
    arguments += ["--beam-size", "4"]
    both = [*arguments, "--backward", str(backward_checkpoint)]
    said = []
    for call in (arguments, [*both, "--agreement", "0"], [*both, "--agreement", "1"]):
        assert main(call) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert said[0] != said[2]
    assert main([*arguments, "--agreement", "1"]) == 2
    assert "add --backward P" in capsys.readouterr().err


def test_mistakes(tiny_checkpoint: Path, backward_checkpoint: Path) -> None:
    forward, backward = str(tiny_checkpoint), str(backward_checkpoint)
    beam = SearchOptions(beam_size=3)
    with pytest.raises(UsageError, match=r"tiny\.ckpt reads captions forward; captions are"):
        Predictor.load(forward, backward=forward, search=beam)
    with pytest.raises(UsageError, match=r"backward\.ckpt reads captions backward; capt"):
        Predictor.load(backward, backward=forward, search=beam)
    with pytest.raises(UsageError, match="a beam of 1 leaves nothing to choose"):
        Predictor.load(forward, backward=backward, search=SearchOptions(beam_size=1))
    with pytest.raises(UsageError, match="it re-ranks a beam search, not samples"):
        Predictor.load(forward, backward=backward, search=SampleOptions(samples=2))
    with pytest.raises(UsageError, match=r"agreement: 1\.5 is out of range"):
        Predictor.load(forward, backward=backward, search=beam, agreement=1.5)
    with pytest.raises(UsageError, match="some of the checkpoints read captions backward"):
        Predictor.load([forward, backward], search=beam)
    with pytest.raises(UsageError, match="phrases cannot be required or banned"):
        Predictor.load(backward, search=beam, wording=Wording(ban=["dog"]))
