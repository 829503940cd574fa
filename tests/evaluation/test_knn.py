"""k-NN: by hand, against loops written from the definition and scikit-learn, ties, caps, chunks and blocks."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation_folders import task_of
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch import Tensor

from syn2co.evaluation.protocols import knn as module
from syn2co.evaluation.protocols.knn import knn, knn_accuracy, neighbors, vote
from syn2co.evaluation.protocols.protocol import Features

CPU = torch.device("cpu")


def literal_class(bank, labels, query, k):
    """One query, by loops: the k most similar (the lower index first), votes exp(sim / 0.07), the lower class first."""
    sims = [float(b @ query) / (math.sqrt(b @ b) * math.sqrt(query @ query)) for b in bank]
    nearest = sorted(range(len(bank)), key=lambda i: (-sims[i], i))[:k]
    votes = {}
    for i in nearest:
        votes[int(labels[i])] = votes.get(int(labels[i]), 0.0) + math.exp(sims[i] / 0.07)
    return min(votes, key=lambda c: (-votes[c], c))


def random_features(n, m, width=6, classes=4, seed=0):
    draws = np.random.default_rng(seed)
    bank, queries = draws.normal(size=(n, width)), draws.normal(size=(m, width))
    tensors = [torch.tensor(part, dtype=torch.float32) for part in (bank, queries)]
    return Features(
        tensors[0],
        torch.tensor(draws.integers(0, classes, n)),
        tensors[1],
        torch.tensor(draws.integers(0, classes, m)),
        classes,
    )


def unit(similarity):
    """A 2-D unit vector with this cosine to (1, 0)."""
    return [similarity, math.sqrt(1 - similarity**2)]


@pytest.mark.parametrize(("pair", "winner"), [(0.54, 1), (0.56, 0)])
def test_votes_by_hand(pair, winner):
    """exp(0.6/0.07) = 5280 for class 1, against twice exp(0.54/0.07) = 2 x 2241, or twice exp(0.56/0.07) = 2 x 2981."""
    bank = torch.tensor([unit(pair), unit(pair), unit(0.6)])
    sims, indices = neighbors(bank, torch.tensor([[3.0, 0.0]]), 3)
    assert indices.tolist() == [[2, 0, 1]]
    assert sims[0].tolist() == pytest.approx([0.6, pair, pair])
    assert vote(sims, torch.tensor([0, 0, 1])[indices], 2, (3,))[3].tolist() == [winner]


@pytest.mark.parametrize("k", [1, 10, 20, 57])
def test_equals_the_loops(k):
    features = random_features(60, 25)
    sims, indices = neighbors(features.train, features.test, k)
    predicted = vote(sims, features.train_labels[indices], 4, (k,))[k]
    bank = features.train.double()
    wanted = [literal_class(bank, features.train_labels, query, k) for query in features.test.double()]
    assert predicted.tolist() == wanted


def test_smaller_k_are_prefixes_of_the_largest():
    features = random_features(300, 40)
    outcome = knn(task_of(features))[0]
    bank = features.train.double()
    for k in (10, 20, 100, 200):
        wanted = [literal_class(bank, features.train_labels, query, k) for query in features.test.double()]
        share = np.mean(np.array(wanted) == features.test_labels.numpy())
        assert outcome.details["by_k"][str(k)] == pytest.approx(100 * share)
    assert outcome.setting == "k = 20"
    assert 100 * float(outcome.values.mean()) == pytest.approx(outcome.details["by_k"]["20"])
    assert outcome.notes == ()


def test_equal_similarities_take_the_lower_index_also_at_the_cut():
    bank = torch.eye(3)[[1, 0, 0, 0, 0, 2]]
    sims, indices = neighbors(bank, torch.tensor([[1.0, 0.0, 0.0]]), 2)
    assert indices.tolist() == [[1, 2]] and sims.tolist() == [[1.0, 1.0]]
    assert neighbors(bank, torch.tensor([[1.0, 0.0, 0.0]]), 5)[1].tolist() == [[1, 2, 3, 4, 0]]


def test_equal_votes_take_the_lower_class():
    sims = torch.full((1, 4), 0.3)
    assert vote(sims, torch.tensor([[3, 1, 1, 3]]), 5, (4,))[4].tolist() == [1]


def test_more_classes_than_k():
    assert vote(torch.tensor([[0.9, 0.1]]), torch.tensor([[700, 2]]), 1000, (2,))[2].tolist() == [700]


def test_fewer_training_images_than_k_are_capped_and_said():
    features = random_features(12, 30)
    outcome = knn(task_of(features))[0]
    assert outcome.setting == "k = 12" and list(outcome.details["by_k"]) == ["10", "12"]
    assert outcome.notes == ("k-NN: k = 20, 100, 200 capped by the bank of 12 training images",)
    wanted = [literal_class(features.train.double(), features.train_labels, q, 12) for q in features.test.double()]
    assert outcome.values.tolist() == [
        float(a == b) for a, b in zip(wanted, features.test_labels.tolist(), strict=True)
    ]


def test_chunks_change_nothing(monkeypatch):
    features = random_features(200, 33)
    whole = neighbors(features.train, features.test, 20)
    outcome = knn(task_of(features))[0]
    monkeypatch.setattr(module, "_CELLS", 1400)  # 7 queries a chunk
    parts = neighbors(features.train, features.test, 20)
    assert torch.equal(whole[1], parts[1]) and torch.allclose(whole[0], parts[0], atol=1e-6)
    assert torch.equal(knn(task_of(features))[0].values, outcome.values)


def test_length_of_features_does_not_count_and_a_zero_row_is_no_nan():
    features = random_features(50, 10)
    scale = torch.rand(50, 1) + 0.1
    assert torch.equal(
        neighbors(features.train, features.test, 5)[1], neighbors(features.train * scale, features.test * 7, 5)[1]
    )
    sims, indices = neighbors(features.train, torch.zeros(1, 6), 5)
    assert sims.tolist() == [[0.0] * 5] and indices.tolist() == [[0, 1, 2, 3, 4]]


def test_online_accuracy_is_in_percent_and_takes_any_labels():
    """Two tight clusters, labels with a gap, one query of three on the wrong side; labels in numpy as in a data set."""
    bank = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    queries = torch.tensor([[1.0, 0.05], [0.05, 1.0], [0.0, 1.0]])
    found = knn_accuracy(bank, np.array([3, 3, 9, 9]), queries, np.array([3, 9, 3]), k=2)
    assert found == pytest.approx(200 / 3)
    assert knn_accuracy(bank, np.array([3, 3, 9, 9]), queries, np.array([3, 9, 9])) == 100.0  # k = 20, capped by 4


def test_half_precision_features_are_compared_in_float32():
    features = random_features(40, 8)
    halves: list[Tensor] = [part.bfloat16() for part in (features.train, features.test)]
    assert torch.equal(neighbors(*halves, 5)[0], neighbors(halves[0].float(), halves[1].float(), 5)[0])


def blocks(monkeypatch, rows: int) -> None:
    monkeypatch.setattr(module, "_BLOCK", rows)


def stable_sort(bank, queries, k):
    """All similarities in one product, all of them sorted."""
    scores = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T
    return tuple(part[:, :k] for part in scores.sort(dim=1, descending=True, stable=True))


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
@pytest.mark.parametrize("k", [1, 20, 300])
def test_blocks_of_the_bank_change_nothing(monkeypatch, rows, k):
    features = random_features(300, 23)
    blocks(monkeypatch, rows)
    sims, indices = neighbors(features.train, features.test, k)
    wanted = stable_sort(features.train, features.test, k)
    assert torch.allclose(sims, wanted[0], atol=1e-6)
    assert (indices == wanted[1]).all()


@pytest.mark.parametrize("order", ["random", "nearer and nearer", "farther and farther", "by class"])
@pytest.mark.parametrize("rows", [16, 100])
def test_ties_across_blocks_take_the_lower_index_in_any_order_of_the_bank(monkeypatch, order, rows):
    """Coordinates of -1, 0 and 1 give few different similarities, exact ones: every row is full of ties."""
    draws = np.random.default_rng(0)
    bank = torch.tensor(draws.integers(-1, 2, (400, 3)), dtype=torch.float32)
    queries = torch.eye(3)[[0, 1, 2, 0]]
    nearness = F.normalize(bank, dim=1)[:, 0]
    if order != "random":
        sign = {"nearer and nearer": 1, "farther and farther": -1, "by class": 0}[order]
        bank = bank[(sign * nearness if sign else bank @ torch.tensor([1.0, 3.0, 9.0])).argsort()]
    blocks(monkeypatch, rows)
    for k in (1, 30, 150):
        sims, indices = neighbors(bank, queries, k)
        wanted = stable_sort(bank, queries, k)
        assert torch.equal(sims, wanted[0]) and torch.equal(indices, wanted[1])


def test_more_neighbors_than_a_block_has_rows(monkeypatch):
    features = random_features(50, 9)
    whole = neighbors(features.train, features.test, 40)
    blocks(monkeypatch, 8)
    parts = neighbors(features.train, features.test, 40)
    assert torch.equal(whole[1], parts[1]) and torch.allclose(whole[0], parts[0], atol=1e-6)


@pytest.mark.parametrize("k", [0, 13])
def test_a_k_that_the_bank_has_not_is_an_error(k):
    with pytest.raises(ValueError, match=rf"k = {k}: must be in 1..12, the number of bank rows"):
        neighbors(torch.eye(12), torch.eye(12), k)


def test_neighbors_are_those_of_scikit_learn():
    features = random_features(500, 60, width=16, seed=3)
    sims, indices = neighbors(features.train, features.test, 20)
    found = NearestNeighbors(n_neighbors=20, metric="cosine", algorithm="brute").fit(features.train.double().numpy())
    distances, places = found.kneighbors(features.test.double().numpy())
    assert np.array_equal(indices.numpy(), places)
    assert np.allclose(1 - sims.numpy(), distances, atol=1e-6)


def test_classes_are_those_of_scikit_learn_with_the_same_weights():
    features = random_features(500, 60, width=16, seed=4)
    weights = {"weights": lambda distances: np.exp((1 - distances) / 0.07), "metric": "cosine", "algorithm": "brute"}
    theirs = KNeighborsClassifier(n_neighbors=20, **weights)
    theirs.fit(features.train.double().numpy(), features.train_labels.numpy())
    sims, indices = neighbors(features.train, features.test, 20)
    ours = vote(sims, features.train_labels[indices], 4, (20,))[20]
    assert ours.tolist() == theirs.predict(features.test.double().numpy()).tolist()


def test_votes_are_the_sum_over_one_hot_labels():
    """The form in which lightly and others write it: scores = sum_j one_hot(y_j) exp(s_j / t), over [M, k, C]."""
    features = random_features(200, 40, seed=5)
    sims, indices = neighbors(features.train, features.test, 50)
    labels = features.train_labels[indices]
    scores = (F.one_hot(labels, 4) * (sims.double() / 0.07).exp()[..., None]).sum(dim=1)
    assert vote(sims, labels, 4, (50,))[50].tolist() == scores.argmax(dim=1).tolist()
