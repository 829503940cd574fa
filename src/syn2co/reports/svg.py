"""Charts as SVG inside a page: sharp at every size, text as text, colors by the page's CSS, shapes beside colors.

Each chart is drawn twice, for a desk and for a phone, and the page shows one. The image has a title and a description;
the box around it takes the keyboard's focus, and arrow keys read its points.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from markupsafe import Markup

WIDE, NARROW = 900, 340
"""Widths in px at which charts are drawn."""
STYLES = 8
"""Colors, and shapes, before both repeat in another combination."""
DASHED, HOLLOW, ONCE = -1, -2, -3
"""Styles of a guide, of a mark that is not told apart, and of one that one seed has measured."""
LETTER = 7.2  # px, a letter of 14 px on average
_TAU = math.tau


@dataclass(frozen=True)
class Axis:
    """An axis: its label, a logarithmic scale or not, ticks (by default round numbers) and the texts of these."""

    label: str = ""
    log: bool = False
    ticks: Sequence[float] = ()
    texts: Sequence[str] = ()
    reach: Sequence[float] = ()
    """Numbers that the axis must include."""


class Chart(Protocol):
    """A drawing of any width, with the names that its legend lists."""

    @property
    def title(self) -> str: ...
    def draw(self, width: int, name: str) -> Markup: ...
    def legend(self, width: int) -> Sequence[tuple[str, int]]: ...


def figure(chart: Chart, name: str, *, caption: str = "", small: bool = False, keyed: bool = True) -> Markup:
    """Return the HTML of a chart with its legend and caption.

    Args:
        chart: what is drawn.
        name: unique in its page; ids are made of it.
        caption: a sentence below it.
        small: draw it once, at the phone's width, for charts side by side.
        keyed: with its legend.

    Example:
        >>> from syn2co.reports.row_chart import ChartRow, Mark, RowChart
        >>> chart = RowChart("Scores", "One score.", [ChartRow("real", [Mark(71.3, 70.0, 72.6, tip="real: 71.3 %")])])
        >>> html = figure(chart, "scores")
        >>> html.count("<svg "), "real: 71.3 %" in html
        (2, True)
    """
    drawn = [("both", NARROW)] if small else [("wide", WIDE), ("narrow", NARROW)]
    boxes = [_box(chart, f"{name}-{kind}", kind, width, keyed) for kind, width in drawn]
    text = Markup("<figcaption>{}</figcaption>").format(caption) if caption else ""
    return Markup('<figure class="chart">{}{}</figure>').format(Markup("").join(boxes), text)


def _box(chart: Chart, name: str, kind: str, width: int, keyed: bool) -> Markup:
    return Markup(
        '<div class="box {}"><div class="points" tabindex="0" role="group" aria-label="{}: arrow keys read the points">'
        "{}</div>{}</div>"
    ).format(kind, chart.title, chart.draw(width, name), legend(chart.legend(width) if keyed else ()))


def legend(names: Sequence[tuple[str, int]]) -> Markup:
    """Return a list of names, each behind the shape and color of its style."""
    if not names:
        return Markup("")
    items = (Markup("<li>{}{}</li>").format(key(style), name) for name, style in names)
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def key(style: int) -> Markup:
    """Return the small drawing of a style that stands before a name."""
    inner = (
        Markup('<path class="guide" d="M1 7H21"/>')
        if style == DASHED
        else Markup('<path class="{} {}" d="M0 7H22"/><path class="{} mark" d="{}"/>').format(
            style_class(style), "bar" if style == ONCE else "stroke", style_class(style), shape(style, 11, 7, 4.5)
        )
    )
    return Markup('<svg class="key" width="22" height="14" viewBox="0 0 22 14" aria-hidden="true">{}</svg>').format(
        inner
    )


@dataclass(frozen=True)
class Scale:
    """From values to px."""

    low: float
    high: float
    start: float
    end: float
    axis: Axis

    @classmethod
    def over(
        cls, values: Sequence[float], ends: tuple[float, float], axis: Axis, *, pad: float, zero: bool = False
    ) -> "Scale":
        change = math.log10 if axis.log else float
        finite = (value for value in (*values, *axis.ticks, *axis.reach) if math.isfinite(value))
        several = [change(value) for value in finite] + ([0.0] if zero else [])
        low, high = (min(several), max(several)) if several else (0.0, 1.0)
        width = (high - low) or abs(high) or 1.0
        low_pad = 0.0 if low == 0 and (zero or axis.reach) else pad
        return cls(low - low_pad * width, high + pad * width, *ends, axis)

    def at(self, value: float) -> float:
        value = math.log10(value) if self.axis.log else value
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yield the values of the axis's ticks with their texts."""
        if self.axis.ticks:
            texts = self.axis.texts or [tick_text(value) for value in self.axis.ticks]
            yield from zip(self.axis.ticks, texts, strict=True)
            return
        room = 36 if self.end < self.start else 90  # px from one tick to the next, upward and sideways
        step = _round_step((self.high - self.low) / max(2, abs(self.end - self.start) / room))
        first = math.ceil(self.low / step)
        for number in range(first, math.floor(self.high / step) + 1):
            yield number * step, tick_text(number * step)


def tick_text(value: float) -> str:
    """Return a number of an axis.

    Example:
        >>> tick_text(10000.0), tick_text(0.30000000000000004)
        ('10,000', '0.3')
    """
    return f"{value:,.6g}".replace("-", "−")


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * 0.999)


def style_class(style: int, *, once: bool = False) -> str:
    """Return the classes by which the page's CSS draws a style; what one seed has measured is hollow and dashed."""
    color = "hollow" if style in (HOLLOW, ONCE) else f"s{style % STYLES}"
    return f"{color} once" if once or style == ONCE else color


def shape(style: int, x: float, y: float, radius: float) -> str:
    """Return the path of a style's shape; shapes move on by one where colors begin again."""
    number = (style + style // STYLES) % STYLES if style >= 0 else 3 if style == ONCE else 0
    return _SHAPES[number](x, y, radius)


def _circle(x: float, y: float, radius: float) -> str:
    arc = f"a{radius:g} {radius:g} 0 1 0"
    return f"M{x - radius:.1f} {y:.1f}{arc} {2 * radius:g} 0{arc} {-2 * radius:g} 0Z"


def _polygon(corners: int, turn: float, scale: float = 1.0) -> Callable[[float, float, float], str]:
    def path(x: float, y: float, radius: float) -> str:
        angles = [_TAU * (number / corners + turn) for number in range(corners)]
        size = radius * scale
        return "M" + "L".join(f"{x + size * math.sin(a):.1f} {y - size * math.cos(a):.1f}" for a in angles) + "Z"

    return path


def _star(points: int, turn: float, inner: float) -> Callable[[float, float, float], str]:
    def path(x: float, y: float, radius: float) -> str:
        corners = []
        for number in range(2 * points):
            size = 1.3 * radius * (inner if number % 2 else 1)
            angle = _TAU * (number / (2 * points) + turn)
            corners.append(f"{x + size * math.sin(angle):.1f} {y - size * math.cos(angle):.1f}")
        return "M" + "L".join(corners) + "Z"

    return path


_SHAPES: tuple[Callable[[float, float, float], str], ...] = (
    _circle,
    _polygon(4, 0.125, 1.25),  # a square
    _polygon(3, 0.0, 1.3),
    _polygon(4, 0.0, 1.3),  # a diamond
    _polygon(3, 0.5, 1.3),
    _star(5, 0.0, 0.45),
    _star(4, 0.0, 0.38),
    _polygon(6, 0.0, 1.1),
)


@dataclass
class Pen:
    """The elements of an image, one after the other; everything that is given is escaped."""

    width: float
    height: float
    parts: list[Markup] = field(default_factory=list)

    def add(self, element: str, *values: float | str) -> None:
        """Add an element whose {} are these values; numbers are rounded to 0.1 px."""
        self.parts.append(Markup(element).format(*(_rounded(value) for value in values)))

    def text(self, x: float, y: float, text: str, anchor: str, kind: str = "") -> None:
        if text:
            self.add('<text x="{}" y="{}" text-anchor="{}" class="{}">{}</text>', x, y, anchor, kind, text)

    def point(self, tip: str) -> "_PointGroup":
        """Return a context whose elements belong to one point with a tooltip; without one to none."""
        return _PointGroup(self, tip)

    def image(self, name: str, title: str, description: str) -> Markup:
        """Return the image with its title and description."""
        return Markup(
            '<svg viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-labelledby="{}-t {}-d">'
            '<title id="{}-t">{}</title><desc id="{}-d">{}</desc>{}</svg>'
        ).format(
            *(_rounded(size) for size in (self.width, self.height) * 2), name, name, name, title, name, description,
            Markup("").join(self.parts),
        )  # fmt: skip


@dataclass(frozen=True)
class _PointGroup:
    pen: Pen
    tip: str

    def __enter__(self) -> None:
        if self.tip:
            self.pen.parts.append(Markup('<g class="point"><title>{}</title>').format(self.tip))

    def __exit__(self, *_: object) -> None:
        if self.tip:
            self.pen.parts.append(Markup("</g>"))


def _rounded(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
