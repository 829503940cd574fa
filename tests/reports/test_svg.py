"""Charts as SVG: numbers at their places, names escaped, points with tooltips."""

import math
import re
from xml.etree import ElementTree

import pytest

from syn2co.reports.line_chart import Guide, LineChart, Point, Series
from syn2co.reports.row_chart import BarPart, ChartRow, Mark, RowChart
from syn2co.reports.svg import HOLLOW, NARROW, ONCE, WIDE, Axis, Scale, figure, shape


def test_a_logarithmic_scale_puts_the_geometric_mean_in_the_middle() -> None:
    scale = Scale.over([500, 8000], (0, 100), Axis(log=True), pad=0)
    assert [round(scale.at(value), 6) for value in (500, 2000, 8000)] == [0, 50, 100]


def test_ticks_are_round_numbers_within_the_scale() -> None:
    scale = Scale.over([31.0, 69.0], (300, 0), Axis(), pad=0)
    assert [text for _, text in scale.ticks()] == ["35", "40", "45", "50", "55", "60", "65"]


def test_values_that_are_not_finite_have_no_part_in_a_scale() -> None:
    values = [math.nan, 1.0, math.inf, 3.0, -math.inf]
    assert Scale.over(values, (0, 100), Axis(), pad=0) == Scale.over([1.0, 3.0], (0, 100), Axis(), pad=0)
    assert list(Scale.over([math.nan], (0, 100), Axis(), pad=0).ticks())


def test_a_curve_breaks_where_a_point_is_not_finite() -> None:
    ys = [1.0, 2.0, math.nan, 3.0, 4.0, math.inf]
    line = Series("a", [Point(x, y, tip=f"{x}") for x, y in enumerate(ys)])
    image = ElementTree.fromstring(str(LineChart("t", "d", [line]).draw(WIDE, "one")))
    (path,) = [part.attrib["d"] for part in image.iter("path") if "stroke" in part.attrib["class"].split()]
    assert path.count("M") == 2 and path.count("L") == 2
    assert [group.findtext("title") for group in image.iter("g")] == ["0", "1", "3", "4"]
    assert line.end is not None and line.end.y == 4.0


def test_what_one_seed_measured_is_hollow_and_dashed() -> None:
    line = Series("a", [Point(0, 1.0, 0.5, 1.5), Point(1, 2.0, 1.5, 2.5, once=True)])
    image = ElementTree.fromstring(str(LineChart("t", "d", [line]).draw(WIDE, "one")))
    drawn = [part.attrib["class"] for part in image.iter("path")]
    assert [name for name in drawn if name.endswith((" bar", " mark"))][:4] == [
        "s0 bar", "s0 mark", "s0 once bar", "s0 once mark",
    ]  # fmt: skip
    rows = [ChartRow("b", [Mark(1.0, 0.0, 2.0, ONCE)]), ChartRow("c", [Mark(1.0, 0.0, 2.0, 3, once=True)])]
    image = ElementTree.fromstring(str(RowChart("t", "d", rows).draw(WIDE, "one")))
    bars = [part.attrib["class"] for part in image.iter("path") if part.attrib["class"].endswith("bar")]
    assert bars == ["hollow once bar", "s3 once bar"]
    assert shape(ONCE, 0, 0, 5) != shape(HOLLOW, 0, 0, 5)


def test_equal_values_have_a_scale_too() -> None:
    for value in (0.0, 5.0, -5.0):
        scale = Scale.over([value], (0, 100), Axis(), pad=0.1)
        assert 0 <= scale.at(value) <= 100


def test_sixteen_styles_differ_in_color_or_shape() -> None:
    looks = {(style % 8, shape(style, 0, 0, 5)) for style in range(16)}
    assert len(looks) == 16
    assert len({shape(style, 0, 0, 5) for style in range(8)}) == 8


def _lines() -> LineChart:
    low, high = Point(500, 50, 48, 52, "a, 500: 50 %"), Point(2000, 60, 58, 62, "a, 2,000: 60 %")
    return LineChart(
        "Score", "two points", [Series("<b>a & b", [low, high])], Axis("images"), Axis("%"), [Guide("random", 35)]
    )


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_line_chart_is_well_formed_with_title_description_and_a_tooltip_per_point(width: int) -> None:
    image = ElementTree.fromstring(str(_lines().draw(width, "one")))
    assert image.attrib["role"] == "img"
    assert image.attrib["aria-labelledby"].split() == ["one-t", "one-d"]
    assert [image.findtext("title"), image.findtext("desc")] == ["Score", "two points"]
    tips = [group.findtext("title") for group in image.iter("g")]
    assert tips == ["a, 500: 50 %", "a, 2,000: 60 %"]


def test_names_are_escaped_and_shown_beside_the_curve_or_in_the_legend() -> None:
    html = figure(_lines(), "one")
    assert "<b>a" not in html
    assert html.count("&lt;b&gt;a &amp; b") == 2  # at the end of the curve of a desk, in the legend of a phone


def test_names_at_the_ends_of_curves_do_not_overlap() -> None:
    series = [Series(f"curve {number}", [Point(0, 1), Point(1, 60 + number / 10)]) for number in range(6)]
    image = ElementTree.fromstring(str(LineChart("t", "d", series).draw(WIDE, "one")))
    heights = sorted(float(text.attrib["y"]) for text in image.iter("text") if (text.text or "").startswith("curve"))
    assert len(heights) == 6
    assert all(after - before >= 15.9 for before, after in zip(heights, heights[1:], strict=False))


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_rows_lie_at_their_values_in_order(width: int) -> None:
    rows = [
        ChartRow("first", [Mark(2.0, 1.0, 3.0, tip="two")], text="+2.0"),
        ChartRow("second", [Mark(-1.0, -2.0, 0.5, HOLLOW, tip="minus one")]),
    ]
    image = ElementTree.fromstring(str(RowChart("t", "d", rows, zero=True).draw(width, "one")))
    hits = [(float(hit.attrib["cx"]), float(hit.attrib["cy"])) for hit in image.iter("circle")]
    assert hits[0][0] > hits[1][0] and hits[0][1] < hits[1][1]
    assert all(0 < x < width and 0 < y < float(image.attrib["height"]) for x, y in hits)
    assert [path.attrib["class"] for path in image.iter("path") if "mark" in path.attrib["class"]] == [
        "s0 mark",
        "hollow mark",
    ]


def test_stacked_bars_begin_where_the_last_one_ended() -> None:
    row = ChartRow("run", bars=[BarPart(3.0, 0, "training"), BarPart(1.0, 1, "evaluation")])
    image = ElementTree.fromstring(str(RowChart("t", "d", [row], zero=True).draw(WIDE, "one")))
    bars = [(float(bar.attrib["x"]), float(bar.attrib["width"])) for bar in image.iter("rect")]
    assert bars[0][1] == pytest.approx(3 * bars[1][1], rel=0.01)
    assert bars[1][0] == pytest.approx(sum(bars[0]), abs=0.11)


def test_a_long_label_is_broken_into_lines() -> None:
    label = "half of the images made by the flow that was trained on exactly the real images of the cell"
    image = str(RowChart("t", "d", [ChartRow(label, [Mark(1)])]).draw(NARROW, "one"))
    lines = re.findall(r'class="name">([^<]*)<', image)
    assert len(lines) > 1 and " ".join(lines) == label
