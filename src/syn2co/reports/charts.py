"""The two charts of the page.

Axis letters: N synthetic images, M real images, D features.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64
from matplotlib.figure import Figure

from syn2co.reports.figures import BLUE, INK, VERMILION


def class_bars(counts: Mapping[str, int]) -> Figure:
    """Return a horizontal bar for each class, in the order of the classes."""
    figure = Figure(figsize=(6.4, 0.9 + 0.26 * len(counts)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(counts))
    axes.barh(places, list(counts.values()), 0.7, color=BLUE)
    axes.set_yticks(places, [name if len(name) <= 24 else f"{name[:23]}…" for name in counts])
    for position, count in zip(places, counts.values(), strict=True):
        axes.annotate(
            str(count), (count, position), (4, 0), textcoords="offset points", va="center", fontsize=9, color=INK
        )
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("images")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def scatter(synthetic: Float64[np.ndarray, "N D"], real: Float64[np.ndarray, "M D"]) -> Figure:
    """Return both sets along the first two principal components of all: real as circles, synthetic as crosses."""
    from sklearn.decomposition import PCA

    together = np.concatenate([synthetic, real])
    with np.errstate(invalid="ignore"):  # equal images have no variance to take a share of
        points = PCA(min(2, together.shape[1]), svd_solver="covariance_eigh").fit_transform(together)
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    style = {"s": 14, "alpha": 0.55}
    axes.scatter(*points[len(synthetic) :].T, marker="o", facecolors="none", edgecolors=BLUE, label="real", **style)
    axes.scatter(*points[: len(synthetic)].T, marker="x", color=VERMILION, label="synthetic", **style)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    room = 0.08 * np.maximum(high - low, 1e-9)
    axes.set_xlim(low[0] - room[0], high[0] + room[0])
    axes.set_ylim(low[1] - room[1], high[1] + room[1])
    axes.set_xlabel("component 1")
    axes.set_ylabel("component 2")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
