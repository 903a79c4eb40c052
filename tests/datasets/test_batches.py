"""Batches shared between processes: nothing lost, nothing doubled; where a resumed run goes on."""

from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler

from captioner.datasets.batches import CaptionDataset, Collate, SharedBatches
from captioner.datasets.records import Record
from captioner.text.vocabulary import Vocabulary


@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 7),
    world=st.integers(1, 8),
    epoch=st.integers(0, 3),
    seed=st.none() | st.integers(0, 5),
)
def test_every_image_once_and_as_one_process_would(
    n: int, batch_size: int, world: int, epoch: int, seed: int | None
) -> None:
    """Together the processes take, step by step, the batches of one with batches W times as big."""
    shares = []
    for rank in range(world):
        batches = SharedBatches(n, batch_size, rank=rank, world=world, seed=seed)
        batches.set_epoch(epoch)
        shares.append(list(batches))
        assert len(shares[-1]) == len(batches), "all processes make equally many steps"
        assert all(len(batch) <= batch_size for batch in shares[-1])
    alone = SharedBatches(n, batch_size * world, seed=seed)
    alone.set_epoch(epoch)
    together = [sorted(chain(*step)) for step in zip(*shares, strict=True)]
    assert together == [sorted(batch) for batch in alone]
    assert sorted(chain(*alone)) == list(range(n))


@given(n=st.integers(1, 40), batch_size=st.integers(1, 7), first=st.integers(0, 9))
def test_a_resumed_epoch_goes_on_with_its_next_batch(n: int, batch_size: int, first: int) -> None:
    whole = SharedBatches(n, batch_size, seed=3)
    whole.set_epoch(2)
    resumed = SharedBatches(n, batch_size, seed=3, start=(2, first))
    assert list(resumed) == list(whole)[first:]
    assert len(resumed) == len(whole)
    for batches in (whole, resumed):
        batches.set_epoch(3)
    assert list(resumed) == list(whole)


def test_the_order_of_one_process_is_torchs() -> None:
    sampler: DistributedSampler[int] = DistributedSampler(
        torch.arange(11),  # type: ignore[arg-type]
        num_replicas=1,
        rank=0,
        seed=5,
    )
    batches = SharedBatches(11, 4, seed=5)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches.set_epoch(epoch)
        assert list(chain(*batches)) == list(sampler)


def test_a_batch_without_items_counts_nothing(tmp_path: object) -> None:
    record = Record("a", __file__, ("a dog",), "train")  # type: ignore[arg-type]
    vocabulary = Vocabulary.build(["a dog"], min_count=1)
    images = CaptionDataset([record], lambda record: torch.ones(3), vocabulary, 5)
    filled, empty = Collate(images)([images[0]]), Collate(images)([])
    assert (filled.image_ids, empty.image_ids) == (["a"], [])
    assert torch.equal(filled.images, empty.images)


@pytest.mark.parametrize("world", [3, 5])
def test_fewer_images_than_processes(world: int) -> None:
    shares = [list(SharedBatches(2, 4, rank=rank, world=world)) for rank in range(world)]
    assert shares == [[[0]], [[1]], *[[[]]] * (world - 2)]


def in_row(n: int, views: int, seed: int, epoch: int, world: int = 1) -> list[int]:
    """Return the indices of an epoch, step by step."""
    shares = []
    for rank in range(world):
        batches = SharedBatches(n, 12 // world, rank=rank, world=world, seed=seed, views=views)
        batches.set_epoch(epoch)
        shares.append(list(batches))
    return [index for step in zip(*shares, strict=True) for index in sorted(chain(*step))]


@given(n=st.integers(1, 40), views=st.integers(1, 5), epoch=st.integers(0, 3))
def test_every_image_once_in_one_of_its_views(n: int, views: int, epoch: int) -> None:
    indices = in_row(n, views, 3, epoch)
    assert sorted(index % n for index in indices) == list(range(n))
    assert max(indices) < n * views
    assert in_row(n, views, 3, epoch, world=3) == [
        index for first in range(0, n, 12) for index in sorted(order(n, views, epoch)[first:][:12])
    ]


def order(n: int, views: int, epoch: int) -> list[int]:
    batches = SharedBatches(n, n, seed=3, views=views)
    batches.set_epoch(epoch)
    return list(chain(*batches))


def test_views_do_not_change_the_order_and_are_drawn_alike() -> None:
    once, thrice = order(900, 1, 2), order(900, 3, 2)
    assert [index % 900 for index in thrice] == once
    counts = torch.bincount(torch.tensor([index // 900 for index in thrice]), minlength=3)
    assert counts.min() > 250
    assert [index // 900 for index in order(900, 3, 3)] != [index // 900 for index in thrice]


def test_an_index_names_an_image_and_its_view() -> None:
    records = [Record(name, __file__, ("a dog",), "train") for name in "ab"]  # type: ignore[arg-type]
    vocabulary = Vocabulary.build(["a dog"], min_count=1)
    sources = [lambda record, view=view: torch.tensor([view]) for view in range(3)]
    images = CaptionDataset(records, sources[0], vocabulary, 5, views=sources[1:])
    assert len(images) == 2
    assert [(images[i].image_id, int(images[i].image)) for i in range(6)] == [
        ("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)
    ]  # fmt: skip
