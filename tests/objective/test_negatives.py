"""The scalars of each kind, by hand on vectors that one can draw on paper."""

import math

import pytest
import torch
from objective_literal import some_draws, unit
from scipy.stats import ks_2samp

from syn2co.objective import KINDS, PRESETS, NegativeCounts, negatives

C = torch.tensor([[0.6]], dtype=torch.float64)  # q = (1, 0), n = (0.6, 0.8)


def number(value: float) -> torch.Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


def check(blend: negatives.Unnormalized, vector: tuple[float, float], weights: tuple[float, float]) -> None:
    """The vector of a kind before normalizing, as (part along q = x axis, the rest), against its scalars."""
    assert float(blend.product) == pytest.approx(vector[0], abs=1e-12)
    assert float(blend.square) == pytest.approx(vector[0] ** 2 + vector[1] ** 2, abs=1e-12)
    assert (float(blend.query), float(blend.key)) == pytest.approx(weights, abs=1e-12)


def test_interpolated_a_quarter_of_the_way_from_the_key() -> None:
    check(negatives.interpolated(C, number(0.25)), (0.25 + 0.75 * 0.6, 0.75 * 0.8), (0.25, 0.75))


def test_extrapolated_beyond_the_key() -> None:
    check(negatives.extrapolated(C, number(1.5)), (1 - 1.5 * 0.4, 1.5 * 0.8), (-0.5, 1.5))


def test_mixup_of_two_keys() -> None:
    # n' = (0.8, -0.6): q.n' = 0.8, n.n' = 0.48 - 0.48 = 0
    blend = negatives.mixup(C, number(0.8), number(0.0), number(0.3))
    check(blend, (0.3 * 0.6 + 0.7 * 0.8, 0.3 * 0.8 - 0.7 * 0.6), (0.0, 0.3))
    assert float(blend.extra) == pytest.approx(0.7)


def test_noise_adds_its_part_along_q_across_q_and_out_of_the_plane() -> None:
    # u = (0, 1): e = 0.1 (2, -3) and sqrt(5) out of the plane, so only r^2 sees the 5
    blend = negatives.noise(C, number(2), number(-3), number(5), 0.1)
    check(blend, (0.6 + 0.2, math.hypot(0.8 - 0.3, 0.1 * math.sqrt(5))), (0.1 * (2 + 0.6 * 3 / 0.8), 1 - 0.3 / 0.8))


def test_noise_stays_finite_where_the_key_is_the_query() -> None:
    for c in (1.0, -1.0, 1.0 + 1e-12):
        blend = negatives.noise(number(c), number(1), number(1), number(14), 0.1)
        assert all(torch.isfinite(torch.as_tensor(part)).all() and abs(float(part)) < 1e3 for part in blend)
        assert float(blend.square) == pytest.approx(1 + 0.2 * c + 0.01 * 16)


def test_perturbed_moves_along_the_gradient() -> None:
    check(negatives.perturbed(C, 3.0), (0.6 + 3.0, 0.8), (3.0, 1.0))


def test_adversarial_moves_along_the_sign_of_the_query() -> None:
    # q = (0.6, -0.8), n = (1, 0): sign(q) = (1, -1), s r = (1.5, -0.5) at eta 0.5
    blend = negatives.adversarial(number(0.6), number(1.0), number(1.4), number(2.0), 0.5)
    assert float(blend.product) == pytest.approx(1.5 * 0.6 + 0.5 * 0.8)
    assert float(blend.square) == pytest.approx(1.5**2 + 0.5**2)
    assert (blend.query, blend.key, blend.extra) == (0.0, 1.0, 0.5)


def test_counts_have_the_paper_s_presets() -> None:
    assert PRESETS["as-released"] == (128, 128, 128, 64, 64, 64)
    assert PRESETS["as-released"].total == 576
    assert PRESETS["as-intended"].total == 768
    assert PRESETS["none"].total == 0
    assert [kind for kind, count in zip(KINDS, PRESETS["mochi"], strict=True) if count] == ["interpolated", "mixup"]
    assert NegativeCounts._fields == KINDS


@pytest.mark.parametrize("c", [0.5, -0.3])
def test_noise_has_the_law_of_honest_noise_vectors(c: float) -> None:
    """q.s and the mean of exp(q.s / t) s, from the three scalars and from D-dimensional normal vectors."""
    width, sigma, number_of_draws = 16, 0.3, 100_000
    q, across = unit(2, width)
    across = torch.nn.functional.normalize(across - (across @ q) * q, dim=0)
    n = c * q + math.sqrt(1 - c * c) * across
    e = sigma * torch.randn(number_of_draws, width, dtype=q.dtype, generator=torch.Generator().manual_seed(1))
    honest = torch.nn.functional.normalize(n + e, dim=1)

    draws = some_draws(NegativeCounts(noise=number_of_draws), 1, width)
    x, y, rest = (draws.tensor(name, q)[0] for name in ("noise_query", "noise_key", "noise_rest"))
    blend = negatives.noise(torch.full_like(x, c), x, y, rest, sigma)
    ours = blend.product / blend.square.sqrt()
    assert ks_2samp((honest @ q).numpy(), ours.numpy()).pvalue > 0.01

    pull = (honest @ q / 0.2).exp()[:, None] * honest
    our_vectors = (torch.as_tensor(blend.query)[:, None] * q + torch.as_tensor(blend.key)[:, None] * n) / blend.square[
        :, None
    ].sqrt()
    our_pull = (ours / 0.2).exp()[:, None] * our_vectors
    error = ((pull.var(dim=0) + our_pull.var(dim=0)) / number_of_draws).sqrt()
    assert ((pull.mean(dim=0) - our_pull.mean(dim=0)).abs() < 4 * error).all()
    assert our_pull.var(dim=0).sum() < pull.var(dim=0).sum()  # leaving the orthogonal part out lowers the variance
