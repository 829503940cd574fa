"""Figures of an evaluation: confusion matrix, map of the features, robustness, reliability. No pyplot, no global state.

Axes: M test images, C classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from syn2co.reports.figures import BLUE, GRAY, INK, VERMILION, ScoreRow, blank_figure, clean_axes, short_name

SHOWN_CLASSES = 20
"""Most classes that a matrix or a map names; of more, those that are confused most."""
_MARKERS = "os^vD<>phX"
_HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8000", "#222222", "#7F4FC9", "#999999")


def confusion_matrix(
    labels: Int64[np.ndarray, " M"], predicted: Int64[np.ndarray, " M"], classes: Sequence[str], title: str
) -> Figure:
    """Return a figure of how many percent of each class's test images are named as which class.

    Of more than 20 classes it shows the 20 with the most errors; what is named as another class then is in no column.
    """
    count = len(classes)
    table = np.zeros((count, count))
    np.add.at(table, (labels, predicted), 1)
    totals = table.sum(axis=1, keepdims=True)
    wrong = totals[:, 0] - np.diag(table)
    shown = np.arange(count) if count <= SHOWN_CLASSES else np.sort(np.argsort(-wrong, kind="stable")[:SHOWN_CLASSES])
    share = (100 * table / np.maximum(totals, 1))[np.ix_(shown, shown)]
    side = 1.9 + 0.36 * len(shown)
    figure = blank_figure(side + 0.4, side)
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(share):
        if value >= 0.5:
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7,
                      color="white" if value > 55 else INK)  # fmt: skip
    names = [short_name(classes[number], 14) for number in shown.tolist()]
    axes.set_xticks(range(len(shown)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.set_xlabel("named as")
    axes.set_ylabel("is")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    some = f", the {len(shown)} of {count} classes with most errors" if len(shown) < count else ""
    axes.set_title(f"{title}: percent of each class{some}", loc="left", fontsize=9, color=INK)
    figure.tight_layout()
    return figure


def feature_map(
    places: Float[np.ndarray, "M 2"], labels: Int64[np.ndarray, " M"], classes: Sequence[str], name: str
) -> Figure:
    """Return a figure of test images as points, one color and marker per class, where the features put them.

    Classes past the tenth share a color with another, and a marker with none of that color up to the hundredth.
    """
    figure = blank_figure(7.5, 6.0)
    axes = figure.subplots()
    for label in np.unique(labels):
        points = places[labels == label]
        color, marker = _HUES[label % len(_HUES)], _MARKERS[(label // len(_HUES) + label) % len(_MARKERS)]
        axes.scatter(*points.T, s=14, color=color, marker=marker, alpha=0.7, linewidths=0, label=str(classes[label]))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(GRAY)
    axes.set_title(
        f"{short_name(name, 30)}: {len(places)} test images by their features (t-SNE: only neighborhoods count)",
        loc="left", fontsize=9, color=INK,
    )  # fmt: skip
    if len(classes) <= SHOWN_CLASSES:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8, markerscale=1.5)
    figure.tight_layout()
    return figure


def score_dots(scores: Sequence[ScoreRow]) -> Figure:
    """Return a figure with a line per protocol and a marker with its interval per encoder, the first one's in blue."""
    protocols = list(dict.fromkeys(score.protocol for score in scores))
    encoders = list(dict.fromkeys(score.encoder for score in scores))
    figure = blank_figure(8.5, 1.1 + len(protocols) * (0.16 + 0.11 * len(encoders)))
    axes = figure.subplots()
    for number, encoder in enumerate(encoders):
        rows = [score for score in scores if score.encoder == encoder]
        offset = 0.7 * ((number + 0.5) / len(encoders) - 0.5)
        lines = [protocols.index(score.protocol) + offset for score in rows]
        values = np.array([score.value for score in rows])
        ends = np.array([[score.value - score.low, score.high - score.value] for score in rows]).T
        color = BLUE if number == 0 else _HUES[number % len(_HUES)] if number % len(_HUES) else INK
        axes.errorbar(values, lines, xerr=np.maximum(ends, 0), fmt=_MARKERS[number % len(_MARKERS)], color=color,
                      markersize=5, elinewidth=1.2, capsize=2, label=short_name(encoder, 24))  # fmt: skip
    metrics = {score.protocol: score.metric for score in scores}
    axes.set_yticks(range(len(protocols)), [f"{name}: {metrics[name]}" for name in protocols], fontsize=8)
    axes.set_ylim(len(protocols) - 0.5, -0.5)
    axes.set_xlim(-1, 101)
    axes.set_xlabel("%, with 95 % intervals")
    axes.grid(color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def robustness_bars(details: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Return a figure with a panel per encoder: a group of bars per corruption, one bar per severity, clean as a line.

    Args:
        details: of the protocol "robustness" by encoder: "clean" in percent and "accuracy", corruption -> percent per
            severity.
    """
    figure = blank_figure(10.0, 0.8 + 2.1 * len(details))
    panels = figure.subplots(len(details), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, measured) in zip(panels, details.items(), strict=True):
        table = np.array(list(measured["accuracy"].values()))
        _severities(axes, table)
        axes.axhline(measured["clean"], color=VERMILION, linewidth=1.2, linestyle="--")
        axes.set_title(
            f"{short_name(name, 40)}: {table.mean():.1f} % on average, {measured['clean']:.1f} % on clean (dashed)",
            loc="left", fontsize=9, color=INK,
        )  # fmt: skip
        axes.set_ylabel("accuracy (%)")
        clean_axes(axes)
    names = [name.replace("_", " ") for name in next(iter(details.values()))["accuracy"]]
    panels[-1].set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    figure.tight_layout()
    return figure


def _severities(axes: Axes, table: Float[np.ndarray, "K L"]) -> None:
    """Draw one bar per corruption (K) and severity (L), darker where it is more severe."""
    count = table.shape[1]
    for level, column in enumerate(table.T):
        offset = (level - (count - 1) / 2) * 0.8 / count
        alpha = 0.35 + 0.65 * (level + 1) / count
        axes.bar(np.arange(len(table)) + offset, column, 0.8 / count, color=BLUE, alpha=alpha)


def reliability(details: Mapping[str, Any]) -> Figure:
    """Return a figure of accuracy against confidence, before and after temperature scaling; gray: how many images.

    Args:
        details: of the protocol "calibration": "bins" and "bins_scaled", each a list of {"count", "confidence",
            "accuracy"} in shares, and "temperature".
    """
    figure = blank_figure(8.0, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    titles = ("as fitted", f"after temperature {details['temperature']:.2f}")
    for axes, key, title in zip(panels, ("bins", "bins_scaled"), titles, strict=True):
        bins = [part for part in details[key] if part["count"]]
        total = sum(part["count"] for part in bins)
        confidence = [100 * part["confidence"] for part in bins]
        axes.bar(confidence, [100 * part["count"] / total for part in bins], 5, color=GRAY, alpha=0.4,
                 label="share of the images")  # fmt: skip
        axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=":", label="calibrated")
        axes.plot(
            confidence, [100 * part["accuracy"] for part in bins], "o-", color=BLUE, markersize=4, label="accuracy"
        )
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.set_xlabel("confidence (%)")
        axes.set_title(title, loc="left", fontsize=9, color=INK)
        clean_axes(axes)
    panels[0].set_ylabel("accuracy (%)")
    panels[0].legend(loc="upper left", frameon=False, fontsize=8)
    figure.tight_layout()
    return figure
