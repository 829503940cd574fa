"""Bootstrap intervals: by hand, against literal resampling, and their pairing."""

import numpy as np
import pytest

from syn2co.evaluation.bootstrap import bootstrap_mean, paired_difference


def literal(values, draws=20_000):
    """Resample the test images themselves, as the definition says."""
    picks = np.random.default_rng(5).integers(0, len(values), (draws, len(values)))
    return np.quantile(values[picks].mean(axis=1), [0.025, 0.975])


def test_a_perfect_score_has_no_width():
    interval = bootstrap_mean(np.ones(50), seed=0)
    assert (interval.value, interval.low, interval.high) == (1.0, 1.0, 1.0)


def test_width_is_that_of_the_binomial():
    """1.96 sqrt(p (1 - p) / M) = 0.03099 at p = 1/2, M = 1000."""
    interval = bootstrap_mean(np.arange(1000) % 2.0, seed=0)
    assert interval.value == 0.5
    assert interval.low == pytest.approx(0.5 - 0.03099, abs=0.0015)
    assert interval.high == pytest.approx(0.5 + 0.03099, abs=0.0015)


@pytest.mark.parametrize("kind", ["right or wrong", "real numbers"])
def test_equals_literal_resampling(kind):
    draws = np.random.default_rng(1)
    values = (draws.random(40) < 0.7).astype(float) if kind == "right or wrong" else draws.exponential(size=40)
    interval = bootstrap_mean(values, seed=3)
    assert interval.value == pytest.approx(values.mean())
    assert [interval.low, interval.high] == pytest.approx(literal(values), abs=0.026)


def test_is_a_function_of_values_and_seed_alone():
    values = np.random.default_rng(2).random(30)
    first = bootstrap_mean(values, seed=1)
    np.random.seed(99)
    assert bootstrap_mean(values[::-1], seed=1) == first
    assert bootstrap_mean(values, seed=2) != first


def test_many_distinct_values_are_drawn_in_parts(monkeypatch):
    values = np.random.default_rng(2).random(64)
    whole = bootstrap_mean(values, seed=1)
    monkeypatch.setattr("syn2co.evaluation.bootstrap._CELLS", 64 * 999)
    assert bootstrap_mean(values, seed=1) == whole


def test_percent_scales_all_three():
    interval = bootstrap_mean(np.arange(10) % 2.0, seed=0)
    assert interval.percent().high == 100 * interval.high and interval.percent().value == 50.0


def test_pairing_on_the_same_images_is_narrower():
    """The second is right wherever the first is, and on 5 % more: its lead is sure, though both vary much."""
    draws = np.random.default_rng(4).random(400)
    first, second = (draws < 0.50).astype(float), (draws < 0.55).astype(float)
    lead = paired_difference(second, first, seed=0)
    alone = bootstrap_mean(first, seed=0)
    assert lead.value == pytest.approx(second.mean() - first.mean())
    assert lead.low > 0
    assert lead.high - lead.low < 0.6 * (alone.high - alone.low)
    assert paired_difference(first, second, seed=0).value == -lead.value


def test_unpaired_vectors_are_our_bug():
    with pytest.raises(AssertionError, match="same test images"):
        paired_difference(np.ones(3), np.ones(4), seed=0)
