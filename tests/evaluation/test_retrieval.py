"""Retrieval: by hand on five images, against scikit-learn, ties, blocks, and the rows of the table."""

import numpy as np
import pytest
import torch
from evaluation_folders import task_of
from sklearn.metrics import average_precision_score

from syn2co.evaluation.protocols import retrieval as module
from syn2co.evaluation.protocols.protocol import Features
from syn2co.evaluation.protocols.retrieval import rank_gallery, retrieval


def at(*degrees):
    """Unit vectors at these angles to the x axis, of different lengths."""
    angles = np.deg2rad(degrees)
    lengths = np.arange(1, len(degrees) + 1)[:, None]
    return torch.tensor(np.stack([np.cos(angles), np.sin(angles)], 1) * lengths, dtype=torch.float32)


FIVE = at(10, 20, 30, 40, 50)
CLASSES = torch.tensor([1, 0, 0, 1, 0])


def random_features(n=60, m=25, classes=4, width=6):
    draws = np.random.default_rng(0)
    sides = [torch.tensor(draws.normal(size=(count, width)), dtype=torch.float32) for count in (n, m)]
    labels = [torch.tensor(draws.integers(0, classes, count)) for count in (n, m)]
    return Features(sides[0], labels[0], sides[1], labels[1], classes)


def test_five_images_by_hand():
    """From 0 degrees the order is 1 0 0 1 0. Class 0 has ranks 2, 3, 5: (1/2 + 2/3 + 3/5) / 3; class 1 has 1 and 4."""
    precisions, first = rank_gallery(FIVE, CLASSES, at(0, 0), torch.tensor([0, 1]))
    assert precisions.tolist() == pytest.approx([(1 / 2 + 2 / 3 + 3 / 5) / 3, (1 + 2 / 4) / 2])
    assert first.tolist() == [2, 1]


def test_equals_scikit_learn():
    features = random_features()
    precisions, _ = rank_gallery(features.train, features.train_labels, features.test, features.test_labels)
    unit = [torch.nn.functional.normalize(part.double(), dim=1) for part in (features.train, features.test)]
    for query, label, found in zip(unit[1], features.test_labels, precisions, strict=True):
        relevant = (features.train_labels == label).numpy()
        assert found == pytest.approx(average_precision_score(relevant, (unit[0] @ query).numpy()), abs=1e-12)


def test_ties_share_their_last_rank():
    """Five images alike and one behind them: class 0 is all of 3 among 5, then 4 among 6, wherever they stand."""
    gallery = torch.cat([at(30).expand(5, 2), at(60)])
    for labels in ([0, 0, 0, 1, 1, 0], [1, 1, 0, 0, 0, 0]):
        precisions, first = rank_gallery(gallery, torch.tensor(labels), at(0), torch.tensor([0]))
        assert precisions.tolist() == pytest.approx([(3 * 3 / 5 + 4 / 6) / 4])
        assert precisions[0] == pytest.approx(average_precision_score(np.array(labels) == 0, [2] * 5 + [1]))
        assert first.tolist() == [5]


def test_a_collapsed_encoder_is_at_chance():
    precisions, first = rank_gallery(torch.ones(5, 3), CLASSES, torch.ones(2, 3), torch.tensor([0, 1]))
    assert precisions.tolist() == pytest.approx([3 / 5, 2 / 5]) and first.tolist() == [5, 5]


def test_blocks_and_the_order_of_the_gallery_change_nothing(monkeypatch):
    features = random_features()
    whole = rank_gallery(features.train, features.train_labels, features.test, features.test_labels)
    monkeypatch.setattr(module, "_CELLS", 100)
    order = torch.from_numpy(np.random.default_rng(1).permutation(60))
    parts = rank_gallery(features.train[order], features.train_labels[order], features.test, features.test_labels)
    assert torch.allclose(whole[0], parts[0], atol=1e-12) and torch.equal(whole[1], parts[1])


def test_a_class_without_gallery_images_is_refused():
    with pytest.raises(ValueError, match="class 3 of a query: must be among the classes of the gallery"):
        rank_gallery(FIVE, CLASSES, at(0), torch.tensor([3]))


def test_rows_of_the_table():
    features = Features(FIVE, CLASSES, at(0, 0, 48), torch.tensor([0, 1, 0]), 2)
    rows = retrieval(task_of(features, retrieval={"recall_at": [1, 2, 7]}))
    assert [(row.name, row.metric) for row in rows] == [
        ("", "mAP"), ("retrieval recall@1", "recall@1"), ("retrieval recall@2", "recall@2"),
        ("retrieval recall@7", "recall@7"),
    ]  # fmt: skip
    assert [row.values.tolist() for row in rows[1:]] == [[0, 1, 1], [1, 1, 1], [1, 1, 1]]
    first, second, third = rows[0].values.tolist()
    assert rows[0].details["by_class"] == pytest.approx({"0": 50 * (first + third), "1": 100 * second})
    assert [row.notes for row in rows] == [
        (), (), (), ("retrieval: recall@7 looks at the whole gallery of 5 images",)
    ]  # fmt: skip
    assert len({str(row.definition) for row in rows}) == 4
