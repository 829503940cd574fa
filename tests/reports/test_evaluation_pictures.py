"""Pictures of an evaluation: which are drawn of what, and that they show the numbers they were given."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from evaluation_folders import TINY, paint
from matplotlib.figure import Figure

from syn2co.evaluation.settings import EvaluationSettings
from syn2co.models.encoder import build_encoder
from syn2co.reports.evaluation import evaluate
from syn2co.reports.evaluation_figures import (
    confusion_matrix,
    feature_map,
    reliability,
    robustness_bars,
    score_dots,
)  # fmt: skip


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    return [
        text.get_text()
        for axes in figure.axes
        for text in (*axes.texts, axes.title, axes._left_title, *axes.get_xticklabels(), *axes.get_yticklabels())  # type: ignore[attr-defined]
    ]


def test_confusion_in_percent_of_each_class() -> None:
    """3 of 4 cats are named cat, 1 dog; the one dog is named cat."""
    figure = confusion_matrix(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 0]), ("cat", "dog"), "ours")
    numbers = {(text.get_position(), text.get_text()) for text in figure.axes[0].texts}
    assert numbers == {((0, 0), "75"), ((1, 0), "25"), ((0, 1), "100")}
    assert "ours: percent of each class" in texts(figure)


def test_of_many_classes_those_with_most_errors_are_shown() -> None:
    labels = np.repeat(np.arange(30), 4)
    predicted = labels.copy()
    predicted[labels == 7] = 8
    figure = confusion_matrix(labels, predicted, [f"class {n}" for n in range(30)], "ours")
    assert "class 7" in texts(figure) and "class 29" not in texts(figure)
    assert any("the 20 of 30 classes with most errors" in text for text in texts(figure))


def test_robustness_has_a_bar_per_cell() -> None:
    details = {"clean": 80.0, "accuracy": {"fog": [70.0, 60.0], "snow": [50.0, 40.0]}}
    figure = robustness_bars({"ours": details, "raw pixels": details})
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert sorted(heights) == [40, 50, 60, 70] and len(figure.axes) == 2
    assert "ours: 55.0 % on average, 80.0 % on clean (dashed)" in texts(figure)


def test_reliability_shows_the_bins_that_have_images() -> None:
    bins = [{"count": 0, "confidence": 0.0, "accuracy": 0.0}, {"count": 4, "confidence": 0.9, "accuracy": 0.5}]
    figure = reliability({"temperature": 2.0, "bins": bins, "bins_scaled": bins})
    (_, accuracy) = figure.axes[0].lines
    assert accuracy.get_xydata().tolist() == [[90.0, 50.0]]
    assert "after temperature 2.00" in texts(figure)


class Dot(NamedTuple):
    encoder: str
    protocol: str
    value: float
    low: float
    high: float
    metric: str = "top-1"


def test_many_protocols_are_lines_with_a_marker_per_encoder() -> None:
    rows = [Dot(name, f"p{n}", 50.0 + n, 40.0, 60.0) for name in ("ours", "theirs") for n in range(6)]
    figure = score_dots(rows[:-1])
    lines = [container.lines[0].get_xydata() for container in figure.axes[0].containers]
    assert [len(points) for points in lines] == [6, 5] and lines[0][:, 0].tolist() == [50, 51, 52, 53, 54, 55]
    assert "p3: top-1" in texts(figure)


def test_a_map_has_a_point_per_image() -> None:
    figure = feature_map(np.random.default_rng(0).normal(size=(9, 2)), np.arange(9) % 3, "abc", "ours")
    assert sum(len(part.get_offsets()) for part in figure.axes[0].collections) == 9


def test_an_evaluation_draws_what_it_was_asked_for(tmp_path: Path) -> None:
    train = paint(tmp_path / "a", {"blue": 8, "red": 8})
    test = paint(tmp_path / "b", {"blue": 6, "red": 6}, seed=1)
    encoder, settings = build_encoder(TINY, seed=1), EvaluationSettings(device="cpu")
    evaluate(encoder, train, test, protocols=["knn"], settings=settings, out=tmp_path / "out")
    drawn = {path.stem for path in (tmp_path / "out").glob("*.png")}
    assert drawn == {"scores", "confusion", "neighbors", "features"}
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.png")}
    evaluate(encoder, train, test, protocols=["knn"], settings=settings, out=tmp_path / "out")
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.png")}


@pytest.mark.parametrize("count", [2, 3])
def test_few_images_are_drawn_too(tmp_path: Path, count: int) -> None:
    train = paint(tmp_path / "a", {"blue": count, "red": count})
    test = paint(tmp_path / "b", {"blue": 1, "red": 1}, seed=1)
    settings = EvaluationSettings(device="cpu", baselines=False)
    evaluate(build_encoder(TINY, seed=1), train, test, protocols=["knn"], settings=settings, out=tmp_path / "out")
    assert (tmp_path / "out" / "neighbors.png").exists() and not (tmp_path / "out" / "features.png").exists()
