"""A replayed search returns the same captions as a running one."""

from contextlib import nullcontext
from dataclasses import fields

import pytest
import torch
from exhaustive_search import END
from random_models import RandomModel

import captioner.decoding.cuda_graphs as recorded
import captioner.decoding.running_search as running
from captioner.decoding.beam_search import SearchOptions, beam_search
from captioner.decoding.constraints import BannedWords, NoRepeatedNgram
from captioner.decoding.cuda_graphs import RecordedSearch, Recording
from captioner.decoding.running_search import RunningSearch
from captioner.errors import CaptionerError, UsageError

SEARCHES = [
    {"beam_size": 1},
    {"beam_size": 3, "max_length": 1},
    {"beam_size": 4, "max_length": 4},
    {"beam_size": 4, "n_best": 3, "length_norm": "average"},
    {"beam_size": 4, "n_best": 2, "length_norm": "gnmt", "word_reward": -0.3, "min_length": 2},
    {"beam_size": 4, "n_best": 2, "min_length": 6},
    {"beam_size": 6, "n_best": 4, "groups": 3},
    {"beam_size": 4, "n_best": 2, "no_repeat_word": True},
]


def assert_same(found, wanted):
    for field in fields(wanted):
        one, other = getattr(found, field.name), getattr(wanted, field.name)
        torch.testing.assert_close(one, other, msg=field.name)


class Silent:
    """Replace a CUDA graph on machines without a GPU: replaying does nothing."""

    def replay(self):
        pass


@pytest.mark.parametrize("options", SEARCHES)
@pytest.mark.parametrize("spread", [0.5, 6.0])
def test_a_recording_stops_where_a_search_stops(options, spread, monkeypatch):
    monkeypatch.setattr(running, "answers_at_once", lambda device: False)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Silent)
    monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    model = RandomModel(5, 6, seed=5, images=40, spread=spread)
    options = SearchOptions(**{"max_length": 6, **options})
    banned = [BannedWords([3])]
    ids, state = model.start()

    def begin():
        return RunningSearch(ids, state, model.step, END, options, None, banned)

    recording = Recording([ids, *state], begin, options.max_length)
    found = recording.play([ids, *state])
    assert_same(found, beam_search(ids, state, model.step, END, options, constraints=banned))


def test_without_a_gpu_it_is_a_beam_search():
    model = RandomModel(5, 6, seed=5, images=40)
    options = SearchOptions(beam_size=3, n_best=2, max_length=6)
    search = RecordedSearch(model.step, END, options, record_after=0)
    assert_same(search(*model.start()), beam_search(*model.start(), model.step, END, options))
    assert not search.recordings
    with pytest.raises(UsageError, match="start_ids"):
        search(torch.zeros(2, 2, dtype=torch.int64), None)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_a_failed_capture_is_not_retried(error, monkeypatch):
    model = RandomModel(5, 6, seed=5, images=40)
    search = RecordedSearch(model.step, END, record_after=0)
    tried = []

    def recording(*_):
        tried.append(True)
        raise error

    monkeypatch.setattr(recorded, "Recording", recording)
    for _ in range(2):
        assert search._play(*model.start(), None) is None
    assert len(tried) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("options", SEARCHES)
@pytest.mark.parametrize("spread", [0.5, 6.0])
def test_on_a_gpu_it_finds_the_same(options, spread):
    model = RandomModel(5, 6, seed=5, images=64, spread=spread).to("cuda")
    options = SearchOptions(**{"max_length": 6, **options})
    banned = [BannedWords([3])]
    search = RecordedSearch(model.step, END, options, constraints=banned, record_after=1)
    ids, (image, node) = model.start()
    for rows in [*torch.arange(64, device="cuda").split(16) * 3, *torch.randperm(64).split(7)]:
        rows = rows.to("cuda")
        given = ids[rows], (image[rows], node[rows])
        wanted = beam_search(*given, model.step, END, options, constraints=banned)
        found = search(*given)
        assert_same(found, wanted)
        kept = found.words.clone()
        search(ids[rows], (image[rows.flip(0)], node[rows]))  # leaves what was returned alone
        assert torch.equal(found.words, kept)
    assert len(search.recordings) >= 2


@pytest.mark.gpu
def test_weights_may_change_in_place():
    torch.manual_seed(0)
    words, embedding = torch.randn(2, 1000, 64, device="cuda")

    def step(ids, h):
        h = torch.tanh(0.5 * h + embedding[ids])
        return h @ words.T, h

    options = SearchOptions(beam_size=5, max_length=12)
    search = RecordedSearch(step, END, options, record_after=0)
    ids, h = torch.ones(64, dtype=torch.int64, device="cuda"), torch.randn(64, 64, device="cuda")
    before = search(ids, h)
    words.copy_(torch.randn(1000, 64, device="cuda"))
    after = search(ids, h)
    assert after.captions() == beam_search(ids, h, step, END, options).captions()
    assert before.captions() != after.captions()


@pytest.mark.gpu
def test_what_cannot_be_captured_uses_plain_beam_search():
    model = RandomModel(5, 6, seed=5, images=40).to("cuda")
    options = SearchOptions(beam_size=3, max_length=6)
    once = [NoRepeatedNgram(1)]
    search = RecordedSearch(model.step, END, options, constraints=once, record_after=0)
    wanted = beam_search(*model.start(), model.step, END, options, constraints=once)
    assert_same(search(*model.start()), wanted)
    assert not search.recordings

    def broken(ids, state):
        logits, state = model.step(ids, state)
        return logits * float("nan"), state

    with pytest.raises(CaptionerError, match="NaN"):
        RecordedSearch(broken, END, options, record_after=0)(*model.start())
