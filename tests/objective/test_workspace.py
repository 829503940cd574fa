"""Scratch memory is reused where it fits and never where it does not."""

import torch

from syn2co.objective import Workspace


def test_memory_is_reused_under_a_name_only() -> None:
    workspace, like = Workspace(), torch.zeros(1)
    first = workspace.take("a", (4, 6), like)
    assert workspace.take("a", (3, 2), like).data_ptr() == first.data_ptr()
    assert workspace.take("b", (4, 6), like).data_ptr() != first.data_ptr()
    assert workspace.take("a", (5, 6), like).shape == (5, 6)


def test_memory_has_the_dtype_that_is_asked_for() -> None:
    workspace = Workspace()
    for like in (torch.zeros(1), torch.zeros(1, dtype=torch.float64), torch.zeros(1)):
        assert workspace.take("a", (4,), like).dtype == like.dtype
        assert workspace.take("a", (4,), like, torch.int64).dtype == torch.int64
        assert workspace.take("a", (4,), like).is_contiguous()
