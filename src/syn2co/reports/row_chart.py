"""Rows of values with intervals, or of stacked bars, as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from markupsafe import Markup

from syn2co.reports.svg import LETTER, NARROW, Axis, Pen, Scale, shape, style_class

_LINE = 17  # px from one line of text to the next


@dataclass(frozen=True)
class Mark:
    """A value of a row with its interval."""

    value: float
    low: float | None = None
    high: float | None = None
    style: int = 0
    tip: str = ""
    once: bool = False
    """Whether one seed alone has measured it."""


@dataclass(frozen=True)
class BarPart:
    """A part of a row's stacked bar."""

    value: float
    style: int = 0
    tip: str = ""


@dataclass(frozen=True)
class ChartRow:
    """A row of a chart: its label, marks or stacked bars, and a text at the end."""

    label: str
    marks: Sequence[Mark] = ()
    bars: Sequence[BarPart] = ()
    text: str = ""


@dataclass(frozen=True)
class RowChart:
    """Rows of values with intervals, or of stacked bars; labels at the left, on a phone above."""

    title: str
    description: str
    rows: Sequence[ChartRow]
    x: Axis = Axis()
    zero: bool = False
    """Whether zero is part of the axis and marked by a line."""
    names: Sequence[tuple[str, int]] = ()
    """The legend: names and styles."""

    def legend(self, width: int) -> Sequence[tuple[str, int]]:
        """Return names and styles for the list below the drawing."""
        return self.names

    def draw(self, width: int, name: str) -> Markup:
        """Return the SVG at a width in px."""
        places = self._places(width)
        pen = Pen(width, round(places.heights[-1]) + 46)
        x = Scale.over(self._values, (places.left, places.right), self.x, pad=0.05, zero=self.zero)
        bottom = places.heights[-1]
        for value, text in x.ticks():
            pen.add(
                '<path class="{}" d="M{} 4V{}"/>', "axis" if self.zero and not value else "grid", x.at(value), bottom
            )
            pen.text(x.at(value), bottom + 17, text, "middle")
        half = LETTER * len(self.x.label) / 2
        center = x.at(0) if self.zero else (places.left + places.right) / 2
        center = max(half, min(center, width - half))
        pen.text(center, bottom + 38, self.x.label, "middle", "label")
        for row, lines, top, end in zip(self.rows, places.lines, places.heights, places.heights[1:], strict=False):
            middle = places.draw_label(pen, lines, row.text, top, end)
            for number, mark in enumerate(row.marks):
                _draw_mark(pen, mark, x, middle + _step(row) * (number - (len(row.marks) - 1) / 2))
            _draw_bars(pen, row.bars, x, middle)
        return pen.image(name, self.title, self.description)

    @property
    def _values(self) -> list[float]:
        values = [value for row in self.rows for mark in row.marks for value in (mark.value, mark.low, mark.high)]
        values += [sum(bar.value for bar in row.bars) for row in self.rows if row.bars]
        return [value for value in values if value is not None]

    def _places(self, width: int) -> "_RowPlaces":
        longest = max((len(row.label) for row in self.rows), default=0)
        texts = max((len(row.text) for row in self.rows), default=0)
        beside = width > NARROW
        column = min(0.42 * width, LETTER * longest + 8) if beside else width - 8
        lines = [wrap(row.label, max(8, int(column / LETTER))) or [""] for row in self.rows]
        if not beside:
            lines = [several + [row.text] * bool(row.text) for several, row in zip(lines, self.rows, strict=True)]
        heights = [4.0]
        for row, several in zip(self.rows, lines, strict=True):
            marks, words = _step(row) * max(1, len(row.marks)) + 14, _LINE * len(several)
            heights.append(heights[-1] + (max(marks, words + 10) if beside else marks + words + 6))
        left, right = (column + 14, width - 18 - 1.1 * LETTER * texts) if beside else (14, width - 14)
        return _RowPlaces(left, right, heights, lines, beside)


@dataclass(frozen=True)
class _RowPlaces:
    """Places in px of rows: the drawing's left and right end, the top of each row, the lines of each label."""

    left: float
    right: float
    heights: Sequence[float]
    lines: Sequence[Sequence[str]]
    beside: bool

    def draw_label(self, pen: "Pen", lines: Sequence[str], text: str, top: float, end: float) -> float:
        """Write a row's label and text; return the height of the row's middle."""
        if self.beside:
            middle = (top + end) / 2
            for number, line in enumerate(lines):
                pen.text(self.left - 12, middle + 4 + _LINE * (number - (len(lines) - 1) / 2), line, "end", "name")
            pen.text(self.right + 14, middle + 4, text, "start")
            return middle
        for number, line in enumerate(lines):
            soft = bool(text) and number == len(lines) - 1
            pen.text(2, top + 13 + _LINE * number, line, "start", "" if soft else "name")
        return (top + _LINE * len(lines) + end) / 2


def _step(row: ChartRow) -> float:
    """Return px from one mark of a row to the next."""
    return min(12.0, 48 / max(1, len(row.marks)))


def _draw_mark(pen: "Pen", mark: Mark, x: Scale, height: float) -> None:
    style, middle = style_class(mark.style, once=mark.once), x.at(mark.value)
    with pen.point(mark.tip):
        if mark.low is not None and mark.high is not None:
            left, right = x.at(mark.low), x.at(mark.high)
            pen.add('<path class="{} bar" d="M{} {}H{}M{} {}v8M{} {}v8"/>', style, left, height, right, left,
                    height - 4, right, height - 4)  # fmt: skip
        pen.add('<path class="{} mark" d="{}"/>', style, shape(mark.style, middle, height, 5.5))
        pen.add('<circle class="hit" cx="{}" cy="{}" r="10"/>', middle, height)


def _draw_bars(pen: "Pen", bars: Sequence[BarPart], x: Scale, height: float) -> None:
    total = 0.0
    for bar in bars:
        left, total = x.at(total), total + bar.value
        width = x.at(total) - left
        with pen.point(bar.tip):
            style = style_class(bar.style)
            pen.add('<rect class="{} fill" x="{}" y="{}" width="{}" height="18"/>', style, left, height - 9, width)
            if width > 16:  # the shape of the legend, for readers who do not see the color
                pen.add('<path class="on-fill" d="{}"/>', shape(bar.style, left + width / 2, height, 4))
