"""Ensembles against averages computed by hand."""

import doctest

import pytest
import torch
from exhaustive_search import END, slow_beam_search
from random_models import RandomModel

import captioner.decoding.ensemble as module
from captioner.decoding.beam_search import SearchOptions, beam_search
from captioner.decoding.ensemble import ensemble
from captioner.errors import UsageError


@pytest.mark.parametrize("average", ["probability", "log_probability"])
@pytest.mark.parametrize("weights", [None, [3.0, 1.0]])
def test_an_ensemble_is_the_average_of_its_models(average, weights):
    models = [RandomModel(5, 4, seed=seed, images=2) for seed in (1, 2)]
    share = [0.5, 0.5] if weights is None else [0.75, 0.25]

    def averaged(image):
        def model(words):
            pairs = list(zip(*(m.of_image(image)(words) for m in models), strict=True))
            if average == "probability":
                return [share[0] * p + share[1] * q for p, q in pairs]
            products = [p ** share[0] * q ** share[1] for p, q in pairs]
            return [product / sum(products) for product in products]

        return model

    ids, _ = models[0].start()
    states = tuple(model.start()[1] for model in models)
    step = ensemble([model.step for model in models], average, weights)
    found = beam_search(ids, states, step, END, SearchOptions(3, 4, n_best=3))
    for image in range(2):
        expected = slow_beam_search(averaged(image), 3, 4, "none", 0, 0, 3)
        assert found.captions()[image] == [list(words) for words, _, _ in expected]
        log_probs = [log_prob for _, log_prob, _ in expected]
        assert found.log_probs[image].tolist() == pytest.approx(log_probs)


def test_an_ensemble_of_one_equals_its_model_and_passes_on_shared_tensors():
    model = RandomModel(5, 4, seed=1, images=3)
    ids, state = model.start()
    bias = torch.randn(3, 5, dtype=torch.float64)

    def biased(ids, state, shared):
        logits, state = model.step(ids, state)
        return logits + shared.repeat_interleave(len(ids) // len(shared), dim=0), state

    alone = beam_search(ids, state, biased, END, SearchOptions(3, 4), shared=bias)
    twice = beam_search(
        ids,
        (state, state),
        ensemble([biased, biased]),
        END,
        SearchOptions(3, 4),
        shared=(bias, bias),
    )
    assert alone.captions() == twice.captions()
    assert twice.log_probs.flatten().tolist() == pytest.approx(alone.log_probs.flatten().tolist())

    mixed = beam_search(
        ids,
        (state, state),
        ensemble([biased, model.step]),
        END,
        SearchOptions(3, 4),
        shared=(bias, None),
    )
    assert mixed.scores.isfinite().all()


def test_example_of_the_module_docstring_runs():
    assert doctest.testmod(module).failed == 0


def test_bad_ensembles_are_refused():
    small, large = RandomModel(4, 2), RandomModel(5, 2)
    with pytest.raises(UsageError, match="no steps given; at least one is required"):
        ensemble([])
    with pytest.raises(UsageError, match="unknown 'median'; choose one of probability, log_prob"):
        ensemble([small.step], "median")
    with pytest.raises(UsageError, match="give one finite weight above 0 per step"):
        ensemble([small.step], weights=[0.0])
    states = (small.start()[1], large.start()[1])
    step = ensemble([small.step, large.step])
    with pytest.raises(UsageError, match="vocabularies of 4 and 5 words"):
        beam_search(small.start()[0], states, step, END, SearchOptions(2, 2))
