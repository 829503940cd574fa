"""Which image when, on which rank, by which worker: a function of (seed, step) and nothing else."""

import numpy as np
import pytest
import torch
from tiny_images import write_images

from syn2co.core import keyed_rng
from syn2co.core.errors import ConfigError, DataError
from syn2co.data.loader import Schedule, batches
from syn2co.data.open import open_images
from syn2co.data.settings import ViewsSettings
from syn2co.data.views import two_views

VIEWS = ViewsSettings(size=16)


def _indices(schedule: Schedule, rank: int, start: int, stop: int) -> list[list[int]]:
    return [[index for _, index in keys] for keys in schedule.keys(rank, start, stop)]


def test_steps_epochs_and_rows():
    schedule = Schedule(images=26, batch=8, micro_batches=2, ranks=2, seed=0)
    assert (schedule.steps_per_epoch, schedule.micro_rows, schedule.rank_rows) == (3, 4, 2)
    assert [schedule.epoch(step) for step in range(7)] == [0, 0, 0, 1, 1, 1, 2]


def test_an_epoch_is_a_keyed_permutation_without_padding():
    schedule = Schedule(26, 8, 1, 1, seed=5)
    for epoch in range(3):
        seen = sum(_indices(schedule, 0, 3 * epoch, 3 * epoch + 3), [])
        assert seen == keyed_rng.permutation(26, "epoch order", 5, epoch)[:24].tolist()
        assert len(set(seen)) == 24
    other = Schedule(26, 8, 1, 1, seed=6)
    assert _indices(schedule, 0, 0, 3) != _indices(schedule, 0, 3, 6) != _indices(other, 0, 3, 6)


@pytest.mark.parametrize("ranks, micro_batches", [(2, 1), (1, 2), (2, 2), (4, 2), (8, 1)])
def test_ranks_and_micro_batches_are_contiguous_slices_of_the_global_batch(ranks, micro_batches):
    whole = _indices(Schedule(26, 8, 1, 1, seed=0), 0, 0, 7)
    schedule = Schedule(26, 8, micro_batches, ranks, seed=0)
    parts = [_indices(schedule, rank, 0, 7) for rank in range(ranks)]
    for step, expected in enumerate(whole):
        rows = [
            parts[rank][step * micro_batches + micro_batch]
            for micro_batch in range(micro_batches)
            for rank in range(ranks)
        ]
        assert sum(rows, []) == expected


def test_a_start_in_the_middle_is_the_same_stream():
    schedule = Schedule(26, 8, 2, 1, seed=0)
    assert _indices(schedule, 0, 4, 9) == _indices(schedule, 0, 0, 9)[8:]
    assert [{epoch for epoch, _ in keys} for keys in schedule.keys(0, 4, 8)] == [{1}] * 4 + [{2}] * 4
    assert _indices(schedule, 0, 5, 5) == []


def test_defect_08_fewer_images_than_a_batch_is_an_error():
    """The released code trains zero steps without a word."""
    sentence = (
        "data.real: 7 images are fewer than training.batch = 8, so not one step could be taken; add images or lower"
    )
    with pytest.raises(DataError, match=sentence):
        Schedule(7, 8, 1, 1, seed=0)
    assert Schedule(8, 8, 1, 1, seed=0).steps_per_epoch == 1


def test_a_batch_that_does_not_divide_is_an_error():
    sentence = "training.batch = 8: must divide by ranks x micro-batches = 3 x 2; choose a multiple of 6"
    with pytest.raises(ConfigError, match=sentence):
        Schedule(26, 8, 2, 3, seed=0)


def test_batches_by_hand(image_folder):
    images = open_images([image_folder])
    schedule = Schedule(len(images), 8, 2, 2, seed=3)
    (batch,) = list(batches(images, VIEWS, schedule, range(4, 5), rank=1, workers=0))[1:]
    indices = keyed_rng.permutation(26, "epoch order", 3, 1)[8:16][6:]
    assert batch.indices.tolist() == indices.tolist() == batch.groups.tolist()
    assert batch.views.shape == (2, 2, 16, 16, 3) and batch.views.dtype == torch.uint8
    for row, index in enumerate(indices):
        expected = two_views(images.read(index), VIEWS, seed=3, epoch=1, index=int(index))
        for view in (0, 1):
            np.testing.assert_array_equal(batch.views[view, row].numpy(), expected[view])


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("cache", ["always", "never"])
def test_workers_change_nothing(workers, cache, image_folder):
    images = open_images([image_folder], cache=cache)
    schedule = Schedule(len(images), 8, 1, 1, seed=0)
    streams = [batches(images, VIEWS, schedule, range(1, 8), rank=0, workers=number) for number in (0, workers)]
    count = 0
    for one, two in zip(*streams, strict=True):
        assert all(torch.equal(left, right) for left, right in zip(one, two, strict=True))
        count += 1
    assert count == 7


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_vanishes_is_named(workers, tmp_path):
    images = open_images([write_images(tmp_path / "images", 8)], cache="never")
    gone = images.name(5)
    (tmp_path / "images" / gone.split(":")[1]).unlink()
    schedule = Schedule(8, 8, 1, 1, seed=0)
    with pytest.raises(DataError, match=gone):
        list(batches(images, VIEWS, schedule, range(0, 1), rank=0, workers=workers))
