"""Pictures of an evaluation: scores, confusion, neighbors, a map of the features, robustness, reliability.

Axes: M test images, D features.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from syn2co.core.keyed_rng import key64, permutation
from syn2co.evaluation.protocols.knn import neighbors
from syn2co.evaluation.protocols.protocol import Task
from syn2co.evaluation.results import EvaluationReport
from syn2co.evaluation.scores import Score
from syn2co.reports.evaluation_figures import confusion_matrix, feature_map, reliability, robustness_bars, score_dots
from syn2co.reports.figures import bars, nearest_neighbors, save

QUERIES, NEIGHBORS = 8, 6
MOST_PANELS = 4
"""Protocols with a panel of bars each; of more, all are in one panel."""
MAPPED = 1_000
"""Test images of the map of features, drawn by the seed."""


def draw_evaluation(report: EvaluationReport, tasks: Mapping[str, Task], out: Path) -> list[Path]:
    """Draw what the report holds into `out`, and return the pictures' paths.

    Args:
        report: scores; pictures of one encoder are those of the first.
        tasks: task of the first encoder per data set.
        out: folder, made before.

    Returns:
        The paths; a picture whose protocol was not asked for is not drawn.

    Raises:
        FileError: if a picture cannot be written.

    Example:
        >>> from syn2co.evaluation.results import EvaluationReport
        >>> draw_evaluation(EvaluationReport((), (), {}), {}, Path("."))
        []
    """
    return [save(figure, out / f"{name}.png") for name, figure in _pictures(report, tasks)]


def _pictures(report: EvaluationReport, tasks: Mapping[str, Task]) -> Iterator[tuple[str, Figure]]:
    for number, data in enumerate(dict.fromkeys(row.data for row in report.rows)):
        suffix = f"-{data}" if number else ""
        rows = [row for row in report.rows if row.data == data]
        accuracies = [row for row in rows if row.percent and row.higher_is_better]
        if accuracies:
            few = len({row.protocol for row in accuracies}) <= MOST_PANELS
            title = "Scores on the test images, with 95 % intervals"
            yield f"scores{suffix}", bars(accuracies, title) if few else score_dots(accuracies)
        yield from ((f"{name}{suffix}", figure) for name, figure in _of_rows(rows, report.classes.get(data, ())))
        task = tasks.get(data)
        if task is not None and "features" in vars(task):  # extracted, and still in memory
            yield from ((f"{name}{suffix}", figure) for name, figure in _of_features(task))


def _of_rows(rows: Sequence[Score], classes: Sequence[str]) -> Iterator[tuple[str, Figure]]:
    first = [row for row in rows if row.encoder == rows[0].encoder]
    named = {row.protocol: row for row in first}
    for protocol in ("linear", "knn"):
        row = named.get(protocol)
        if row is not None and row.predicted is not None and row.labels is not None:
            yield "confusion", confusion_matrix(row.labels, row.predicted, classes, f"{row.encoder}, {protocol}")
            break
    robust = {row.encoder: row for row in rows if row.protocol == "robustness"}
    if robust:
        yield "robustness", robustness_bars({name: row.details for name, row in robust.items()})
    calibrated = named.get("calibration ECE")
    if calibrated is not None:
        yield "reliability", reliability(calibrated.details)


def _of_features(task: Task) -> Iterator[tuple[str, Figure]]:
    features, classes = task.features, task.splits.classes
    train, test = task.splits.train, task.splits.test
    chosen = np.sort(permutation(len(test), "evaluation pictures", task.seed)[:QUERIES])
    _, rows = neighbors(features.train, features.test[chosen], min(NEIGHBORS, len(train)))
    yield (
        "neighbors",
        nearest_neighbors(
            [test.read(int(i)) for i in chosen],
            [[train.read(int(j)) for j in row] for row in rows],
            np.array([classes[label] for label in features.test_labels[chosen]]),
            np.array([[classes[label] for label in features.train_labels[row]] for row in rows]),
        ),
    )
    some = np.sort(permutation(len(test), "feature map", task.seed)[:MAPPED])
    places = _map(features.test[some].numpy(), task.seed)
    if places is not None:
        yield "features", feature_map(places, features.test_labels[some].numpy(), classes, task.name)


def _map(features: Float[np.ndarray, "M D"], seed: int) -> Float[np.ndarray, "M 2"] | None:
    """Return t-SNE of unit-length features, a function of them and the seed; None of too few images to map.

    Source: van der Maaten and Hinton, JMLR 2008, as scikit-learn has it.
    """
    if len(features) < 10:
        return None
    from sklearn.manifold import TSNE

    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    start = "pca" if min(unit.shape) >= 2 and unit.std() > 0 else "random"
    perplexity = min(30.0, (len(unit) - 1) / 3)
    return TSNE(init=start, perplexity=perplexity, random_state=key64("feature map", seed) % 2**32).fit_transform(unit)
