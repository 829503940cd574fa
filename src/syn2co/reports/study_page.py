"""The page of a study: its answers, the figure behind them, every number, and what repeats it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from syn2co.reports.page_parts import PARTS, duration, finite, page_file, plural, public_text, signed, write_page
from syn2co.reports.robustness_figures import corruption_table, severity_chart
from syn2co.reports.study_figures import (
    compared,
    corruption_details,
    cost_chart,
    curve_legend,
    first_drawn,
    forest,
    headline,
    training_curves,
)
from syn2co.reports.study_labels import StudyLabels
from syn2co.reports.study_tables import (
    cells_table,
    contrasts_table,
    cost_table,
    health_tables,
    processor_hours,
    provenance_table,
)
from syn2co.reports.training_figures import has_negatives, losses, negatives_charts
from syn2co.studies.comparisons import ContrastResult

if TYPE_CHECKING:
    from syn2co.studies.answers import StudyAnswers
    from syn2co.studies.results import CellResult, Cost
    from syn2co.studies.sentences import QuestionAnswer

QUESTIONS = {
    "random": "Does pretraining beat a random encoder?",
    "fake": "Does faking images help?",
    "enough": "How many real images are enough, and do faked ones help?",
    "ratio": "Which ratio of synthetic to real?",
    "negatives": "Do synthetic negatives help?",
    "views": "Do other views help?",
    "robust": "Does it hold on corrupted images?",
    "transfers": "Does it transfer to other data?",
}
"""Questions of the page in their order."""
_LACKING = {"no common seed": "with no common seed", "no such score": "with no such score"}
FORESTS = 6
"""Most scores on other data whose differences are drawn."""


class Verdict(NamedTuple):
    """A question with its answer in a line, what else is known, the full text, and a badge: resolved or not."""

    question: str
    lead: str
    more: str
    full: str
    kind: str
    badge: str


def write_study_page(answers: "StudyAnswers", out: Path, *, pictures: Mapping[str, bytes] | None = None) -> Path:
    """Write the page of a study, one HTML file that fetches nothing.

    Args:
        answers: of `syn2co.studies.answers.answer`.
        out: the file, or the folder in which it becomes study.html.
        pictures: caption -> PNG, such as real beside synthetic images, or nearest neighbors.

    Returns:
        The path of the page.

    Raises:
        FileError: if it would have more than 5 MB (pictures are most of a page), or cannot be written.
    """
    results, labels = answers.results, StudyLabels(answers.results, answers.headline)
    return write_page(
        page_file(out, "study.html"),
        "study.html.j2",
        pictures=pictures or {},
        title=results.study.title,
        kicker=_kicker(answers),
        verdicts=verdicts(answers, labels),
        notes=[public_text(note) for note in answers.notes],
        contents=_contents(answers, labels, bool(pictures)),
        headline=headline(answers, labels),
        rule=_rule(answers),
        **_sections(answers, labels),
    )


def _sections(answers: "StudyAnswers", labels: StudyLabels) -> dict[str, Any]:
    """Return the values of the template for all parts below the headline."""
    first, results = labels.first, answers.results
    primary = [contrast for contrast in answers.contrasts if contrast.primary]
    explored = [contrast for contrast in answers.contrasts if not contrast.primary]
    others = [key for key in labels.plain if key != first]
    main = [key for key in labels.robust if key.protocol == "robustness"][:1]
    corrupted, damaged = corruption_details(answers, labels, main[0]) if main else ({}, "")
    corrupted, cut = first_drawn(corrupted)
    runs = {labels.cell(levels): [cell.curves for cell in answers.results.of(levels).values()]
            for levels in compared(answers, labels)}  # fmt: skip
    runs, runs_cut = first_drawn({name: several for name, several in runs.items() if has_negatives(several)})
    return {
        "cells": cells_table(answers, labels, labels.plain, "Scores of every cell on the given test images"),
        "forest": first and forest(answers, labels, first, "contrasts"),
        "contrasts": contrasts_table(labels, primary, [first] if first else [], "Primary contrasts"),
        "other_contrasts": contrasts_table(labels, primary, others, "Primary contrasts on the other scores"),
        "explored": contrasts_table(labels, explored, [first] if first else [], "Exploratory differences"),
        "robust": cells_table(answers, labels, labels.robust, "Scores on changed test images"),
        "severities": severity_chart(corrupted, " ".join(filter(None, [cut, damaged]))),
        "corruptions": corruption_table(corrupted, cut),
        "robust_contrasts": contrasts_table(labels, primary, labels.robust, "Contrasts on changed test images"),
        "transfer": cells_table(answers, labels, labels.transfer, "Scores on other data sets"),
        "transfer_forests": [figure for number, key in enumerate(labels.transfer[:FORESTS])
                             if (figure := forest(answers, labels, key, f"transfer-{number}"))],
        "forests_cut": f"The first {FORESTS} of {len(labels.transfer)} scores." * (len(labels.transfer) > FORESTS),
        "transfer_contrasts": contrasts_table(labels, primary, labels.transfer, "Contrasts on other data sets"),
        "curves": training_curves(answers, labels),
        "trained": len({tuple(cell.levels.values()) for cell in results.cells if cell.curves}),
        "seeds": curve_legend(answers),
        "negatives": negatives_charts(runs),
        "negatives_cut": runs_cut,
        "health": health_tables(answers, labels),
        "cost": cost_table(answers, labels),
        "cost_chart": cost_chart(answers, labels),
        "total": _total(answers),
        "provenance": provenance_table(answers, labels),
        "commands": [(labels.cell(cell.levels), cell.seed, [public_text(line) for line in cell.commands])
                     for cell in results.cells if cell.commands],
        "untrained": sum(labels.untrained(cell.levels) and not cell.commands for cell in results.cells),
        "protocols": _protocols(answers),
        "shared": list(dict.fromkeys((name, public_text(value)) for cell in results.cells
                                     for name, value in cell.shared.items())),
    }  # fmt: skip


def verdicts(answers: "StudyAnswers", labels: StudyLabels) -> list[Verdict]:
    """Return the questions that the study answers in the order of the page."""
    several = []
    for question, title in QUESTIONS.items():
        if answer := answers.questions.get(question):
            lead, more, full = (signed(public_text(part)) for part in _texts(answer, answers.results.study.versus))
            several.append(Verdict(title, lead, more, full, *_badge(answer.contrasts, len(answer.missing))))
    return several


def _texts(answer: "QuestionAnswer", versus: str | None) -> tuple[str, str, str]:
    """Return an answer in a line, what the study says beyond its comparisons, and the full text if it says more."""
    if len(answer.contrasts) < 2:
        return f"{answer.first} {answer.said}".strip(), answer.more, ""
    lead = _lead(answer)
    if answer.first:
        faked = versus and all(one.one[versus] != one.other[versus] for one in answer.contrasts)
        lead = f"{answer.first} {'Faked ones' if faked else 'As planned'}: {lead[:1].lower()}{lead[1:]}"
    return lead, answer.more, answer.text


def _lead(answer: "QuestionAnswer") -> str:
    """Return several comparisons in one line, and how many have no result and why."""
    contrasts = answer.contrasts
    parts = {
        "better": [one for one in contrasts if one.resolved and one.better],
        "worse": [one for one in contrasts if one.resolved and not one.better],
        "not resolved": [one for one in contrasts if one.tested and not one.resolved],
        "one seed": [one for one in contrasts if not one.tested],
    }
    parts = {word: several for word, several in parts.items() if several}
    counts = Counter(missing.reason for missing in answer.missing)
    lacking = "".join(f", {count} {_LACKING.get(reason, reason)}" for reason, count in counts.items())
    if not parts.keys() & {"better", "worse"}:
        once = len(parts.get("one seed", ()))
        one_seed = "" if not once else " (one seed)" if once == len(contrasts) else f" ({once} with one seed)"
        return f"None of {len(contrasts)} comparisons is resolved{one_seed}: measured {_range(contrasts)}{lacking}."
    total = f" of {len(contrasts)} comparisons" if len(parts) > 1 else " comparisons"
    said = []
    for word, several in parts.items():
        count = f"{len(several)}{'' if said else total}" if len(parts) > 1 else f"all {len(several)}{total}"
        said.append(f"{word} in {count}{f' ({_range(several)})' if several[0].resolved else ''}")
    text = ", ".join(said) + lacking
    return f"{text[:1].upper()}{text[1:]}."


def _range(contrasts: Sequence[ContrastResult]) -> str:
    """Return the smallest and the largest of some differences, those in points first."""
    said = []
    for several in ([one for one in contrasts if one.percent is percent] for percent in (True, False)):
        if several:
            values = sorted(one.difference.value for one in several)
            numbers = dict.fromkeys(several[0].number(value) for value in (values[0], values[-1]))
            said.append(f"{' to '.join(numbers)}{' points' if several[0].percent else ''}")
    return ", ".join(said)


def _badge(contrasts: Sequence[ContrastResult], lacking: int) -> tuple[str, str]:
    if not contrasts:
        return "once", "no comparison yet"
    if not any(contrast.tested for contrast in contrasts):
        return "once", "one seed"
    resolved, count = sum(contrast.resolved for contrast in contrasts), len(contrasts) + lacking
    if resolved == count:
        return "good", "✓ resolved"
    return "open", f"≈ {resolved} of {count} resolved" if resolved else "≈ not resolved"


def _kicker(answers: "StudyAnswers") -> str:
    results = answers.results
    planned = len(results.study.cells())
    return (
        f"Study “{results.study.name}” · recipe {results.study.recipe} · {len(results.cells)} of "
        f"{plural(planned, 'run')} · {plural(results.study.seeds, 'seed')}"
    )


def _rule(answers: "StudyAnswers") -> str:
    """Return in a sentence by what rule the trained cells are compared: steps, epochs, distinct images, or the k-NN."""
    cells = [cell for cell in answers.results.cells if cell.steps]
    knn = [cell.config.get("online_knn") for cell in cells]
    patience = [one.get("patience") if isinstance(one, Mapping) else None for one in knn]
    steps = sorted(cell.steps for cell in cells)
    if not steps:
        return ""
    if any(patience):
        many = "runs" if all(patience) else f"{sum(map(bool, patience))} of {plural(len(cells), 'run')}"
        return f"Rule of comparison: {many} end where their online k-NN stands still; they took {_span(steps)} steps."
    distinct = _equal_distinct_images(cells)
    if steps[0] < steps[-1]:
        epochs = {str(_setting(cell, "training", "epochs")) for cell in cells}
        by_epochs = len(epochs) == 1 and all(_setting(cell, "training", "steps") is None for cell in cells)
        rule = "none, since runs took"
        if by_epochs and "None" not in epochs:
            rule = f"equal epochs, {epochs.pop()} in every run, which took"
        return f"Rule of comparison: {rule} {_span(steps)} steps{distinct}."
    return f"Rule of comparison: equal steps, {steps[0]:,} in every run{distinct or ', whatever images it sees'}."


def _equal_distinct_images(cells: "Sequence[CellResult]") -> str:
    """Return the end of a sentence if runs draw from other sides, but from one number of distinct images."""
    sides = {"real": (0,), "synthetic": (1,)}
    limits = [tuple(_setting(cell, "mix", name) for name in ("max_real", "max_synthetic")) for cell in cells]
    drawn = [
        [limit[side] for side in sides.get(str(_setting(cell, "mix", "mode")), (0, 1))]
        for cell, limit in zip(cells, limits, strict=True)
    ]
    totals = {sum(parts) if all(isinstance(part, int) for part in parts) else None for parts in drawn}
    if len(totals) > 1 or None in totals or len(set(map(tuple, drawn))) == 1:
        return ""
    return f" and at most {totals.pop():,} distinct images"


def _setting(cell: "CellResult", group: str, name: str) -> Any:
    """Return a setting of a cell's run, None if its file has none of that name."""
    values = cell.config.get(group)
    return values.get(name) if isinstance(values, Mapping) else None


def _span(steps: Sequence[int]) -> str:
    return f"{steps[0]:,} to {steps[-1]:,}" if steps[0] < steps[-1] else f"{steps[0]:,}"


def _contents(answers: "StudyAnswers", labels: StudyLabels, pictures: bool) -> list[tuple[str, str]]:
    results = answers.results
    parts = [
        ("figure", "Figure", bool(results.cells)), ("contrasts", "Differences", bool(answers.contrasts)),
        ("cells", "All cells", bool(results.cells)), ("robustness", "Robustness", bool(labels.robust)),
        ("transfer", "Transfer", bool(labels.transfer)),
        ("training", "Training", any(losses(cell.curves) for cell in results.cells)),
        ("health", "Health", any(cell.health for cell in results.cells)),
        ("pictures", "Pictures", pictures or bool(results.cells)),
        ("cost", "Cost", bool(results.cells)), ("repeat", "Repeat it", bool(results.cells)),
    ]  # fmt: skip
    return [(anchor, name) for anchor, name, shown in parts if shown]


def _total(answers: "StudyAnswers") -> str:
    costs = [cell.cost for cell in answers.results.cells]
    names = [*(f"{part}_seconds" for part in PARTS), "images_made"]
    known = [cost for cost in costs if all(finite(getattr(cost, name)) is not None for name in names)]
    parts = {part: sum(getattr(cost, f"{part}_seconds") for cost in known) for part in PARTS}
    words = ", ".join(f"{duration(seconds)} {part}" for part, seconds in parts.items())
    lacking = f" Without {plural(len(costs) - len(known), 'run')} of unknown cost." if len(known) < len(costs) else ""
    made = sum(cost.images_made for cost in known)
    wall = f"{duration(sum(parts.values()))} of wall time in all: {words}"
    return "; ".join([wall, *_processors(known), f"{made:,} images made."]) + lacking


def _processors(costs: Sequence["Cost"]) -> list[str]:
    """Return the hours of cores and of GPUs that runs took, if all of them tell."""
    hours = [processor_hours(cost) for cost in costs]
    told = [hour for hour in hours if hour is not None]
    kinds = dict.fromkeys(kind for kind, _ in told)
    sums = [f"{sum(value for one, value in told if one == kind):,.1f} {kind} hours" for kind in kinds]
    return sums if len(told) == len(hours) else []


def _protocols(answers: "StudyAnswers") -> list[tuple[str, str, str, str]]:
    """Return protocol, data, setting and hash of every score once."""
    rows = (row for cell in answers.results.cells for row in cell.report.rows)
    return list(dict.fromkeys((row.protocol, row.data, row.setting, row.protocol_hash) for row in rows))
