"""Tables of a study's page: cells, contrasts, corruptions, health, cost, and what repeats each number."""

import json
import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from syn2co.reports.page_parts import (
    PARTS,
    Column,
    Item,
    PageTable,
    duration,
    finite,
    mean,
    plural,
    public_text,
    signed,
)
from syn2co.reports.study_labels import StudyLabels
from syn2co.studies.comparisons import CellEstimate, ContrastResult, ScoreTable
from syn2co.studies.results import CellResult, ScoreKey
from syn2co.studies.statistics import LEVEL, holm

if TYPE_CHECKING:
    from syn2co.studies.answers import StudyAnswers
    from syn2co.studies.results import Cost

_TAGS = {"tied": "not resolved", "best": "best"}


def cells_table(
    answers: "StudyAnswers", labels: StudyLabels, keys: Sequence[ScoreKey], caption: str
) -> PageTable | None:
    """Return a row per cell with its scores; the best of each is marked, and those that are not resolved against it."""
    if not keys:
        return None
    columns = [Column(factor) for factor in labels.factors]
    columns += [Column(labels.score(key), descending=labels.row(key).higher_is_better) for key in keys]
    marks = {key: against_best(answers, labels, key) for key in keys}
    best = {key: answers.estimate(answers.best(key) or {}, key) for key in keys}
    once = {key: cell is not None and cell.estimate.seeds == 1 for key, cell in best.items()}
    rows = []
    for number, levels in enumerate(labels.combinations):
        scores = [answers.estimate(levels, key) for key in keys]
        if not any(scores):
            continue
        names = [Item(levels[factor]) for factor in labels.factors]
        seeds = answers.results.study.seeds
        marked = zip(scores, (marks[key].get(number, "") for key in keys), (once[key] for key in keys), strict=True)
        items = [_score(cell, mark, seeds, best_once=best) for cell, mark, best in marked]
        rows.append([*names, *items])
    return PageTable(caption, columns, rows)


def _score(cell: CellEstimate | None, mark: str, seeds: int, *, best_once: bool = False) -> Item:
    if cell is None:
        return Item("none", last=True)
    form, value = (".1f" if cell.percent else ".3g"), cell.estimate
    low, high = finite(value.low), finite(value.high)
    ends = "" if low is None or high is None else signed(f"[{low:{form}}, {high:{form}}]")
    if mark == "once":
        why = "one seed" if value.seeds == 1 else "the best has one seed" if best_once else "less than two common seeds"
        tags = [f"not compared: {why}"]
    else:
        tags = [_TAGS[mark]] if mark else []
    if value.seeds < seeds and not (mark == "once" and value.seeds == 1):
        tags.append(f"{value.seeds} of {plural(seeds, 'seed')}")
    return Item(signed(f"{value.value:{form}}"), value.value, ends, ", ".join(tags), mark)


def against_best(answers: "StudyAnswers", labels: StudyLabels, key: ScoreKey) -> dict[int, str]:
    """Return, by the cell's place in `labels.combinations`, "best", "tied" if it is not resolved against it, or "once".

    Paired by seed and test image; Holm over the cells. "once": the two have less than two seeds in common, so that
    nothing can be said.
    """
    best, scored = answers.best(key), [one for one in answers.estimates if one.key == key]
    if best is None or len(scored) < 2:
        return {}
    table, p = ScoreTable(answers.results, key), dict[int, float]()
    marks = {labels.combinations.index(best): "best"}
    for number, levels in enumerate(labels.combinations):
        if levels == best or answers.estimate(levels, key) is None:
            continue
        change = table.difference(best, levels)
        if change is None or change.seeds == 1:
            marks[number] = "once"
        else:
            p[number] = change.p
    # Those without a p count with p = 1, so that nothing missing makes a mark stronger.
    lacking = len(list(answers.results.study.combinations())) - 1 - len(p)
    adjusted = zip(p, holm([*p.values(), *[1.0] * lacking])[: len(p)], strict=True)
    return {number: "tied" for number, value in adjusted if value > 1 - LEVEL} | marks


def contrasts_table(
    labels: StudyLabels, contrasts: Sequence[ContrastResult], keys: Sequence[ScoreKey], caption: str
) -> PageTable:
    """Return a row per contrast and score of `keys`: the difference, its interval, and what was resolvable."""
    columns = [
        Column("contrast"), *([Column("score")] if len(keys) > 1 else []), Column("difference", True),
        Column("p (Holm)"), Column("P(better)", True), Column("verdict"), Column("smallest resolvable"),
        Column("seeds for 1 point"),
    ]  # fmt: skip
    rows = []
    for one in (contrast for contrast in contrasts if contrast.key in keys):
        change = one.difference
        once = change.seeds == 1
        p = "not tested" if once else "< 0.001" if one.adjusted_p < 0.001 else f"{one.adjusted_p:.3f}"
        better = "–" if once else f"{100 * change.improvement:.0f} %"
        rows.append(
            [
                Item(one.name),
                *([Item(labels.score(one.key))] if len(keys) > 1 else []),
                Item(signed(f"{one.number(change.value)} {one.ends}"), change.value, plural(change.seeds, "seed")),
                Item(p, one.adjusted_p, last=once),
                Item(better, change.improvement, last=once),
                Item(_verdict(one)),
                _smallest(one),
                _seeds(one),
            ]
        )
    return PageTable(caption, columns, rows)


def _verdict(contrast: ContrastResult) -> str:
    if contrast.resolved:
        return "better" if contrast.better else "worse"
    return "one seed" if contrast.difference.seeds == 1 else "not resolved"


def _smallest(contrast: ContrastResult) -> Item:
    smallest = contrast.difference.smallest
    if smallest is None:
        return Item("not known", last=True)
    return Item(f"{smallest:.1f}" if contrast.percent else f"{smallest:.2g}", smallest)


def _seeds(contrast: ContrastResult) -> Item:
    """Return how many seeds one point takes; nothing where the unit has no points."""
    count = contrast.difference.seeds_for_one_point
    if not contrast.percent or contrast.difference.smallest is None:
        return Item("" if not contrast.percent else "not known", last=True)
    return Item("none: too few test images", last=True) if count is None else Item(f"{count:,}", count)


def health_tables(answers: "StudyAnswers", labels: StudyLabels) -> tuple[str, list[PageTable]]:
    """Return a sentence on the diagnoses of all runs, then those with something to look at and the others."""
    cells = [cell for cell in answers.results.cells if cell.health]
    parts = {
        "Runs with something to look at": [cell for cell in cells if _reasons(cell)],
        "Runs without a finding": [cell for cell in cells if not _reasons(cell)],
    }
    columns = [Column("cell"), Column("seed"), Column("steps", True), Column("diagnosis"), Column("to look at")]
    tables = [
        PageTable(title, columns, [_health(cell, labels) for cell in several]) for title, several in parts.items()
    ]
    failing = sum(_fails(cell) for cell in cells)
    sentence = f"{failing} of {plural(len(cells), 'run')} {'has' if failing == 1 else 'have'} a problem."
    return sentence, tables if cells else []


def _health(cell: CellResult, labels: StudyLabels) -> list[Item]:
    return [
        Item(labels.cell(cell.levels)), Item(str(cell.seed), cell.seed), Item(f"{cell.steps:,}", cell.steps),
        Item(public_text(str(cell.health.get("headline", "")))), Item(public_text("; ".join(_reasons(cell)))),
    ]  # fmt: skip


def _fails(cell: CellResult) -> bool:
    return any(finding.get("level") == "fail" for finding in cell.health.get("findings", ()))


def _reasons(cell: CellResult) -> list[str]:
    findings = cell.health.get("findings", ())
    return [f"{one['check']}: {one['reason']}" for one in findings if one.get("level") in ("warn", "fail")]


def cost_table(answers: "StudyAnswers", labels: StudyLabels) -> PageTable:
    """Return the mean time of a cell by part, beside the score that it bought."""
    parts = (*PARTS, "images made", "core or GPU hours")
    columns = [Column("cell"), *(Column(name, True) for name in parts), Column("processor")]
    if labels.first:
        columns.append(Column(labels.score(labels.first), True))
    rows = []
    for levels in labels.combinations:
        costs = [cell.cost for cell in answers.results.of(levels).values()]
        seconds = [mean(getattr(cost, f"{part}_seconds") for cost in costs) for part in PARTS]
        images = mean(cost.images_made for cost in costs)
        row = [Item(labels.cell(levels)), *(_known(value, duration) for value in seconds)]
        row += [_known(images, "{:,.0f}".format), _hours(costs)]
        row.append(Item(", ".join(dict.fromkeys(cost.processors for cost in costs))))
        rows.append(row + ([_score(answers.estimate(levels, labels.first), "", 0)] if labels.first else []))
    return PageTable("Wall time per run, mean over seeds", columns, rows)


def processor_hours(cost: "Cost") -> tuple[str, float] | None:
    """Return "core" or "GPU" and the hours of all threads, or of all ranks; None if the processors do not tell."""
    told = re.fullmatch(r"(.+), (\d+) threads, (\d+) ranks", cost.processors)
    if told is None:
        return None
    threads, ranks = int(told[2]), int(told[3])
    kind, many = ("core", threads * ranks) if told[1] == "cpu" else ("GPU", ranks)
    return kind, cost.seconds / 3600 * many


def _hours(costs: Sequence["Cost"]) -> Item:
    """Return the mean core or GPU hours of runs on processors of one kind."""
    told = [hours for cost in costs if (hours := processor_hours(cost)) is not None]
    one_kind = len(told) == len(costs) and len({kind for kind, _ in told}) == 1
    return _known(mean(hours for _, hours in told) if one_kind else None, lambda hours: f"{hours:.2f} {told[0][0]} h")


def _known(value: float | None, form: Callable[[float], str]) -> Item:
    return Item("not known", last=True) if value is None else Item(form(value), value)


def provenance_table(answers: "StudyAnswers", labels: StudyLabels) -> PageTable:
    """Return what determines each cell: hashes of cell, settings, set and encoder, data, versions."""
    names = ("cell", "seed", "cell hash", "settings of the run", "set made for it", "encoder", "data", "versions")
    columns = [Column(name) for name in names]
    rows = []
    for cell in answers.results.cells:
        encoders = dict.fromkeys(row.encoder_hash for row in cell.report.rows)
        data = dict.fromkeys(row.data_fingerprint for row in cell.report.rows)
        rows.append(
            [Item(labels.cell(cell.levels)), Item(str(cell.seed), cell.seed), Item(cell.cell),
             Item(_settings_hash(cell)), Item(_set_hash(cell)), Item(", ".join(encoders)), Item(", ".join(data)),
             Item(_versions(cell))]
        )  # fmt: skip
    return PageTable("Hashes and fingerprints of each cell", columns, rows)


def _versions(cell: CellResult) -> str:
    """Return the versions that decide the last bits of a cell's scores; of syn2co the state of its files too."""
    names = [name for name in ("torch", "timm", "numpy", "opencv") if name in cell.machine]
    ours = f"syn2co {cell.version}{f' ({cell.source_hash})' if cell.source_hash else ''}"
    precision = [f"trained in {cell.precision}"] if cell.precision else []
    return ", ".join([ours, *(f"{name} {public_text(str(cell.machine[name]))}" for name in names), *precision])


def _settings_hash(cell: CellResult) -> str:
    """Return a hash of the resolved settings that the cell's file holds; empty if it holds none."""
    return _hash(json.dumps(cell.config, sort_keys=True)) if cell.config else ""


def _set_hash(cell: CellResult) -> str:
    """Return a hash of the settings of the synthetic images, which the first command writes; empty if none are made."""
    return next((_hash(line) for line in cell.commands[:1] if line.startswith("echo ")), "")


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()
