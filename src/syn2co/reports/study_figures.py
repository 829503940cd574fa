"""Figures of a study's page: the headline, contrasts, corruptions, curves of training, synthetic negatives."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from markupsafe import Markup

from syn2co.reports.line_chart import Guide, LineChart, Point, Series
from syn2co.reports.page_parts import PARTS, duration, finite, mean, plural, signed
from syn2co.reports.robustness_figures import mean_details, usable_details
from syn2co.reports.row_chart import BarPart, ChartRow, Mark, RowChart
from syn2co.reports.study_labels import StudyLabels
from syn2co.reports.svg import DASHED, HOLLOW, ONCE, STYLES, Axis, figure, legend
from syn2co.reports.training_figures import gaps, loss_chart, losses
from syn2co.studies.comparisons import CellEstimate
from syn2co.studies.grid import Cell, Levels
from syn2co.studies.results import ScoreKey

if TYPE_CHECKING:
    from syn2co.studies.answers import StudyAnswers

PANELS = 24
"""Most cells whose curves are drawn."""
_DECADE = 10


def headline(answers: "StudyAnswers", labels: StudyLabels) -> Markup | None:
    """Return the score against the study's axis, one curve per level of `versus`; without an axis a row per cell."""
    key, study = labels.first, answers.results.study
    if key is None:
        return None
    if study.axis is None or study.versus is None:
        return _cells(answers, labels, key)
    levels = study.factors[study.axis]
    positions = {name: at for name in levels if (at := _position(name, levels[name].real_images)) is not None}
    curves, guides, drawn = _curves(answers, labels, key, positions)
    if not curves or len(positions) < len(levels):  # a level that is no number has no place on the axis
        return _cells(answers, labels, key)
    used = sorted({point.x for curve in curves for point in curve.points})
    chart = LineChart(
        title=f"{labels.score(key)} against {study.axis}",
        description=_spoken(curves, guides),
        series=curves,
        x=Axis(study.axis, log=used[0] > 0 and used[-1] >= _DECADE * used[0], ticks=used),
        y=Axis(labels.score(key)),
        guides=guides,
    )
    return figure(chart, "headline", caption=_caption(drawn))


def _caption(drawn: Sequence[CellEstimate]) -> str:
    seeds = [one.estimate.seeds for one in drawn]
    if max(seeds) < 2:
        return "Bars are 95 % intervals over test images alone: one seed says nothing about training."
    text = f"Means over the finished seeds, at most {max(seeds)}; bars are 95 % intervals over seeds and test images."
    if min(seeds) > 1:
        return text
    return (
        f"{text} Hollow with dashed bars, or so named: one seed, over test images alone; says nothing about training."
    )


def _position(level: str, real_images: int | None) -> float | None:
    if real_images is not None:
        return float(real_images)
    try:
        return float(level.replace(",", "").rstrip("%"))
    except ValueError:
        return None


def _curves(
    answers: "StudyAnswers", labels: StudyLabels, key: ScoreKey, positions: Mapping[str, float]
) -> tuple[list[Series], list[Guide], list[CellEstimate]]:
    """Return a curve per level of `versus`, a guide for each that has no second point along the axis, and all cells."""
    study = answers.results.study
    assert study.axis is not None and study.versus is not None
    curves, guides, drawn = list[Series](), list[Guide](), list[CellEstimate]()
    for name in study.factors[study.versus]:
        several: list[tuple[float, CellEstimate]] = []
        for level, at in positions.items():
            levels = {**study.baseline, study.versus: name, study.axis: level}
            if (estimate := answers.estimate(levels, key)) is not None:
                several.append((at, estimate))
        if not several:
            continue
        drawn += [estimate for _, estimate in several]
        images = Cell(study, several[0][1].levels, 0).level.images
        if images == "untrained" or (images == "synthetic" and len(several) == 1 and len(positions) > 1):
            guides.append(_guide("random encoder" if images == "untrained" else name, several[0][1]))
            continue
        points = [
            Point(
                at,
                estimate.estimate.value,
                *_ends(estimate),
                f"{name}, {labels.level(study.axis, f'{at:,.6g}')}: {interval(estimate)}",
                _once(estimate),
            )
            for at, estimate in sorted(several, key=lambda pair: pair[0])
        ]
        curves.append(Series(name, points, len(curves)))
    random = _random(answers, labels, key) if not guides else []
    guides += [_guide("random encoder", cell) for cell in random]
    return curves, guides, drawn + random


def _guide(name: str, estimate: CellEstimate) -> Guide:
    shown = f"{name}, one seed" if _once(estimate) else name
    return Guide(shown, estimate.estimate.value, *_ends(estimate), f"{name}: {interval(estimate)}")


def _random(answers: "StudyAnswers", labels: StudyLabels, key: ScoreKey) -> list[CellEstimate]:
    """Return the random encoder if any cell is one."""
    cells = (answers.estimate(levels, key) for levels in labels.combinations if labels.untrained(levels))
    return [cell for cell in cells if cell is not None][:1]


def _once(estimate: CellEstimate) -> bool:
    return estimate.estimate.seeds == 1


def _ends(estimate: CellEstimate) -> tuple[float | None, float | None]:
    return finite(estimate.estimate.low), finite(estimate.estimate.high)


def interval(estimate: CellEstimate) -> str:
    """Return a score with its interval, such as "71.3 % [70.1, 72.5], 3 seeds"."""
    form, unit = (".1f", " %") if estimate.percent else (".3g", "")
    value, (low, high) = estimate.estimate, _ends(estimate)
    ends = "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"
    return signed(f"{value.value:{form}}{unit}{ends}, {plural(value.seeds, 'seed')}")


def _spoken(curves: Sequence[Series], guides: Sequence[Guide]) -> str:
    """Return all points in words, for readers who do not see the drawing."""
    tips = [point.tip for curve in curves for point in curve.points] + [guide.tip for guide in guides]
    return "; ".join(tips)


def _cells(answers: "StudyAnswers", labels: StudyLabels, key: ScoreKey) -> Markup:
    rows, drawn = list[ChartRow](), list[CellEstimate]()
    for levels in labels.combinations:
        if (estimate := answers.estimate(levels, key)) is None:
            continue
        drawn.append(estimate)
        style, tip = (6 if labels.untrained(levels) else 0), f"{labels.cell(levels)}: {interval(estimate)}"
        mark = Mark(estimate.estimate.value, *_ends(estimate), style, tip, _once(estimate))
        rows.append(ChartRow(labels.cell(levels), [mark], text=_short(estimate.estimate.value, estimate.percent)))
    spoken = "; ".join(row.marks[0].tip for row in rows)
    title = f"{labels.score(key)} of every cell"
    return figure(RowChart(title, spoken, rows, Axis(labels.score(key))), "headline", caption=_caption(drawn))


def _short(value: float, percent: bool) -> str:
    return signed(f"{value:.1f}" if percent else f"{value:.3g}")


def forest(answers: "StudyAnswers", labels: StudyLabels, key: ScoreKey, name: str) -> Markup | None:
    """Return the primary contrasts of one score with their corrected intervals; None where there are none."""
    contrasts = [one for one in answers.contrasts if one.key == key and one.primary]
    if not contrasts:
        return None
    planned, once_only = len(answers.results.study.contrasts), sum(one.difference.seeds == 1 for one in contrasts)
    rows = []
    for one in contrasts:
        once = one.difference.seeds == 1
        style = ONCE if once else HOLLOW if not one.resolved else 0 if one.better else 1
        text = signed(f"{one.number(one.difference.value)} {one.ends}")
        mark = Mark(one.difference.value, finite(one.low), finite(one.high), style, f"{one.name}: {text}")
        rows.append(ChartRow(one.name, [mark], text=text))
    sides = ("worse", "better") if contrasts[0].higher_is_better else ("better", "worse")
    unit = "points" if contrasts[0].percent else "difference"
    chart = RowChart(
        title=f"Differences in {labels.score(key)}",
        description="; ".join(row.marks[0].tip for row in rows),
        rows=rows,
        x=Axis(f"← {sides[0]} · {unit} · {sides[1]} →"),
        zero=True,
        names=[("better", 0), ("worse", 1), ("not resolved", HOLLOW), *([("one seed", ONCE)] if once_only else [])],
    )
    return figure(chart, name, caption=_forest_caption(len(contrasts) - once_only, once_only, planned))


def _forest_caption(tested: int, once: int, planned: int) -> str:
    alone = "95 % over the test images alone and not corrected: one seed says nothing about training."
    if not tested:
        return f"Intervals are {alone}"
    text = f"Intervals are corrected for all {planned} primary contrasts that were planned (Holm)."
    return f"{text} Diamonds: {plural(once, 'contrast')} with one seed, {alone}" if once else text


T = TypeVar("T")


def first_drawn(cells: Mapping[str, T]) -> tuple[dict[str, T], str]:
    """Return the first cells, as many as there are styles, and a sentence if that leaves some out."""
    kept = dict(islice(cells.items(), STYLES))
    rest = f"The first {len(kept)} of {len(cells)} cells: the baseline, those of the primary contrasts, then others."
    return kept, rest if len(cells) > len(kept) else ""


def compared(answers: "StudyAnswers", labels: StudyLabels) -> list[Levels]:
    """Return the levels of every cell: the baseline, those of the primary contrasts in their order, then the others."""
    return [cell.levels for cell in answers.results.study.cells([0]) if cell.levels in labels.combinations]


def corruption_details(answers: "StudyAnswers", labels: StudyLabels, key: ScoreKey) -> tuple[dict[str, Any], str]:
    """Return accuracies under corruptions by the names of the cells, and a sentence on runs without usable ones."""
    cells, damaged = dict[str, Any](), 0
    for levels in compared(answers, labels):
        scores = [cell.score(*key) for cell in answers.results.of(levels).values()]
        given = [score.details for score in scores if score is not None and "accuracy" in score.details]
        usable = usable_details(given)
        damaged += len(given) - len(usable)
        if usable:
            cells[labels.cell(levels)] = mean_details(usable)
    return cells, f"Without {plural(damaged, 'run')} whose accuracies by corruption are damaged." if damaged else ""


def training_curves(answers: "StudyAnswers", labels: StudyLabels) -> list[tuple[str, Markup]]:
    """Return the loss over real negatives of each cell, a line per seed, with the uninformative line and the window."""
    trained = [
        (labels.cell(levels), {f"seed {seed}": cell.curves for seed, cell in answers.results.of(levels).items()})
        for levels in labels.combinations
    ]
    trained = [(name, runs) for name, runs in trained if any(map(losses, runs.values()))][:PANELS]
    reach = [loss for _, runs in trained for records in runs.values() for loss in losses(records)]
    ends = (min(reach), max(reach)) if reach else ()
    return [
        (
            name,
            figure(loss_chart(name, runs, reach=ends), f"curve-{number}", caption=gaps(runs), small=True, keyed=False),
        )
        for number, (name, runs) in enumerate(trained)
    ]


def curve_legend(answers: "StudyAnswers") -> Markup:
    """Return the legend that all panels of `training_curves` share."""
    seeds = sorted({cell.seed for cell in answers.results.cells if cell.curves})
    return legend([*((f"seed {seed}", number) for number, seed in enumerate(seeds)), ("uninformative", DASHED)])


def cost_chart(answers: "StudyAnswers", labels: StudyLabels) -> Markup:
    """Return the mean hours of a run of each cell: training, generation, evaluation."""
    rows = []
    for levels in labels.combinations:
        costs = [cell.cost for cell in answers.results.of(levels).values()]
        bars = []
        for style, part in enumerate(PARTS):
            if (seconds := mean(getattr(cost, f"{part}_seconds") for cost in costs)) is None:
                continue
            bars.append(BarPart(seconds / 3600, style, f"{labels.cell(levels)}, {part}: {duration(seconds)}"))
        total = duration(3600 * sum(bar.value for bar in bars))
        rows.append(ChartRow(labels.cell(levels), bars=bars, text=total if len(bars) == len(PARTS) else "not known"))
    spoken = "; ".join(bar.tip for row in rows for bar in row.bars)
    names = [(part, style) for style, part in enumerate(PARTS)]
    return figure(
        RowChart("Hours of a run", spoken, rows, Axis("hours of a run"), zero=True, names=names), "cost-chart"
    )
