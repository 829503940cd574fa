"""The linear probe: its minimum against scikit-learn's, its gradient, and what it may see."""

import dataclasses

import numpy as np
import pytest
import torch
from evaluation_folders import task_of

from syn2co.evaluation.protocols import linear as module
from syn2co.evaluation.protocols.linear import (
    PENALTIES,
    UNDECIDED,
    LinearProbe,
    choose_penalty,
    correlation_of,
    fit,
    held_out,
    linear,
    scaling_of,
)
from syn2co.evaluation.protocols.protocol import Features

CPU = torch.device("cpu")


def blobs(n=240, m=90, width=5, classes=3, noise=0.7, seed=0):
    draws = np.random.default_rng(seed)
    centers = draws.normal(size=(classes, width))
    labels = [draws.integers(0, classes, count) for count in (n, m)]
    parts = [centers[part] + noise * draws.normal(size=(len(part), width)) for part in labels]
    tensors = [torch.tensor(part, dtype=torch.float32) for part in parts]
    return Features(tensors[0], torch.tensor(labels[0]), tensors[1], torch.tensor(labels[1]), classes)


def fit_all(inputs, labels, penalty, classes):
    shares = torch.full((len(labels),), 1 / len(labels))
    return fit(inputs, labels, shares, correlation_of(inputs), classes=classes, penalty=penalty)


@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
def test_minimum_is_scikit_learns(penalty):
    """Theirs is C sum CE + |W|^2 / 2, so C = 1 / (N penalty); features correlated and unevenly scaled on purpose."""
    from sklearn.linear_model import LogisticRegression

    features = blobs(noise=1.5)
    inputs = features.train @ torch.tensor(np.random.default_rng(1).normal(size=(5, 5)) * [1, 1, 1, 3, 0.3]).float()
    probe = fit_all(inputs, features.train_labels, penalty, 3)
    theirs = LogisticRegression(C=1 / (len(inputs) * penalty), tol=1e-8, max_iter=5000)
    theirs.fit(inputs.double().numpy(), features.train_labels.numpy())
    logits = inputs.double() @ probe.weight + probe.bias
    wanted = theirs.predict_log_proba(inputs.double().numpy())
    assert torch.log_softmax(logits, 1).numpy() == pytest.approx(wanted, abs=5e-3)
    assert probe.weight.T.numpy() == pytest.approx(theirs.coef_, abs=5e-3)


def test_loss_and_gradient_are_those_of_autograd(monkeypatch):
    features = blobs()
    shares = torch.rand(240) / 240
    weight = torch.randn(5, 3, dtype=torch.float64).requires_grad_()
    bias = torch.randn(3, dtype=torch.float64).requires_grad_()
    logs = torch.log_softmax(features.train.double() @ weight + bias, 1)
    wanted = -(logs[torch.arange(240), features.train_labels] * shares.double()).sum()
    wanted.backward()
    for cells in (module._CELLS, 3 * 17):  # whole, and 17 rows at a time
        monkeypatch.setattr(module, "_CELLS", cells)
        loss, by_weight, by_bias = module._loss(
            features.train, features.train_labels, shares, weight.detach(), bias.detach()
        )
        assert loss == pytest.approx(float(wanted.detach()), rel=1e-5)
        assert by_weight.numpy() == pytest.approx(weight.grad.numpy(), abs=1e-6)
        assert by_bias.numpy() == pytest.approx(bias.grad.numpy(), abs=1e-6)


def test_separable_classes_are_all_right():
    outcome = linear(task_of(blobs(noise=0.01)))[0]
    assert float(outcome.values.mean()) == 1.0
    assert outcome.notes == () and outcome.details["held_out_images"] == pytest.approx(48, abs=3)


def test_penalty_is_the_argmax_on_the_held_out_part():
    """Few images in many noisy dimensions: a weak penalty overfits, so a strong one must win."""
    features = blobs(n=90, m=60, width=120, noise=6.0)
    details = linear(task_of(features))[0].details
    tried = details["held_out_top1"]
    assert tried[f"{details['penalty']:g}"] == max(tried.values())
    assert details["penalty"] >= 0.1
    assert list(tried) == [f"{penalty:g}" for penalty in PENALTIES[: len(tried)]]


def test_the_stronger_penalty_wins_a_tie():
    features = blobs(noise=0.01)
    inputs = scaling_of(features.train, CPU).apply(features.train)
    out = held_out(features.train_labels, seed=0)
    best, _, scores = choose_penalty(inputs, features.train_labels, out, correlation_of(inputs), classes=3)
    assert set(scores.values()) == {1.0} and best == PENALTIES[0]


def test_the_search_ends_after_two_in_a_row_below_the_best(monkeypatch):
    """Scripted numbers of wrong answers, strongest penalty first: 4, 2, 3, 2, 3, 3 ends there, and the first 2 wins."""

    class Scripted(LinearProbe):
        def __init__(self, wrong: int) -> None:
            super().__init__(torch.zeros(1, 2), torch.zeros(2))
            object.__setattr__(self, "wrong", wrong)

        def predict(self, inputs):
            return torch.cat([torch.ones(self.wrong), torch.zeros(len(inputs) - self.wrong)]).long()

    wrong = iter([4, 2, 3, 2, 3, 3, 0, 0])
    monkeypatch.setattr(module, "fit", lambda *_, **__: Scripted(next(wrong)))
    labels = torch.zeros(10).long()
    out = torch.arange(10) >= 5
    best, probe, scores = choose_penalty(torch.zeros(10, 1), labels, out, torch.eye(1), classes=2)
    assert best == PENALTIES[1] and probe.wrong == 2
    assert list(scores.values()) == [0.2, 0.6, 0.4, 0.6, 0.4, 0.4]


def test_the_probe_never_sees_the_test_images():
    """Other test images change neither the choice nor the answer for an image that stays."""
    features = blobs(noise=2.0)
    other = features.test.clone()
    other[1:] = 1000 * torch.randn(89, 5)
    labels = (features.test_labels + 1) % 3
    labels[0] = features.test_labels[0]
    first = linear(task_of(features))[0]
    second = linear(task_of(dataclasses.replace(features, test=other, test_labels=labels)))[0]
    assert first.details == second.details
    assert first.values[0] == second.values[0]


def test_held_out_part_is_in_no_fit_that_it_judges(monkeypatch):
    """Wrong labels in the held-out part change how the probe is judged and leave the probe as it is."""
    monkeypatch.setattr(module, "PENALTIES", (0.01,))
    features = blobs(noise=1.0)
    inputs = scaling_of(features.train, CPU).apply(features.train)
    out, correlation = held_out(features.train_labels, seed=0), correlation_of(inputs)
    garbled = torch.where(out, (features.train_labels + 1) % 3, features.train_labels)
    _, probe, scores = choose_penalty(inputs, features.train_labels, out, correlation, classes=3)
    _, other, garbled_scores = choose_penalty(inputs, garbled, out, correlation, classes=3)
    assert torch.equal(probe.weight, other.weight) and torch.equal(probe.bias, other.bias)
    assert garbled_scores[0.01] < 0.5 < scores[0.01]


def test_held_out_is_a_keyed_fifth_of_every_class():
    labels = torch.tensor([0] * 50 + [1] * 10 + [2] * 2 + [3])
    mask = held_out(labels, seed=4)
    assert [int(mask[labels == c].sum()) for c in range(4)] == [10, 2, 1, 0]
    assert torch.equal(mask, held_out(labels, seed=4))
    assert not torch.equal(mask, held_out(labels, seed=5))


def test_one_image_a_class_chooses_nothing_and_says_so():
    features = blobs(n=3, m=30, noise=0.05)
    features = dataclasses.replace(features, train=features.train, train_labels=torch.arange(3))
    outcome = linear(task_of(features))[0]
    assert outcome.details["penalty"] == UNDECIDED and outcome.details["held_out_top1"] == {}
    assert "every class has one training image" in outcome.notes[0]


def test_scale_and_offset_of_a_feature_do_not_count():
    features = blobs(noise=2.0)
    scale, offset = torch.tensor([1.0, 10.0, 0.01, 1.0, 3.0]), torch.tensor([0.0, 5.0, 0.0, -2.0, 1.0])
    moved = dataclasses.replace(features, train=features.train * scale + offset, test=features.test * scale + offset)
    first, second = linear(task_of(features))[0], linear(task_of(moved))[0]
    assert first.details["penalty"] == second.details["penalty"]
    assert float((first.values != second.values).float().mean()) <= 0.02


def test_fewer_images_than_features_have_the_same_minimum_in_their_span(monkeypatch):
    """The loss at scikit-learn's minimum, to its last digits; two equal rows leave the span one short."""
    from sklearn.linear_model import LogisticRegression

    features = blobs(n=24, m=60, width=80, noise=2.0)
    features.train[5], features.train_labels[5] = features.train[4], features.train_labels[4]
    monkeypatch.setattr(module, "PENALTIES", (0.01,))
    fitted = module.fit_probe(features.train, features.train_labels, classes=3, seed=0, device=CPU)
    inputs = fitted.scaling.apply(features.train).double()
    theirs = LogisticRegression(C=1 / (24 * 0.01), tol=1e-10, max_iter=5000).fit(inputs, features.train_labels)
    weights = fitted.probe.weight, torch.tensor(theirs.coef_.T)
    logits = inputs @ fitted.probe.weight + fitted.probe.bias, torch.tensor(theirs.decision_function(inputs))
    ours, wanted = (
        float(torch.nn.functional.cross_entropy(z, features.train_labels) + 0.01 / 2 * w.square().sum())
        for z, w in zip(logits, weights, strict=True)
    )
    assert fitted.probe.weight.shape == (80, 3) and ours == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_a_feature_constant_in_training_up_to_rounding_cannot_hurt(noise):
    features, draws = blobs(noise=0.01), np.random.default_rng(0)
    extra = [1000 + scale * draws.normal(size=(count, 1)) for scale, count in ((noise, 240), (1e4, 90))]
    train, test = (
        torch.cat([part, torch.tensor(column, dtype=torch.float32)], 1)
        for part, column in zip((features.train, features.test), extra, strict=True)
    )
    assert float(linear(task_of(dataclasses.replace(features, train=train, test=test)))[0].values.mean()) == 1.0


def test_a_collapsed_encoder_scores_the_commonest_class():
    labels = torch.tensor([0] * 10 + [1] * 30 + [2] * 10)
    features = Features(torch.ones(50, 4), labels, torch.ones(20, 4), torch.arange(20) % 3, 3)
    assert linear(task_of(features))[0].values.tolist() == [float(c == 1) for c in (torch.arange(20) % 3).tolist()]


def test_no_convergence_is_said(monkeypatch):
    monkeypatch.setattr(module, "MAX_ITERATIONS", 2)
    assert "did not converge within 2 iterations" in linear(task_of(blobs(noise=2.0)))[0].notes[0]
