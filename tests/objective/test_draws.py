"""Draws are functions of their key, equal for every number of ranks, with the law that the paper states."""

import sys
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from objective_literal import some_draws
from scipy.stats import chisquare, kstest

from syn2co.core import keyed_rng
from syn2co.objective import KINDS, Draws, NegativeCounts
from syn2co.objective.synthetic_logits import _picked

COUNTS = NegativeCounts(3, 4, 5, 6, 7, 8)
KEY = ("negatives", 0, 7, 0, 1)
ARRAYS = [field.name for field in fields(Draws) if field.name != "counts"]


def same(a: Draws, b: Draws) -> list[str]:
    return [name for name in ARRAYS if np.array_equal(getattr(a, name), getattr(b, name))]


def test_draws_depend_on_their_key_alone() -> None:
    first = some_draws(COUNTS, 10, 32)
    np.random.seed(5)
    torch.manual_seed(5)
    assert same(first, some_draws(COUNTS, 10, 32)) == ARRAYS
    for part in ("seed", "step", "micro_batch", "direction"):
        assert same(first, some_draws(COUNTS, 10, 32, **{part: 99})) == []


def test_ranks_draw_the_rows_of_the_whole() -> None:
    whole = some_draws(COUNTS, 12, 32)
    parts = [some_draws(COUNTS, 12, 32, start_row=row, rows=rows) for row, rows in ((0, 5), (5, 1), (6, 0), (6, 6))]
    for name in ARRAYS:
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))


def test_ranks_draw_the_rows_of_the_whole_across_blocks_of_noise() -> None:
    counts, batch = NegativeCounts(0, 1, 0, 3, 0, 0), 1100  # blocks of 512, 512 and 76 rows
    whole = some_draws(counts, batch, 8)
    for row, rows in ((500, 24), (512, 0), (512, 512), (1020, 80), (1100, 0), (3, 1090)):
        part = some_draws(counts, batch, 8, start_row=row, rows=rows)
        for name in ARRAYS:
            assert np.array_equal(getattr(part, name), getattr(whole, name)[row : row + rows]), (name, row, rows)
    for name in ("noise_query", "noise_key", "noise_rest"):
        values = getattr(whole, name)
        assert abs(np.corrcoef(values[:512].ravel(), values[512:1024].ravel())[0, 1]) < 0.1
        assert not np.array_equal(values[1024:], values[512:588]), "no block begins as another does"


def test_one_stream_of_noise_is_that_of_earlier_runs() -> None:
    counts, batch = NegativeCounts(0, 0, 0, 3, 0, 0), 1100
    former, stream = some_draws(counts, batch, 8, noise_block=sys.maxsize), keyed_rng.generator(*KEY, "noise")
    assert np.array_equal(former.picks, stream.random((batch, 3), dtype=np.float32))
    assert np.array_equal(former.noise_query, stream.standard_normal((batch, 3), dtype=np.float32))
    now = some_draws(counts, batch, 8)
    assert same(former, now)[0] == "picks" and not {"noise_query", "noise_key", "noise_rest"} & {*same(former, now)}
    few = NegativeCounts(1, 1, 1, 3, 1, 1)
    assert same(some_draws(few, 512, 8, noise_block=sys.maxsize), some_draws(few, 512, 8)) == ARRAYS


def test_a_rank_makes_its_own_blocks_of_noise_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named defect: every rank made the noise of all ranks, 23 ms a direction at a global batch of 4,096."""
    made: list[int] = []

    class Counted(np.random.Generator):
        def standard_normal(self, size: tuple[int, int], **kwargs: Any) -> Any:  # pyright: ignore
            made.append(size[0])
            return super().standard_normal(size, **kwargs)

    plain = keyed_rng.generator
    monkeypatch.setattr(keyed_rng, "generator", lambda *key: Counted(plain(*key).bit_generator))
    some_draws(COUNTS, 4096, 32, start_row=4032, rows=64)
    assert made == [512, 512], "x and y"
    some_draws(COUNTS, 4096, 32, start_row=480, rows=64)
    assert made[2:] == [512] * 4, "of two blocks"


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_does_not_depend_on_the_other_kinds_counts(kind: str) -> None:
    alone = some_draws(NegativeCounts(**{kind: getattr(COUNTS, kind)}), 10, 32)
    together = some_draws(COUNTS, 10, 32)
    start = sum(COUNTS[: KINDS.index(kind)])
    assert np.array_equal(together.picks[:, start : start + getattr(COUNTS, kind)], alone.picks)
    own = [name for name in ARRAYS if name != "picks" and getattr(alone, name).size]
    assert all(np.array_equal(getattr(together, name), getattr(alone, name)) for name in own)
    assert bool(own) == (kind not in ("perturbed", "adversarial"))


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("picks", ("uniform", ())),
        ("partners", ("uniform", ())),
        ("interpolation", ("uniform", (0, 0.5))),
        ("extrapolation", ("uniform", (1, 0.5))),
        ("mixing", ("uniform", ())),
        ("noise_query", ("norm", ())),
        ("noise_key", ("norm", ())),
        ("noise_rest", ("chi2", (30,))),
    ],
)
def test_laws(name: str, law: tuple[str, tuple[float, ...]]) -> None:
    draws = some_draws(NegativeCounts(100, 100, 100, 100, 100, 100), 100, 32)
    assert kstest(getattr(draws, name).ravel(), law[0], law[1]).pvalue > 0.01


def test_draws_of_different_purposes_are_not_copies_of_each_other() -> None:
    draws = some_draws(NegativeCounts(40, 40, 40, 40, 40, 40), 50, 32)
    columns = [*np.split(draws.picks, 6, axis=1), draws.partners, draws.interpolation, draws.extrapolation]
    columns += [draws.mixing, draws.noise_query, draws.noise_key]
    correlation = np.corrcoef([column.ravel() for column in columns]) - np.eye(len(columns))
    assert np.abs(correlation).max() < 0.08


def test_picks_name_ranks_uniformly_among_the_candidates() -> None:
    hard = torch.arange(8).repeat(4, 1)
    candidates = torch.tensor([[8], [5], [1], [0]])
    u = torch.from_numpy(some_draws(NegativeCounts(perturbed=4000), 4, 32).picks)
    picked = _picked(hard, candidates, u)
    assert chisquare(picked[0].bincount(minlength=8)).pvalue > 0.01
    assert chisquare(picked[1].bincount(minlength=5)).pvalue > 0.01
    assert picked[2:].unique().tolist() == [0]


def test_picks_stay_among_the_candidates_at_the_edges() -> None:
    hard = torch.arange(4097).expand(4097, -1)
    candidates = torch.arange(4097)[:, None]
    edge = torch.tensor([0.0, 1 - 2**-24]).expand(4097, -1)  # the smallest and the largest number that is drawn
    lowest, highest = _picked(hard, candidates, edge).T
    assert (lowest == 0).all()
    assert torch.equal(highest, (candidates[:, 0] - 1).clamp_min(0))


def test_a_negative_count() -> None:
    with pytest.raises(ValueError, match=r"mixup = -1: a count must be 0 or more; 0 switches the kind off"):
        some_draws(NegativeCounts(mixup=-1), 4, 32)


def test_noise_in_one_dimension() -> None:
    with pytest.raises(ValueError, match=r"width = 1: noise negatives need an embedding of 2 dimensions or more"):
        some_draws(NegativeCounts(noise=1), 4, 1)
