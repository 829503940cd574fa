"""The plain loss by hand and against the sum in the paper."""

import math

import pytest
import torch
from objective_literal import unit

from syn2co.objective import info_nce, same_group, unit_rows


def test_info_nce_by_hand() -> None:
    q = torch.tensor([[1.0, 0.0]])
    queue = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    loss = info_nce(q, q, queue, temperature=0.5)
    assert float(loss) == pytest.approx(math.log(math.exp(2) + math.exp(0) + math.exp(-2)) - 2, abs=1e-6)
    masked = torch.tensor([[False, True]])
    assert float(info_nce(q, q, queue, temperature=0.5, masked=masked)) == pytest.approx(math.log(1 + math.exp(-2)))


def test_info_nce_is_the_sum_of_the_paper() -> None:
    query, key, queue = unit(4, 8, 1), unit(4, 8, 2), unit(11, 8, 3)
    for i, loss in enumerate(info_nce(query, key, queue, temperature=0.2)):
        positive = math.exp(float(query[i] @ key[i]) / 0.2)
        negatives = sum(math.exp(float(query[i] @ n) / 0.2) for n in queue)
        assert float(loss) == pytest.approx(-math.log(positive / (positive + negatives)), abs=1e-12)


def test_a_query_of_nobodys_group_meets_every_key() -> None:
    masked = same_group(torch.tensor([5, -1]), torch.tensor([5, 7, -1]))
    assert masked.tolist() == [[True, False, False], [False, False, False]], "the first keys are of nobody's group too"


def test_info_nce_refuses_a_temperature_of_zero() -> None:
    with pytest.raises(ValueError, match=r"temperature = 0.0: must be positive"):
        info_nce(unit(1, 4), unit(1, 4), unit(3, 4), temperature=0.0)


def test_unit_rows_are_float32_at_least_and_normalized_after_the_cast() -> None:
    half = torch.randn(5, 256, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = unit_rows(half)
    assert rows.dtype == torch.float32
    assert (rows.norm(dim=1) - 1).abs().max() < 1e-6
    assert unit_rows(half.double()).dtype == torch.float64
