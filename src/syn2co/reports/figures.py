"""Pictures of a run, as matplotlib figures: views, nearest neighbors, the loss, scores. No pyplot, no global state.

Colors are Okabe and Ito's (https://jfly.uni-koeln.de/color), told apart by color-blind readers too, and right or
wrong is never said by color alone.
Letters: H height, W width, T records in time.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from syn2co.core.files import write_atomically

Image = UInt8[np.ndarray, "H W 3"]

BLUE, GREEN, VERMILION, GRAY, INK = "#0072B2", "#009E73", "#D55E00", "#999999", "#222222"
RIGHT, WRONG = GREEN, VERMILION
_DPI = 120
_CELL = 1.0  # inches a thumbnail


class ScoreRow(Protocol):
    """Fields of a score that `bars` reads; numbers are percent."""

    @property
    def encoder(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def view_grid(rows: Sequence[tuple[Image, Image, Image]], title: str = "Two random views of each image") -> Figure:
    """Return a figure with one column for each (image, view 1, view 2), captioned at the left."""
    assert rows, "no images to show"
    captions = ("image", "view 1", "view 2")
    figure = blank_figure(0.8 + _CELL * len(rows), 0.5 + _CELL * len(captions))
    grid = figure.subplots(len(captions), len(rows), squeeze=False)
    for column, images in enumerate(rows):
        for row, image in enumerate(images):
            _show(grid[row, column], image)
    for axes, caption in zip(grid[:, 0], captions, strict=True):
        axes.set_ylabel(caption, rotation=0, ha="right", va="center", labelpad=8, color=INK)
    _place(figure, left=0.75, title=title)
    return figure


def image_rows(rows: Mapping[str, Sequence[Image]]) -> Figure:
    """Return a figure with one row of thumbnails for each name, captioned at the left."""
    assert rows and all(rows.values()), "no images to show"
    columns = max(map(len, rows.values()))
    figure = blank_figure(1.5 + _CELL * columns, 0.2 + _CELL * len(rows))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images) in zip(grid, rows.items(), strict=True):
        for axes in line[len(images) :]:
            axes.set_axis_off()
        for axes, image in zip(line, images, strict=False):
            _show(axes, image)
        line[0].set_ylabel(short_name(name, 16), rotation=0, ha="right", va="center", labelpad=8, color=INK)
    width, height = figure.get_size_inches()
    figure.subplots_adjust(1.45 / width, 0.08 / height, 1 - 0.05 / width, 1 - 0.08 / height, 0.06, 0.06)
    return figure


def nearest_neighbors(
    queries: Sequence[Image],
    neighbors: Sequence[Sequence[Image]],
    query_labels: Sequence[Any] | np.ndarray,
    neighbor_labels: Sequence[Sequence[Any]] | np.ndarray,
    caption: str = "",
) -> Figure:
    """Return a figure with one row for each query: the query, then its neighbors, nearest first.

    A neighbor of the query's label has a solid green border; another has a dashed vermilion one and its label below.
    """
    assert queries and neighbors and neighbors[0], "no images to show"
    columns, cell = len(neighbors[0]), _CELL + 0.14
    figure = blank_figure(1.5 + cell * (columns + 1), (0.9 if caption else 0.65) + cell * len(queries))
    grid = figure.subplots(len(queries), columns + 1, squeeze=False)
    right = 0
    for row, (query, label) in enumerate(zip(queries, query_labels, strict=True)):
        _show(grid[row, 0], query)
        grid[row, 0].set_ylabel(short_name(label, 16), rotation=0, ha="right", va="center", labelpad=8, color=INK)
        for axes, image, neighbor_label in zip(grid[row, 1:], neighbors[row], neighbor_labels[row], strict=True):
            _show(axes, image)
            _border(axes, bool(neighbor_label == label))
            right += bool(neighbor_label == label)
            if neighbor_label != label:
                axes.set_xlabel(short_name(neighbor_label, 18), fontsize=7, color=WRONG, labelpad=3)
    for number, axes in enumerate(grid[0]):
        axes.set_title("query" if number == 0 else f"nearest {number}", fontsize=8, color=INK, pad=5)
    title = f"Nearest neighbors: {right} of {columns * len(queries)} have the label of their query (solid green)"
    _place(figure, left=1.4, title=f"{title}\n{caption}" if caption else title, gap=0.24)
    return figure


def loss_curve(records: Iterable[Mapping[str, Any]], title: str = "Loss while training") -> Figure:
    """Return a figure of the loss over epochs, in nats, with the level at which the encoder would know nothing.

    Each record has "step" and "epoch" and either "loss", "real_loss" and "uninformative" or "knn" (percent), which gets
    a panel of its own; a supervised run has no "real_loss". Values are drawn pale, their running mean over 3 % of the
    run strong.
    """
    records = list(records)
    steps = [record for record in records if "loss" in record]
    scores = [record for record in records if record.get("knn") is not None]
    figure = blank_figure(7.5, 6.2 if scores else 4.3)
    panels = figure.subplots(
        2 if scores else 1, 1, sharex=True, squeeze=False, height_ratios=(2, 1) if scores else None
    )
    upper, lower = panels[0, 0], panels[-1, 0]
    _losses(upper, steps)
    upper.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=30)
    if scores:
        lower.plot(_column(scores, "epoch"), _column(scores, "knn"), "o-", color=GREEN, markersize=4)
        lower.set_ylabel("k-NN top-1 (%)")
    for axes in {upper, lower}:
        clean_axes(axes)
    lower.set_xlabel("epoch")
    figure.align_ylabels()
    figure.tight_layout()
    return figure


def bars(scores: Sequence[ScoreRow], title: str = "Top-1 on the test images, with 95 % intervals") -> Figure:
    """Return a figure with a panel for each protocol and a bar for each encoder, the first encoder's in blue."""
    assert scores, "no scores to show"
    protocols = list(dict.fromkeys(score.protocol for score in scores))
    groups = [[score for score in scores if score.protocol == protocol] for protocol in protocols]
    figure = blank_figure(7.5, 1.0 + sum(0.45 + 0.34 * len(group) for group in groups))
    heights = [len(group) + 0.6 for group in groups]
    panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, protocol, group in zip(panels, protocols, groups, strict=True):
        _bar_panel(axes, protocol, group, scores[0].encoder)
    panels[-1].set_xlabel("%")
    figure.suptitle(title, x=0.02, ha="left", fontsize=11, fontweight="bold", color=INK)
    figure.tight_layout()
    return figure


def save(figure: Figure, path: str | Path) -> Path:
    """Write `figure` as PNG, whole or not at all (temporary file in the same folder, then rename); return its path.

    Raises:
        FileError: if it cannot be written.
    """
    write_atomically(Path(path), png(figure))
    return Path(path)


def png(figure: Figure) -> bytes:
    """Return `figure` as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def blank_figure(width: float, height: float) -> Figure:
    """Return an empty figure of `width` x `height` inches."""
    return Figure(figsize=(width, height), dpi=_DPI)


def _show(axes: Axes, image: Image) -> None:
    """Draw `image` without ticks or frame, smooth where it is enlarged."""
    axes.imshow(image, interpolation="lanczos" if max(image.shape[:2]) < _DPI * _CELL else "antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _border(axes: Axes, right: bool) -> None:
    """Frame a thumbnail: solid green where it is right, dashed vermilion where it is wrong."""
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(RIGHT if right else WRONG)
    axes.spines[:].set_linewidth(3)
    if not right:
        axes.spines[:].set_linestyle((0, (2.5, 1.2)))
        axes.spines[:].set_capstyle("butt")  # the usual square ends would close the gaps


def _place(figure: Figure, *, left: float, title: str, gap: float = 0.06) -> None:
    """Set margins in inches, so that they do not grow with the number of images, and write the title at the left."""
    width, height = figure.get_size_inches()
    top = 0.32 + 0.2 * title.count("\n") + (0.24 if gap > 0.1 else 0)
    figure.subplots_adjust(left / width, 0.12 / height, 1 - 0.1 / width, 1 - top / height, gap / 2, gap)
    if gap > 0.1:
        figure.subplots_adjust(bottom=0.24 / height)
    head, *rest = title.split("\n")
    figure.text(0.1 / width, 1 - 0.2 / height, head, fontsize=10, fontweight="bold", color=INK, va="center")
    for number, line in enumerate(rest, 1):
        figure.text(0.1 / width, 1 - (0.2 + 0.2 * number) / height, line, fontsize=8, color=INK, va="center")


def clean_axes(axes: Axes) -> None:
    """Leave a chart its left and bottom lines and a pale horizontal grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.01, y=0.08)


def _losses(axes: Axes, steps: Sequence[Mapping[str, Any]]) -> None:
    """Draw both losses, or that of a supervised run, and, labeled, the level that says nothing."""
    epochs, supervised = _column(steps, "epoch"), any("top1" in record for record in steps)
    if supervised:
        _line(axes, epochs, _column(steps, "loss"), BLUE, "cross-entropy with labels, mean of both views")
    else:
        _line(axes, epochs, _column(steps, "loss"), GRAY, "with synthetic negatives")
        _line(axes, epochs, _column(steps, "real_loss"), BLUE, "real negatives only")
    axes.plot(epochs, _column(steps, "uninformative"), "--", color=VERMILION, linewidth=1.5)
    axes.set_ylabel("loss (nats)" if supervised else "loss, both directions (nats)")
    if steps:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1), ncols=2, frameon=False, fontsize=9, borderaxespad=0.2)
        anchor = {"xy": (epochs[-1], steps[-1].get("uninformative", np.nan)), "xytext": (0, 4)}
        behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}
        text = "uninformative: all logits equal" + ("" if supervised else ", real negatives only")
        axes.annotate(text, **anchor, textcoords="offset points", ha="right", fontsize=9, color=VERMILION, bbox=behind)
    else:
        axes.text(0.5, 0.5, "no step has been recorded yet", ha="center", transform=axes.transAxes, color=INK)


def _line(axes: Axes, x: Float[np.ndarray, " T"], y: Float[np.ndarray, " T"], color: str, label: str) -> None:
    """Draw the values pale and their running mean strong."""
    window = max(1, round(0.03 * len(y)))
    axes.plot(x, y, color=color, alpha=0.3, linewidth=0.8)
    if len(y):
        sums = np.convolve(y, np.ones(window), "same") / np.convolve(np.ones(len(y)), np.ones(window), "same")
        axes.plot(x, sums, "." if len(y) == 1 else "-", color=color, linewidth=1.8, label=label)


def _column(records: Sequence[Mapping[str, Any]], name: str) -> Float[np.ndarray, " T"]:
    """Return one value of each record as an array; nan where it has none."""
    return np.array([record.get(name, np.nan) for record in records], dtype=np.float64)


def _bar_panel(axes: Axes, protocol: str, group: Sequence[ScoreRow], first: str) -> None:
    """Draw the bars of one protocol from top to bottom, each with its interval and its number."""
    places = np.arange(len(group))
    values = np.array([score.value for score in group])
    low, high = np.array([score.low for score in group]), np.array([score.high for score in group])
    colors = [BLUE if score.encoder == first else GRAY for score in group]
    errors = np.maximum(0.0, np.stack([values - low, high - values]))
    axes.barh(places, values, 0.7, color=colors, xerr=errors, error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 3})
    for position, value, end in zip(places, values, high, strict=True):
        axes.text(end + 1.2, float(position), f"{value:.1f}", va="center", fontsize=9, color=INK)
    axes.set_yticks(places, [short_name(score.encoder, 30) for score in group])
    axes.invert_yaxis()
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.set_title(f"{protocol}: {group[0].metric}", loc="left", fontsize=9, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def short_name(label: object, most: int) -> str:
    """Return `label` cut to `most` characters, the end kept because names of files and runs differ there."""
    text = str(label)
    return text if len(text) <= most else "…" + text[1 - most :]
