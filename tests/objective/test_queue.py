"""The queue by hand, and two defects of the released code."""

import pytest
import torch

from syn2co.core.errors import CheckpointError
from syn2co.objective import Queue


def numbered(first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and groups that carry the numbers first .. last - 1."""
    numbers = torch.arange(first, last)
    return numbers[:, None].float().expand(-1, 4), numbers


def test_released_defect_6_the_queue_starts_with_rows_of_unit_length() -> None:
    queue = Queue.start(512, 256, seed=0, view=1)
    assert (queue.keys.norm(dim=1) - 1).abs().max() < 1e-6
    assert (queue.groups == -1).all()
    assert queue.keys.mean().abs() < 0.001


def test_the_start_depends_on_seed_and_view_alone() -> None:
    keys = Queue.start(8, 4, seed=0, view=1).keys
    torch.manual_seed(3)
    assert torch.equal(keys, Queue.start(8, 4, seed=0, view=1).keys)
    assert not torch.equal(keys, Queue.start(8, 4, seed=0, view=2).keys)
    assert not torch.equal(keys, Queue.start(8, 4, seed=1, view=1).keys)
    assert Queue.start(8, 4, seed=0, view=1, dtype=torch.float64).keys.dtype == torch.float64


@pytest.mark.parametrize(("size", "batch"), [(10, 4), (10, 10), (10, 23), (1, 3), (7, 1)])
def test_released_defect_5_any_batch_wraps_around_in_any_queue(size: int, batch: int) -> None:
    queue = Queue.start(size, 4, seed=0, view=1)
    pointer, slots = 0, [-1] * size
    for start in range(0, 5 * batch, batch):
        queue.enqueue(*numbered(start, start + batch))
        for number in range(start, start + batch):  # one at a time: the later overwrite the earlier
            slots[pointer] = number
            pointer = (pointer + 1) % size
        assert queue.groups.tolist() == slots
        assert queue.pointer == pointer
        written = queue.groups >= 0
        assert torch.equal(queue.keys[written], queue.groups[written][:, None].float().expand(-1, 4))


def test_enqueue_detaches_and_casts() -> None:
    queue = Queue.start(8, 4, seed=0, view=1)
    keys = torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    queue.enqueue(keys, torch.tensor([1, 2]))
    keys.data.zero_()
    assert not queue.keys.requires_grad
    assert queue.keys.dtype == torch.float32
    assert (queue.keys[:2] == 1).all()


def test_state_goes_over_exactly_and_into_the_same_memory() -> None:
    queue = Queue.start(8, 4, seed=0, view=1)
    queue.enqueue(*numbered(0, 5))
    other = Queue.start(8, 4, seed=1, view=1)
    memory = other.keys.data_ptr()
    other.load_state_dict({name: tensor.clone() for name, tensor in queue.state_dict().items()})
    for one in (queue, other):
        one.enqueue(*numbered(5, 11))
    assert torch.equal(queue.keys, other.keys)
    assert torch.equal(queue.groups, other.groups)
    assert queue.pointer == other.pointer == 3
    assert other.keys.data_ptr() == memory


def test_a_queue_without_slots() -> None:
    with pytest.raises(ValueError, match=r"size = 0: a queue has at least 1 slot; the papers use 4096"):
        Queue.start(0, 4, seed=0, view=1)


def test_a_saved_queue_of_another_size() -> None:
    message = r"queue of shape \(8, 4\) in the checkpoint: must be \(9, 4\); use the saved run's queue.size and width"
    with pytest.raises(CheckpointError, match=message):
        Queue.start(9, 4, seed=0, view=1).load_state_dict(Queue.start(8, 4, seed=0, view=1).state_dict())
