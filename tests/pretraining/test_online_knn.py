"""The online k-NN score: images drawn by class, exact times, and test images that are training images refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from syn2co.core.errors import DataError
from syn2co.pretraining.online_knn import OnlineKnn, _by_class


def write(folder: Path, classes: int, each: int, seed: int) -> Path:
    for label in range(classes):
        (folder / f"c{label:03d}").mkdir(parents=True)
        for number in range(each):
            coarse = np.random.default_rng((seed, label, number)).integers(0, 256, (6, 6, 3), np.uint8)
            path = folder / f"c{label:03d}" / f"{number}.png"
            assert cv2.imwrite(str(path), cv2.resize(coarse, (32, 32), interpolation=cv2.INTER_CUBIC))
    return folder


def settings(train: Path, test: Path, *more: str) -> tuple[str, ...]:
    return ("online_knn.every_epochs=1", f'online_knn.train=["{train}"]', f'online_knn.test=["{test}"]', *more)


def test_every_class_is_in_the_bank_and_among_the_queries(tiny, tmp_path: Path) -> None:
    """A random subset of as many would lack 4 of 40 classes (each is missing with e^-2)."""
    train, test = (write(tmp_path / side, 40, 4, seed) for seed, side in enumerate(("train", "test")))
    knn = OnlineKnn(tiny(*settings(train, test, "online_knn.max_images=80")))
    for labels in (knn.bank_labels, knn.query_labels):
        assert labels.bincount(minlength=40).tolist() == [2] * 40
    with pytest.raises(DataError, match="online_knn.max_images = 39: must be at least the 40 classes; raise it"):
        OnlineKnn(tiny(*settings(train, test, "online_knn.max_images=39")))


def test_rows_are_drawn_evenly_and_small_classes_are_whole() -> None:
    labels = np.array([0] * 50 + [1] * 2 + [2] * 20)
    rows = _by_class(labels, 12, seed=3)
    assert np.bincount(labels[rows]).tolist() == [5, 2, 5] and np.all(np.diff(rows) > 0)
    assert _by_class(labels, 100, seed=3).tolist() == list(range(72))
    assert _by_class(labels, 12, seed=4).tolist() != rows.tolist()


@pytest.mark.parametrize(
    "every, per_epoch, epochs", [(0.1, 10, 9), (0.1, 30, 7), (0.3, 10, 9), (1.0, 7, 5), (0.7, 3, 7)]
)
def test_no_score_is_skipped(every: float, per_epoch: int, epochs: int, tiny, tmp_path: Path) -> None:
    """0.3 // 0.1 is 2 in floats: a score would be skipped, and the next one be a step late."""
    sides = (write(tmp_path / side, 2, 2, seed) for seed, side in enumerate(("train", "test")))
    knn = OnlineKnn(tiny(*settings(*sides, f"online_knn.every_epochs={every}")))
    total = epochs * per_epoch
    due = [step for step in range(1, total + 1) if knn.due(step, per_epoch, total)]
    tenths = round(10 * every) * per_epoch  # between two scores, in tenths of a step
    assert due == sorted({-(-number * tenths // 10) for number in range(1, 10 * total // tenths + 1)} | {total})


def test_queries_that_are_images_of_the_bank_are_refused_above_a_share(tiny, tmp_path: Path, capsys) -> None:
    train, test = (write(tmp_path / side, 2, 60, seed) for seed, side in enumerate(("train", "test")))
    for number in range(2):
        image = cv2.imread(str(train / "c000" / f"{number}.png"))
        assert cv2.imwrite(str(test / "c000" / f"{number}.jpg"), image)
        if number == 0:
            OnlineKnn(tiny(*settings(train, test)))
            assert "online_knn: 1 of 121 test images look like training images stored again" in capsys.readouterr().err
    with pytest.raises(DataError, match="online_knn: train and test: 2 of 122 test images look like training images"):
        OnlineKnn(tiny(*settings(train, test)))
