"""Accuracy under corruptions: against the severity as a figure, by corruption as a table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from pydantic import BaseModel

from syn2co.core.json_files import JsonError, check_shape
from syn2co.reports.line_chart import LineChart, Point, Series
from syn2co.reports.page_parts import Column, Item, PageTable, finite, mean, plural
from syn2co.reports.svg import Axis, figure

Corruptions = Mapping[str, Mapping[str, Any]]
"""Details of the protocol "robustness" by name: "clean" in percent, "severities", "accuracy" by corruption."""


class _Details(BaseModel):
    """Details of the protocol "robustness" that are drawn."""

    accuracy: dict[str, list[float | None]]
    clean: float | None
    severities: list[float]


def usable_details(several: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the details that have the shape, and the corruptions and severities of the first of them."""
    usable = [one for one in several if _fits(one)]
    forms = [({*one["accuracy"]}, one["severities"]) for one in usable]
    return [one for one, form in zip(usable, forms, strict=True) if form == forms[0]]


def _fits(details: Mapping[str, Any]) -> bool:
    try:
        check_shape(dict(details), _Details)
    except JsonError:
        return False
    return {len(values) for values in details["accuracy"].values()} == {len(details["severities"])}


def mean_details(several: Sequence[Any]) -> dict[str, Any]:
    """Return the accuracy in percent on clean images and by corruption and severity, means over seeds."""
    table = {
        name: [mean(values) for values in zip(*(one["accuracy"][name] for one in several), strict=True)]
        for name in several[0]["accuracy"]
    }
    return {"accuracy": table, "clean": mean(one["clean"] for one in several), "severities": several[0]["severities"]}


def severity_chart(measured: Corruptions, note: str = "") -> Markup | None:
    """Return the accuracy on clean and ever more corrupted images, a curve per name; None without any.

    A value that is not finite is a gap, and said; the note ends the caption.
    """
    series, gaps = list[Series](), 0
    for number, (name, details) in enumerate(measured.items()):
        means = [mean(column) for column in zip(*details["accuracy"].values(), strict=True)]
        points = [
            Point(at, math.nan)
            if value is None
            else Point(at, value, tip=f"{name}, {f'severity {at:g}' if at else 'clean'}: {value:.1f} %")
            for at, value in zip([0, *details["severities"]], [finite(details["clean"]), *means], strict=True)
        ]
        gaps += sum(not point.tip for point in points)
        series.append(Series(name, points, number))
    if all(line.end is None for line in series):
        return None
    ticks = sorted({point.x for line in series for point in line.points})
    chart = LineChart(
        title="Accuracy against the severity of corruptions",
        description="; ".join(point.tip for line in series for point in line.points if point.tip),
        series=series,
        x=Axis("severity", ticks=ticks, texts=[f"{tick:g}" if tick else "clean" for tick in ticks]),
        y=Axis("accuracy of the linear head (%)"),
    )
    lacking = f"Gaps: {plural(gaps, 'point')} without a finite accuracy." if gaps else ""
    return figure(chart, "severities", caption=" ".join(filter(None, ["Mean over corruptions.", lacking, note])))


def corruption_table(measured: Corruptions, note: str = "") -> PageTable | None:
    """Return a row per corruption with the mean accuracy over severities, its highest underlined; None without any."""
    if not measured:
        return None
    tables = [details["accuracy"] for details in measured.values()]
    columns = [Column("corruption"), *(Column(name, descending=True) for name in measured)]
    rows = []
    for corruption in tables[0]:
        values = [mean(table[corruption]) if corruption in table else None for table in tables]
        best = max((value for value in values if value is not None), default=None)
        items = [
            Item("none", last=True)
            if value is None
            else Item(f"{value:.1f}", value, mark="best" if value == best else "")
            for value in values
        ]
        rows.append([Item(corruption.replace("_", " ")), *items])
    caption = "Accuracy (%) by corruption, mean over severities; the highest of each row is underlined"
    return PageTable(f"{caption}. {note}" if note else caption, columns, rows)
