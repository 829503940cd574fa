"""Figures of a study's page: the headline, contrasts, corruptions, curves of training, synthetic negatives."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from syn2co.reports.line_chart import Guide, LineChart, Point, Series
from syn2co.reports.page_parts import PARTS, duration, finite
from syn2co.reports.row_chart import BarPart, ChartRow, Mark, RowChart
from syn2co.reports.study_labels import StudyLabels
from syn2co.reports.svg import DASHED, HOLLOW, STYLES, Axis, figure, legend
from syn2co.reports.training_figures import loss_chart, losses
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
    curves, guides = _curves(answers, labels, key, positions)
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
    return figure(chart, "headline", caption=_caption(answers))


def _caption(answers: "StudyAnswers") -> str:
    seeds = max((one.estimate.seeds for one in answers.estimates), default=0)
    if seeds < 2:
        return "Bars are 95 % intervals over test images alone: one seed says nothing about training."
    return f"Means over the finished seeds, at most {seeds}; bars are 95 % intervals over seeds and test images."


def _position(level: str, real_images: int | None) -> float | None:
    if real_images is not None:
        return float(real_images)
    try:
        return float(level.replace(",", "").rstrip("%"))
    except ValueError:
        return None


def _curves(
    answers: "StudyAnswers", labels: StudyLabels, key: ScoreKey, positions: Mapping[str, float]
) -> tuple[list[Series], list[Guide]]:
    """Return a curve per level of `versus`, and a guide for each that has no second point along the axis."""
    study = answers.results.study
    assert study.axis is not None and study.versus is not None
    curves, guides = list[Series](), list[Guide]()
    for name in study.factors[study.versus]:
        several: list[tuple[float, CellEstimate]] = []
        for level, at in positions.items():
            levels = {**study.baseline, study.versus: name, study.axis: level}
            if (estimate := answers.estimate(levels, key)) is not None:
                several.append((at, estimate))
        if not several:
            continue
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
            )
            for at, estimate in sorted(several, key=lambda pair: pair[0])
        ]
        curves.append(Series(name, points, len(curves)))
    return curves, guides or _random(answers, labels, key)


def _guide(name: str, estimate: CellEstimate) -> Guide:
    return Guide(name, estimate.estimate.value, *_ends(estimate), f"{name}: {interval(estimate)}")


def _random(answers: "StudyAnswers", labels: StudyLabels, key: ScoreKey) -> list[Guide]:
    """Return the guide of the random encoder if any cell is one."""
    cells = (answers.estimate(levels, key) for levels in labels.combinations if labels.untrained(levels))
    return [_guide("random encoder", cell) for cell in cells if cell is not None][:1]


def _ends(estimate: CellEstimate) -> tuple[float | None, float | None]:
    return finite(estimate.estimate.low), finite(estimate.estimate.high)


def interval(estimate: CellEstimate) -> str:
    """Return a score with its interval, such as "71.3 % [70.1, 72.5], 3 seeds"."""
    form, unit = (".1f", " %") if estimate.percent else (".3g", "")
    value, (low, high) = estimate.estimate, _ends(estimate)
    ends = "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"
    return f"{value.value:{form}}{unit}{ends}, {value.seeds} seed{'' if value.seeds == 1 else 's'}"


def _spoken(curves: Sequence[Series], guides: Sequence[Guide]) -> str:
    """Return all points in words, for readers who do not see the drawing."""
    tips = [point.tip for curve in curves for point in curve.points] + [guide.tip for guide in guides]
    return "; ".join(tips)


def _cells(answers: "StudyAnswers", labels: StudyLabels, key: ScoreKey) -> Markup:
    rows = []
    for levels in labels.combinations:
        if (estimate := answers.estimate(levels, key)) is None:
            continue
        style, tip = (6 if labels.untrained(levels) else 0), f"{labels.cell(levels)}: {interval(estimate)}"
        mark = Mark(estimate.estimate.value, *_ends(estimate), style, tip)
        rows.append(ChartRow(labels.cell(levels), [mark], text=_short(estimate.estimate.value, estimate.percent)))
    spoken = "; ".join(row.marks[0].tip for row in rows)
    title = f"{labels.score(key)} of every cell"
    return figure(RowChart(title, spoken, rows, Axis(labels.score(key))), "headline", caption=_caption(answers))


def _short(value: float, percent: bool) -> str:
    return f"{value:.1f}" if percent else f"{value:.3g}"


def forest(answers: "StudyAnswers", labels: StudyLabels, key: ScoreKey, name: str) -> Markup | None:
    """Return the primary contrasts of one score with their corrected intervals; None where there are none."""
    contrasts = [one for one in answers.contrasts if one.key == key and one.primary]
    if not contrasts:
        return None
    rows = []
    for one in contrasts:
        style = HOLLOW if not one.resolved else 0 if one.better else 1
        text = f"{one.number(one.difference.value)} {one.ends}"
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
        names=[("better", 0), ("worse", 1), ("not resolved", HOLLOW)],
    )
    return figure(chart, name, caption="Intervals are corrected for the number of primary contrasts (Holm).")


def corruption_details(answers: "StudyAnswers", labels: StudyLabels, key: ScoreKey) -> dict[str, dict[str, Any]]:
    """Return the accuracy under corruptions of the cells that the contrasts compare, by their names."""
    several = ((labels.cell(levels), _corruptions(answers, levels, key)) for levels in compared(answers, labels))
    return {name: details for name, details in several if details}


def compared(answers: "StudyAnswers", labels: StudyLabels) -> list[Levels]:
    """Return the levels that primary contrasts compare, else all; at most as many as there are styles."""
    sides = [side for one in answers.contrasts if one.primary for side in (one.other, one.one)]
    complete = [answers.results.study.complete(side) for side in sides]
    chosen = [levels for levels in labels.combinations if levels in complete] or labels.combinations
    return chosen[:STYLES]


def _corruptions(answers: "StudyAnswers", levels: Levels, key: ScoreKey) -> dict[str, Any]:
    """Return the accuracy in percent on clean images and by corruption and severity, means over seeds; {} if none."""
    scores = [cell.score(*key) for cell in answers.results.of(levels).values()]
    details = [score.details for score in scores if score is not None and "accuracy" in score.details]
    if not details:
        return {}
    names = list(details[0]["accuracy"])
    table = {
        name: [fmean(several) for several in zip(*(one["accuracy"][name] for one in details), strict=True)]
        for name in names
    }
    return {"accuracy": table, "clean": fmean(one["clean"] for one in details), "severities": details[0]["severities"]}


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
        (name, figure(loss_chart(name, runs, reach=ends), f"curve-{number}", small=True, keyed=False))
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
            seconds = fmean(getattr(cost, f"{part}_seconds") for cost in costs)
            bars.append(BarPart(seconds / 3600, style, f"{labels.cell(levels)}, {part}: {duration(seconds)}"))
        total = duration(3600 * sum(bar.value for bar in bars))
        rows.append(ChartRow(labels.cell(levels), bars=bars, text=total))
    spoken = "; ".join(bar.tip for row in rows for bar in row.bars)
    names = [(part, style) for style, part in enumerate(PARTS)]
    return figure(
        RowChart("Hours of a run", spoken, rows, Axis("hours of a run"), zero=True, names=names), "cost-chart"
    )
