"""Exact float32: no operator rounds inside the block, and older and newer switches of torch come back."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from syn2co.core.float32 import _operators, exact_float32
from syn2co.objective import contrastive_loss, info_nce, unit_rows

BACKENDS: Any = torch.backends  # the stubs of torch leave its newer switches out
NEW = pytest.mark.skipif(not hasattr(BACKENDS, "fp32_precision"), reason="torch before 2.9")


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    """Begin and end with torch's defaults."""
    reset()
    yield
    reset()


def reset() -> None:
    if hasattr(BACKENDS, "fp32_precision"):
        BACKENDS.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    if hasattr(BACKENDS, "fp32_precision"):  # where the older switch leaves "ieee"
        BACKENDS.cuda.matmul.fp32_precision = BACKENDS.mkldnn.matmul.fp32_precision = "none"


def state() -> list[str]:
    return [operator.fp32_precision for _, operator in _operators()]


@NEW
def test_the_objective_runs_in_a_program_with_the_newer_switch() -> None:
    """Reading the older switch raises a RuntimeError there."""
    BACKENDS.fp32_precision = "tf32"
    with pytest.raises(RuntimeError):
        torch.get_float32_matmul_precision()
    before = state()
    rows = unit_rows(torch.arange(12.0).view(3, 4).requires_grad_())
    assert float(info_nce(rows, rows, rows.detach(), temperature=1).detach().min()) > 0
    contrastive_loss(rows, rows.detach(), rows.detach(), None, None, temperature=0.2).loss.sum().backward()
    with exact_float32():
        assert not {"tf32", "bf16"} & set(state())
    assert state() == before == ["tf32"] * 6


@NEW
def test_no_switch_is_left_behind_that_a_later_setting_does_not_reach() -> None:
    for earlier, later in (("none", "tf32"), ("tf32", "ieee")):
        BACKENDS.fp32_precision = earlier
        unit_rows(torch.eye(2))
        BACKENDS.fp32_precision = later
        assert BACKENDS.cuda.matmul.fp32_precision == BACKENDS.mkldnn.matmul.fp32_precision == later
        BACKENDS.fp32_precision = "none"


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_the_older_switches_come_back(precision: str) -> None:
    torch.set_float32_matmul_precision(precision)
    with exact_float32(convolutions=False):
        assert torch.get_float32_matmul_precision() == "highest" and BACKENDS.cudnn.allow_tf32
    with exact_float32():
        assert torch.get_float32_matmul_precision() == "highest" and not BACKENDS.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == precision and BACKENDS.cudnn.allow_tf32
    assert BACKENDS.cuda.matmul.allow_tf32 == (precision != "highest")
