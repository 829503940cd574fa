"""The target's moving average by hand."""

import pytest
import torch

from syn2co.objective import ema_update


def test_ema_moves_the_target_in_place() -> None:
    target = [torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor(4.0, dtype=torch.float64)]
    online = [torch.tensor([3.0, 2.0], requires_grad=True), torch.tensor(8.0, dtype=torch.float64)]
    memory = [tensor.data_ptr() for tensor in target]
    ema_update(target, online, 0.75)
    assert target[0].tolist() == [1.5, 2.0]
    assert target[1].item() == 5.0
    assert online[0].tolist() == [3.0, 2.0]
    assert [tensor.data_ptr() for tensor in target] == memory


@pytest.mark.parametrize(("momentum", "value"), [(1.0, 0.1), (0.0, 0.7)])
def test_ema_at_its_ends_is_exact(momentum: float, value: float) -> None:
    target = [torch.full((3,), 0.1)]
    ema_update(target, [torch.full((3,), 0.7)], momentum)
    assert torch.equal(target[0], torch.full((3,), value))


def test_branches_that_do_not_correspond() -> None:
    with pytest.raises(AssertionError, match="must correspond"):
        ema_update([torch.zeros(2)], [torch.zeros(3)], 0.5)
    with pytest.raises(AssertionError, match="must correspond"):
        ema_update([torch.zeros(2)], [], 0.5)
