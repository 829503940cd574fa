"""Accuracy under corruptions: against the severity as a figure, by corruption as a table."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from markupsafe import Markup

from syn2co.reports.line_chart import LineChart, Point, Series
from syn2co.reports.page_parts import Column, Item, PageTable
from syn2co.reports.svg import Axis, figure

Corruptions = Mapping[str, Mapping[str, Any]]
"""Details of the protocol "robustness" by name: "clean" in percent, "severities", "accuracy" by corruption."""


def severity_chart(measured: Corruptions) -> Markup | None:
    """Return the accuracy on clean and ever more corrupted images, a curve per name; None without any."""
    series = []
    for number, (name, details) in enumerate(measured.items()):
        means = [fmean(column) for column in zip(*details["accuracy"].values(), strict=True)]
        points = [
            Point(at, value, tip=f"{name}, {f'severity {at:g}' if at else 'clean'}: {value:.1f} %")
            for at, value in zip([0, *details["severities"]], [details["clean"], *means], strict=True)
        ]
        series.append(Series(name, points, number))
    if not series:
        return None
    ticks = sorted({point.x for line in series for point in line.points})
    chart = LineChart(
        title="Accuracy against the severity of corruptions",
        description="; ".join(point.tip for line in series for point in line.points),
        series=series,
        x=Axis("severity", ticks=ticks, texts=[f"{tick:g}" if tick else "clean" for tick in ticks]),
        y=Axis("accuracy of the linear head (%)"),
    )
    return figure(chart, "severities", caption="Mean over corruptions.")


def corruption_table(measured: Corruptions) -> PageTable | None:
    """Return a row per corruption with the mean accuracy over severities, the highest underlined; None without any."""
    if not measured:
        return None
    tables = [details["accuracy"] for details in measured.values()]
    columns = [Column("corruption"), *(Column(name, descending=True) for name in measured)]
    rows = []
    for corruption in tables[0]:
        values = [fmean(table[corruption]) if corruption in table else None for table in tables]
        best = max(value for value in values if value is not None)
        items = [
            Item("none") if value is None else Item(f"{value:.1f}", value, mark="best" if value == best else "")
            for value in values
        ]
        rows.append([Item(corruption.replace("_", " ")), *items])
    return PageTable("Accuracy (%) by corruption, mean over severities; the highest is underlined", columns, rows)
