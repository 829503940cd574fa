"""Calibration: the error by hand and against torchmetrics, the temperature, and that no test image fits it."""

import dataclasses
import doctest
import importlib
import math

import numpy as np
import pytest
import torch
from evaluation_folders import task_of

from syn2co.core.errors import ConfigError
from syn2co.evaluation.protocols.calibration import LIMIT, calibration, calibration_error, temperature_of
from syn2co.evaluation.protocols.protocol import Features
from syn2co.evaluation.settings import EvaluationSettings


def logits_of(*confidences: float) -> torch.Tensor:
    """Two classes, of which the first has the given probability."""
    return torch.tensor([[math.log(p), math.log(1 - p)] for p in confidences], dtype=torch.float64)


def blobs(noise: float, train: int = 90, test: int = 60) -> Features:
    draws = np.random.default_rng(0)
    sides = []
    for count in (train, test):
        labels = torch.arange(count) % 3
        sides += [torch.eye(3)[labels] + noise * torch.tensor(draws.normal(size=(count, 3))).float(), labels]
    return Features(*sides, 3)


def test_error_of_four_images_by_hand():
    """Two bins: 0.6 and 0.9 with one right (0.75 against 0.5) share [0.5, 1]; none lies below. In four bins of 0.25:
    0.6 right and 0.7 wrong give |0.65 - 0.5|, 0.8 right and 0.9 right |0.85 - 1|: both 0.15, so 0.15 in all."""
    logits, labels = logits_of(0.6, 0.7, 0.8, 0.9), torch.tensor([0, 1, 0, 0])
    found = calibration_error(logits, labels, bins=4)
    assert found.counts.tolist() == [0, 0, 2, 2]
    assert found.confidence.tolist() == pytest.approx([0, 0, 0.65, 0.85])
    assert found.accuracy.tolist() == pytest.approx([0, 0, 0.5, 1.0])
    assert float(found.values.mean()) == pytest.approx(0.15)
    assert found.values.tolist() == pytest.approx([-0.4, 0.7, 0.2, 0.1])
    one = calibration_error(logits, labels, bins=1)
    assert float(one.values.mean()) == pytest.approx(0.0)  # 0.75 sure, 0.75 right


def test_error_is_torchmetrics_to_the_last_digit_of_float32():
    metrics = pytest.importorskip("torchmetrics")
    draws = np.random.default_rng(1)
    for scale, bins in ((0.5, 15), (2.0, 15), (4.0, 10)):
        logits = torch.tensor(scale * draws.normal(size=(500, 7)))
        labels = torch.tensor(draws.integers(7, size=500))
        theirs = metrics.classification.MulticlassCalibrationError(7, n_bins=bins, norm="l1")
        wanted = float(theirs(logits.softmax(1), labels))
        assert float(calibration_error(logits, labels, bins=bins).values.mean()) == pytest.approx(wanted, rel=1e-6)


def test_certain_answers_stay_in_the_last_bin_unlike_in_torchmetrics():
    """0.95 and 1.0, one right: |0.975 - 0.5| here; a 16th bin for 1.0 alone gives (0.05 + 1) / 2 there."""
    logits = torch.cat([logits_of(0.95), torch.tensor([[100.0, -100.0]])])
    found = calibration_error(logits, torch.tensor([0, 1]))
    assert found.counts.tolist() == [0] * 14 + [2] and float(found.values.mean()) == pytest.approx(0.475)


def test_temperature_by_hand():
    """Logits (a, 0), right in 3 of 4: the best confidence is 3/4, so a / T = log 3."""
    logits, labels = torch.tensor([[6.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
    assert temperature_of(logits, labels) == pytest.approx(6 / math.log(3), rel=1e-9)
    assert temperature_of(logits / 60, labels) == pytest.approx(0.1 / math.log(3), rel=1e-7)  # of float32 logits


def test_temperature_has_ends():
    logits = torch.tensor([[2.0, 0.0]] * 4)
    assert temperature_of(logits, torch.zeros(4).long()) == pytest.approx(1 / LIMIT)  # all right: never sure enough
    assert temperature_of(logits, torch.tensor([0, 0, 1, 1])) == LIMIT  # a coin


def test_rows_details_and_the_mean_over_bins():
    before, after = calibration(task_of(blobs(noise=0.8)))
    assert (before.name, after.name) == ("calibration ECE", "calibration ECE scaled")
    details = before.details
    assert details == after.details and details["nll_scaled"] != details["nll"]
    for result, key in ((before, "bins"), (after, "bins_scaled")):
        bins = details[key]
        assert len(bins) == 15 and sum(part["count"] for part in bins) == 60
        wanted = sum(part["count"] * abs(part["confidence"] - part["accuracy"]) for part in bins) / 60
        assert float(result.values.mean()) == pytest.approx(wanted) and not result.higher_is_better
    assert after.setting == f"15 bins, temperature {details['temperature']:.3g}" and after.notes == ()
    assert before.definition != after.definition


def test_temperature_never_sees_the_test_images():
    features = blobs(noise=0.8)
    other = dataclasses.replace(features, test=10 * features.test, test_labels=(features.test_labels + 1) % 3)
    one, two = (calibration(task_of(part))[1].details for part in (features, other))
    assert one["temperature"] == two["temperature"] and one["bins"] != two["bins"]


def test_temperature_mends_an_overconfident_head(monkeypatch):
    """A head fitted almost without penalty to few images in many dimensions is too sure; the temperature is above 1."""
    from syn2co.evaluation.protocols import linear

    monkeypatch.setattr(linear, "PENALTIES", (1e-5,))
    draws = np.random.default_rng(2)
    labels = torch.arange(400) % 2
    points = torch.tensor(draws.normal(size=(400, 40))).float()
    points[:, 0] += labels
    before, after = calibration(task_of(Features(points[:200], labels[:200], points[200:], labels[200:], 2)))
    assert before.details["temperature"] > 1 and before.details["nll_scaled"] < before.details["nll"]
    assert float(after.values.mean()) < float(before.values.mean())


def test_one_image_a_class_has_no_temperature():
    features = blobs(noise=0.1, train=3)
    (only,) = calibration(task_of(features))
    assert only.notes == ("calibration: every class has one training image, so no temperature can be fitted",)
    assert only.details["temperature"] == 1.0 and only.details["bins"] == only.details["bins_scaled"]


def test_an_end_of_the_range_is_noted():
    (_, after) = calibration(task_of(blobs(noise=0.001)))
    assert after.notes == ("calibration: the temperature 0.01 is at the end of its range",)


def test_no_bins_are_refused():
    with pytest.raises(ConfigError, match="calibration.bins = 0: input should be greater than or equal to 1"):
        EvaluationSettings.parse({"calibration": {"bins": 0}})


def test_examples_run():
    assert doctest.testmod(importlib.import_module("syn2co.evaluation.protocols.calibration")).failed == 0
