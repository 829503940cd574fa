"""Curves with intervals, guides and a shaded window, as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from syn2co.reports.svg import DASHED, LETTER, NARROW, STYLES, Axis, Pen, Scale, shape, style_class

_LONGEST_NAME = 30  # letters of a curve's name beside its end


@dataclass(frozen=True)
class Point:
    """A value at x, its interval, and the words of its tooltip."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    tip: str = ""
    once: bool = False
    """Whether one seed alone has measured it."""


@dataclass(frozen=True)
class Series:
    """A curve; `style` is its color and shape. A point whose y is not finite is a gap."""

    name: str
    points: Sequence[Point]
    style: int = 0
    dashed: bool = False
    marked: bool = True

    @property
    def end(self) -> Point | None:
        """The last point that is no gap."""
        return next((point for point in reversed(self.points) if math.isfinite(point.y)), None)


@dataclass(frozen=True)
class Guide:
    """A level that does not depend on x: a dashed line across the chart, with its interval as a band."""

    name: str
    y: float
    low: float | None = None
    high: float | None = None
    tip: str = ""


@dataclass(frozen=True)
class LineChart:
    """Curves against x with intervals, dashed guides, and a shaded window of x."""

    title: str
    description: str
    series: Sequence[Series]
    x: Axis = Axis()
    y: Axis = Axis()
    guides: Sequence[Guide] = ()
    window: tuple[float, float] | None = None
    height: int = 360

    def legend(self, width: int) -> Sequence[tuple[str, int]]:
        """Return names and styles for the list below the drawing; none where curves are named at their ends."""
        if self._named_at_ends(width) or len(self.series) + len(self.guides) < 2:
            return ()
        return [(line.name, DASHED if line.dashed else line.style) for line in self.series] + [
            (guide.name, DASHED) for guide in self.guides
        ]

    def draw(self, width: int, name: str) -> Markup:
        """Return the SVG at a width in px."""
        pen = Pen(width, self.height if width > NARROW else min(self.height, 280))
        right = width - (12 if not self._named_at_ends(width) else 32 + LETTER * self._longest)
        x = Scale.over(self._xs, (54, right), self.x, pad=0.04 if self._marked else 0)
        y = Scale.over(self._ys, (pen.height - 46, 30), self.y, pad=0.07)
        self._draw_axes(pen, x, y, right)
        for guide in self.guides:
            self._draw_guide(pen, guide, y, right)
        barred = any(point.low is not None for line in self.series for point in line.points)
        step = min(7.0, 34 / max(1, len(self.series))) if barred else 0.0  # bars side by side
        for number, line in enumerate(self.series):
            _draw_series(pen, line, x, y, step * (number - (len(self.series) - 1) / 2))
        if self._named_at_ends(width):
            self._draw_names(pen, y, right)
        return pen.image(name, self.title, self.description)

    @property
    def _marked(self) -> bool:
        return any(line.marked for line in self.series)

    @property
    def _xs(self) -> list[float]:
        return [point.x for line in self.series for point in line.points]

    @property
    def _ys(self) -> list[float]:
        points = [point for line in self.series for point in line.points]
        values = [value for item in (*points, *self.guides) for value in (item.y, item.low, item.high)]
        return [value for value in values if value is not None and math.isfinite(value)]

    @property
    def _longest(self) -> int:
        return max((len(item.name) for item in (*self.series, *self.guides)), default=0)

    def _named_at_ends(self, width: int) -> bool:
        return width > NARROW and len(self.series) <= STYLES and self._longest <= _LONGEST_NAME

    def _draw_axes(self, pen: "Pen", x: "Scale", y: "Scale", right: float) -> None:
        if self.window is not None:
            left, end = (x.at(value) for value in self.window)
            pen.add('<rect class="window" x="{}" y="30" width="{}" height="{}"/>', left, end - left, pen.height - 76)
        for value, text in y.ticks():
            pen.add('<path class="grid" d="M54 {}H{}"/>', y.at(value), right)
            pen.text(48, y.at(value) + 4, text, "end")
        last = -math.inf
        for value, text in x.ticks():
            half = LETTER * len(text) / 2
            if x.at(value) - half < last + 4:
                continue
            last = x.at(value) + half
            pen.add('<path class="tick" d="M{} {}v5"/>', x.at(value), pen.height - 46)
            pen.text(x.at(value), pen.height - 27, text, "middle")
        pen.add('<path class="axis" d="M54 {}H{}"/>', pen.height - 46, right)
        pen.text(0, 14, self.y.label, "start", "label")
        pen.text((54 + right) / 2, pen.height - 6, self.x.label, "middle", "label")

    def _draw_guide(self, pen: "Pen", guide: Guide, y: "Scale", right: float) -> None:
        if guide.low is not None and guide.high is not None:
            top, bottom = y.at(guide.high), y.at(guide.low)
            pen.add('<rect class="band" x="54" y="{}" width="{}" height="{}"/>', top, right - 54, bottom - top)
        pen.add('<path class="guide" d="M54 {}H{}"/>', y.at(guide.y), right)
        with pen.point(guide.tip):
            pen.add('<rect class="hit" x="54" y="{}" width="{}" height="14"/>', y.at(guide.y) - 7, right - 54)

    def _draw_names(self, pen: "Pen", y: "Scale", right: float) -> None:
        ends = [
            (y.at(line.end.y), line.name, DASHED if line.dashed else line.style)
            for line in self.series
            if line.end is not None
        ]
        ends += [(y.at(guide.y), guide.name, DASHED) for guide in self.guides]
        for (_, name, style), height in zip(sorted(ends), _spread([end for end, *_ in sorted(ends)]), strict=True):
            if style != DASHED:
                pen.add('<path class="{} mark" d="{}"/>', style_class(style), shape(style, right + 13, height, 4))
            pen.text(right + 22, height + 4, name, "start", "name")


def _spread(heights: Sequence[float], gap: float = 16.0) -> list[float]:
    """Return sorted heights pushed apart until neighbors are `gap` apart, their middle kept."""
    groups: list[tuple[float, int]] = []  # middle of each group and its size
    for height in heights:
        groups.append((height, 1))
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * (groups[-1][1] + groups[-2][1]) / 2:
            (one, size), (other, others) = groups.pop(), groups.pop()
            groups.append(((one * size + other * others) / (size + others), size + others))
    return [middle + gap * (number - (size - 1) / 2) for middle, size in groups for number in range(size)]


def _draw_series(pen: "Pen", line: Series, x: Scale, y: Scale, shift: float) -> None:
    runs: list[list[str]] = [[]]
    for point in line.points:
        if math.isfinite(point.y):
            runs[-1].append(f"{x.at(point.x) + shift:.1f} {y.at(point.y):.1f}")
        elif runs[-1]:
            runs.append([])
    if path := "M".join("L".join(run) for run in runs if len(run) > 1):
        pen.add('<path class="{}" d="M{}"/>', "guide" if line.dashed else f"{style_class(line.style)} stroke", path)
    for point in line.points:
        if math.isfinite(point.y):
            _draw_point(pen, line, point, x.at(point.x) + shift, y)


def _draw_point(pen: "Pen", line: Series, point: Point, left: float, y: Scale) -> None:
    style, height = style_class(line.style, once=point.once), y.at(point.y)
    with pen.point(point.tip):
        if point.low is not None and point.high is not None:
            pen.add('<path class="{} bar" d="M{} {}V{}M{} {}h6M{} {}h6"/>', style, left, y.at(point.low),
                    y.at(point.high), left - 3, y.at(point.low), left - 3, y.at(point.high))  # fmt: skip
        if line.marked:
            pen.add('<path class="{} mark" d="{}"/>', style, shape(line.style, left, height, 5))
        if point.tip:
            pen.add('<circle class="hit" cx="{}" cy="{}" r="12"/>', left, height)
