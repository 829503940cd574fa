"""Figures of training: the loss with its uninformative line and window, and the negatives by kind."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from markupsafe import Markup

from syn2co.objective.counts import KINDS
from syn2co.reports.line_chart import LineChart, Point, Series
from syn2co.reports.page_parts import finite, plural
from syn2co.reports.row_chart import ChartRow, Mark, RowChart
from syn2co.reports.svg import Axis, figure

Records = Sequence[Mapping[str, Any]]
"""Lines of metrics.jsonl."""


def losses(records: Records) -> list[float]:
    """Return the finite losses over real negatives that are among the records."""
    return [loss for record in records if (loss := finite(record.get("real_loss"))) is not None]


def gaps(runs: Mapping[str, Records], metric: str = "real_loss") -> str:
    """Return a sentence on the records whose metric is not finite; empty if there are none."""
    count = sum(metric in record and finite(record[metric]) is None for records in runs.values() for record in records)
    return f"Gaps: {plural(count, 'record')} without a finite value." if count else ""


def loss_chart(
    title: str,
    runs: Mapping[str, Records],
    *,
    metric: str = "real_loss",
    reach: Sequence[float] = (),
    height: int = 230,
) -> LineChart:
    """Return the chart of the loss of some runs by name.

    Args:
        title: of the cell or the run.
        runs: records of each run.
        metric: "real_loss", that over real negatives, or the "loss" of a supervised run.
        reach: losses that the axis must include, such as those of the panels beside it.
        height: px.
    """
    series = []
    for number, (name, records) in enumerate(runs.items()):
        series.append(curve(name, records, metric, number))
    longest = max(runs.values(), key=len)
    line = curve("uninformative", longest, "uninformative", 0)
    series.append(Series(line.name, line.points, 0, dashed=True, marked=False))
    ends = "; ".join(f"{one.name} ends at {one.end.y:.2f}" for one in series if one.end is not None)
    opened = [
        step for record in longest if record.get("synthetic") and (step := finite(record.get("step"))) is not None
    ]
    window = (min(opened), max(opened)) if opened else None
    shaded = f"; synthetic negatives from step {window[0]} to {window[1]} (shaded)" if window else ""
    words = "Loss over real negatives" if metric == "real_loss" else "Cross-entropy"
    return LineChart(
        title=f"{words}, {title}",
        description=f"In nats against steps. {ends}{shaded}. {gaps(runs, metric)}".strip(),
        series=series,
        x=Axis("steps", reach=(0.0,)),
        y=Axis(f"{words.lower()} (nats)", reach=reach),
        window=window,
        height=height,
    )


def curve(name: str, records: Records, metric: str, style: int, *, marked: bool = False) -> Series:
    """Return a metric over the steps, a gap where it is not finite; the last point has a tooltip, or each if marked."""
    steps = [(step, record) for record in records if (step := finite(record.get("step"))) is not None]
    values = [(step, finite(record[metric])) for step, record in steps if metric in record]
    told = 0 if marked else max((number for number, (_, value) in enumerate(values) if value is not None), default=0)
    points = [
        Point(step, math.nan)
        if value is None
        else Point(step, value, tip=f"{name}, step {step:,}: {value:.4g}" if number >= told else "")
        for number, (step, value) in enumerate(values)
    ]
    return Series(name, points, style, marked=marked)


def has_negatives(several: Sequence[Records]) -> bool:
    """Return whether the records of some seeds hold mass or hardness of a kind of synthetic negative."""
    return any(_late(records, metric) for records in several for metric in ("mass", "hardness"))


def negatives_charts(runs: Mapping[str, Sequence[Records]]) -> list[Markup]:
    """Return mass and hardness by kind of synthetic negative, of the records of several seeds by name of the cell.

    Mean over the last quarter of the records in which the kind had negatives, then over seeds.
    """
    charts = []
    for metric, title in (("mass", "Softmax mass of all negatives"), ("hardness", "Cosine with the query")):
        late = {name: [_late(records, metric) for records in several] for name, several in runs.items()}
        late = {name: means for name, means in late.items() if any(means)}
        rows = [ChartRow(kind, _marks(kind, late)) for kind in KINDS]
        rows = [row for row in rows if row.marks]
        if rows:
            spoken = "; ".join(mark.tip for row in rows for mark in row.marks)
            names = [(name, number) for number, name in enumerate(late)] if len(late) > 1 else []
            chart = RowChart(f"{title}, by kind", spoken, rows, Axis(title, reach=(0.0,)), names=names)
            charts.append(figure(chart, metric, small=True))
    return charts


def _marks(kind: str, late: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Mark]:
    marks = []
    for number, (name, seeds) in enumerate(late.items()):
        values = [means[kind] for means in seeds if kind in means]
        if values:
            marks.append(Mark(fmean(values), style=number, tip=f"{kind}, {name}: {fmean(values):.3g}"))
    return marks


def _late(records: Records, metric: str) -> dict[str, float]:
    """Return the late mean of a metric by kind."""
    late = {}
    for kind in KINDS:
        values = [value for record in records if (value := finite(record.get(f"{metric}/{kind}"))) is not None]
        if values:
            late[kind] = fmean(values[-max(1, len(values) // 4) :])
    return late
