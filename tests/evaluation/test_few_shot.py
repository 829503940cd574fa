"""Few-shot scores: the draws of the labels, their mean and interval, and what is noted."""

import dataclasses

import numpy as np
import pytest
import torch
from evaluation_folders import task_of
from scipy.stats import t

from syn2co.core.errors import ConfigError
from syn2co.evaluation.bootstrap import interval_of
from syn2co.evaluation.protocols.few_shot import LabelCount, draw_labels, few_shot, labels_of
from syn2co.evaluation.protocols.linear import fit_probe
from syn2co.evaluation.protocols.protocol import Features, NotApplicable
from syn2co.evaluation.settings import EvaluationSettings

CPU = torch.device("cpu")


def blobs(n=120, m=60, noise=0.7, classes=3):
    draws = np.random.default_rng(0)
    centers = draws.normal(size=(classes, 5))
    labels = [np.arange(count) % classes for count in (n, m)]
    parts = [centers[part] + noise * draws.normal(size=(len(part), 5)) for part in labels]
    tensors = [torch.tensor(part, dtype=torch.float32) for part in parts]
    return Features(tensors[0], torch.tensor(labels[0]), tensors[1], torch.tensor(labels[1]), classes)


def scores(features, metric="top-1", **settings):
    return few_shot(task_of(features, metric=metric, few_shot=settings))


@pytest.mark.parametrize(
    ("wanted", "counts"),
    [
        (LabelCount(share=0.1), [10, 3, 1]),  # round(10.0), round(2.5 + 0.1), max(1, round(0.3))
        (LabelCount(share=0.01), [1, 1, 1]),
        (LabelCount(per_class=4), [4, 4, 3]),
    ],
)
def test_every_class_has_its_number_by_hand(wanted, counts):
    labels = torch.tensor([0] * 100 + [1] * 26 + [2] * 3)
    chosen = draw_labels(labels, wanted, draw=0)
    assert torch.bincount(labels[chosen]).tolist() == counts
    assert chosen.tolist() == sorted(set(chosen.tolist()))


def test_a_draw_is_a_function_of_labels_number_and_seed_alone():
    labels = torch.arange(120) % 3
    drawn = [draw_labels(labels, LabelCount(per_class=5), draw=draw).tolist() for draw in range(20)]
    assert drawn[0] == draw_labels(labels, LabelCount(per_class=5), draw=0).tolist()
    assert len({tuple(rows) for rows in drawn}) == 20
    assert len(np.unique(np.concatenate(drawn))) > 90  # any image may be drawn


def test_the_first_draws_are_published_numbers():
    """Recorded: another key would silently give other labels than the scores of earlier tables had."""
    labels = torch.arange(30) % 3
    assert draw_labels(labels, LabelCount(per_class=1), draw=0).tolist() == [17, 19, 27]
    assert draw_labels(labels, LabelCount(share=0.1), draw=1).tolist() == [22, 27, 29]


def test_rows_have_the_names_of_their_labels():
    rows = labels_of([0.01, 0.1, 0.005], [1, 5])
    assert [str(row) for row in rows] == ["1 %", "10 %", "0.5 %", "1 per class", "5 per class"]


def test_scores_are_those_of_the_probe_on_the_drawn_images():
    features = blobs(noise=2.0)
    result = scores(features, shares=[0.1], per_class=[], draws=3)[0]
    assert (result.name, result.setting) == ("few-shot 10 %", "12 labels, 3 draws")
    for draw in range(3):
        rows = draw_labels(features.train_labels, LabelCount(share=0.1), draw=draw)
        probe = fit_probe(features.train[rows], features.train_labels[rows], classes=3, seed=draw, device=CPU)
        right = probe.predict(features.test) == features.test_labels
        assert torch.equal(result.values[draw], right.float())
        assert result.details["penalties"][draw] == probe.penalty
    assert result.details["by_draw"] == pytest.approx((100 * result.values.mean(dim=1)).tolist())
    assert result.details["labels"] == 12 and result.details["seeds"] == [0, 1, 2]


def test_interval_over_draws_and_over_images():
    result = scores(blobs(noise=1.5), shares=[], per_class=[2], draws=4)[0]
    means = np.array(result.details["by_draw"]) / 100
    half = t.ppf(0.975, 3) * means.std(ddof=1) / 2
    interval = interval_of(result.values.double().numpy(), seed=0)
    assert (interval.low, interval.high) == pytest.approx((means.mean() - half, means.mean() + half))
    low, high = result.details["interval_over_images"]
    assert low < 100 * means.mean() < high and high - low > 1


def test_mean_per_class_is_the_mean_of_the_values():
    features = blobs(noise=1.5)
    keep = torch.cat([torch.arange(60)[features.test_labels == c][: 4 + 8 * c] for c in range(3)])
    features = dataclasses.replace(features, test=features.test[keep], test_labels=features.test_labels[keep])
    plain, result = (scores(features, metric, shares=[], per_class=[3])[0] for metric in ("top-1", "mean per class"))
    by_class = [plain.values[:, features.test_labels == c].mean(dim=1) for c in range(3)]
    assert result.values.mean(dim=1).numpy() == pytest.approx(torch.stack(by_class).mean(dim=0).numpy(), abs=1e-6)


def test_test_labels_change_no_probe():
    features = blobs()
    other = dataclasses.replace(features, test_labels=(features.test_labels + 1) % 3)
    first, second = (scores(part, shares=[0.1], per_class=[])[0] for part in (features, other))
    assert first.details["penalties"] == second.details["penalties"]
    assert not (first.values * second.values).any()  # the same answers cannot be right under both


def test_too_many_labels_are_capped_and_noted():
    features = blobs(n=10)  # 4, 3 and 3 images
    result = scores(features, shares=[], per_class=[4], draws=2)[0]
    assert result.details["labels"] == 10
    assert (
        "few-shot 4 per class: 2 of 3 classes have fewer images than that, so all of theirs are taken" in result.notes
    )


def test_one_label_per_class_says_that_nothing_chose_the_penalty():
    result = scores(blobs(), shares=[], per_class=[1], draws=2)[0]
    assert result.notes == (
        "few-shot 1 per class: every class has one training image, so the penalty is 0.001, chosen by nothing",
    )


def test_protocols_of_different_labels_have_different_definitions():
    rows = scores(blobs(), shares=[0.1], per_class=[2], draws=2) + scores(blobs(), shares=[0.1], per_class=[], draws=3)
    assert len({str(row.definition) for row in rows}) == 3


def test_nothing_to_draw():
    with pytest.raises(NotApplicable, match=r"few_shot.shares and few_shot.per_class are empty, so there is nothing"):
        scores(blobs(), shares=[], per_class=[])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("few_shot.shares=[0.1,0.1]", "^few_shot.shares: 0.1 is named twice and would count double; name it once"),
        ("few_shot.per_class=[1,5,1]", "^few_shot.per_class: 1 is named twice"),
        ("retrieval.recall_at=[1,1]", "^retrieval.recall_at: 1 is named twice"),
        ("few_shot.draws=1", "few_shot.draws = 1: input should be greater than or equal to 2"),
        ("few_shot.shares=[1.5]", "few_shot.shares.0 = 1.5: input should be less than 1"),
        ("few_shot.per_class=[0]", "few_shot.per_class.0 = 0: input should be greater than or equal to 1"),
    ],
)
def test_settings_out_of_range(assignment, message):
    with pytest.raises(ConfigError, match=message):
        EvaluationSettings().with_settings([assignment])
