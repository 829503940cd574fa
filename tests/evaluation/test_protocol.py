"""One value per test image whose mean is the score: top-1 and mean per class, by hand and against a plain bootstrap."""

import numpy as np
import pytest
import torch
from evaluation_folders import task_of

from syn2co.evaluation.bootstrap import bootstrap_mean, interval_of
from syn2co.evaluation.protocols.knn import knn
from syn2co.evaluation.protocols.linear import linear
from syn2co.evaluation.protocols.protocol import Features, class_values


def test_the_mean_over_classes_by_hand() -> None:
    """Class 0: 3 of 4 right, class 1: 0 of 1, class 2 has no images: (0.75 + 0) / 2."""
    labels, right = torch.tensor([0, 0, 0, 0, 1]), torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    values = class_values(right, labels, 3, "mean per class")
    assert float(values.mean()) == pytest.approx(0.375)
    # image 0: 0.375 + (1 - 0.75) * 5 / (2 * 4)
    assert values.tolist() == pytest.approx([0.53125, 0.53125, 0.53125, -0.09375, 0.375])
    assert class_values(right, labels, 3, "top-1").tolist() == right.tolist()


def test_its_interval_is_that_of_a_bootstrap_of_the_images() -> None:
    draws = np.random.default_rng(0)
    labels = draws.choice(4, 600, p=[0.55, 0.25, 0.15, 0.05])
    right = (draws.random(600) < np.array([0.9, 0.7, 0.5, 0.3])[labels]).astype(float)

    def mean_per_class(rows: np.ndarray) -> float:
        return float(np.mean([right[rows][labels[rows] == label].mean() for label in np.unique(labels[rows])]))

    plain = np.quantile([mean_per_class(draws.integers(0, 600, 600)) for _ in range(3000)], [0.025, 0.975])
    values = class_values(torch.from_numpy(right).float(), torch.from_numpy(labels), 4, "mean per class")
    ours = bootstrap_mean(values.double().numpy(), seed=0)
    assert ours.value == pytest.approx(mean_per_class(np.arange(600)), abs=1e-6)
    assert (ours.low, ours.high) == pytest.approx(tuple(plain), abs=0.012)
    assert plain[1] - plain[0] > 0.08, "the tolerance is a fraction of the width"


def test_a_data_set_that_reports_the_mean_over_classes_gets_it() -> None:
    train = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(4, 1)
    test = torch.tensor([[1.0, 0.1], [1.0, 0.1], [1.0, 0.1], [1.0, 0.1]])
    features = Features(train, torch.tensor([0, 1] * 4), test, torch.tensor([0, 0, 0, 1]), 2)
    for protocol in (knn, linear):
        (top1,) = protocol(task_of(features))
        (by_class,) = protocol(task_of(features, metric="mean per class"))
        assert float(top1.values.mean()) == pytest.approx(0.75) and top1.metric == "top-1"
        assert float(by_class.values.mean()) == pytest.approx(0.5) and by_class.metric == "mean per class"


def test_the_interval_over_draws_is_students() -> None:
    """Draw means 0.5 and 0.75: 0.625 +- 12.706 * 0.17678 / sqrt(2)."""
    values = np.array([[1.0, 0, 1, 0], [1, 1, 1, 0]])
    interval = interval_of(values, seed=0)
    assert interval.value == 0.625
    assert interval.high - 0.625 == pytest.approx(12.7062 * 0.1767767 / 2**0.5, rel=1e-4)
    assert interval.low == pytest.approx(1.25 - interval.high)


def test_images_of_many_distinct_values_are_drawn_themselves() -> None:
    """Above 64 distinct values images are drawn instead of counts: the same law, so nearly the same interval."""
    values = np.random.default_rng(0).normal(size=500)
    by_images = bootstrap_mean(values, seed=0)
    half = 1.96 * values.std() / np.sqrt(500)
    assert (by_images.low, by_images.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.006)
