"""Which ratio? The best share of synthetic images of each curve, against none and against its neighbors."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from syn2co.studies.comparisons import (
    CellEstimate,
    CellPair,
    against,
    exploratory_comparisons,
    primary_comparisons,
    shown,
)
from syn2co.studies.evidence import StudyEvidence
from syn2co.studies.grid import Cell, Levels, Study
from syn2co.studies.statistics import ONE_SEED


def best_shares(evidence: StudyEvidence) -> list[str]:
    """Return the best share of synthetic images of each curve, against none and against its neighbors."""
    study = evidence.study
    curves: dict[tuple[str, str], list[ShareCell]] = {}
    for pair in primary_comparisons(study):
        if pair.question != "ratio":
            continue
        factor = next((name for name in (study.axis, study.versus) if name and pair.one[name] == pair.other[name]), "")
        for level in dict.fromkeys([pair.one[factor], *study.factors[factor]]) if factor else [""]:
            there = {factor: level} if factor else {}
            cells = _shares(study, pair._replace(one={**pair.one, **there}, other={**pair.other, **there}))
            several = factor and len(study.factors[factor]) > 1
            curves.setdefault((f"With {factor} {level}, the" if several else "The", _source(study, pair)), cells)
    # The best share is chosen by the scores, so every two shares of a curve count in the correction.
    pairs = [
        CellPair("", None, one.levels, other.levels)
        for cells in curves.values()
        for one, other in combinations(cells, 2)
    ]
    sources = {source for _, source in curves}
    texts = [
        _best_share(
            evidence, f"{where} best share of {source if len(sources) > 1 else 'synthetic'} images", cells, pairs
        )
        for (where, source), cells in curves.items()
    ]
    return [text for text in texts if text]


def _source(study: Study, pair: CellPair) -> str:
    """Return the source of the synthetic images of a comparison's cells."""
    return next((name for side in (pair.one, pair.other) if (name := Cell(study, side, 0).level.source)), "")


def _best_share(
    evidence: StudyEvidence, what: str, known: Sequence["ShareCell"], chosen_from: Sequence[CellPair]
) -> str:
    """Return the best share of one curve in words; empty with less than three, or without none."""
    study, key = evidence.study, evidence.headline
    table = evidence.tables[key]
    cells = [cell for cell in known if table.of(cell.levels)]
    if len(cells) < 3 or cells[0].share != 0:
        return ""
    sign = 1 if table.some.higher_is_better else -1
    best = max(range(len(cells)), key=lambda index: sign * _value(table.estimate(cells[index].levels)))
    others = list(
        dict.fromkeys(index for index in (0, best - 1, best + 1) if 0 <= index < len(cells) and index != best)
    )
    pairs = [CellPair(_percent(cells[index].share), None, cells[best].levels, cells[index].levels) for index in others]
    chosen = [{frozenset(pair.one.items()), frozenset(pair.other.items())} for pair in pairs]
    rest = [one for one in chosen_from if {frozenset(one.one.items()), frozenset(one.other.items())} not in chosen]
    beside = [*rest, *exploratory_comparisons(study)]
    explored = {result.name: result for result in table.compare(pairs, primary=False, beside=beside)}
    planned = [evidence.between(key, pair.one, pair.other) for pair in pairs]
    results = [
        result if result is not None and result.primary else explored.get(pair.name)
        for result, pair in zip(planned, pairs, strict=True)
    ]
    compared = [against(pair.name, result) for pair, result in zip(pairs, results, strict=True)]
    seeds = [len(table.of(cell)) for _, cell in cells]
    if seeds[best] == 1 or any(result is not None and not result.tested for result in results):
        compared.append(ONE_SEED)
    value, share = _value(table.estimate(cells[best].levels)), _percent(cells[best].share)
    number = f"{value:.1f} %" if table.some.percent else f"{value:.3g}"
    number += f", {'one seed' if seeds[best] == 1 else f'{seeds[best]} seeds'}"
    number += f"; others have up to {max(seeds)}" if max(seeds) > seeds[best] else ""
    return f"{what} is {share} ({shown(key)} {number}): {'; '.join(compared)}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _value(estimate: CellEstimate | None) -> float:
    assert estimate is not None
    return estimate.estimate.value


class ShareCell(NamedTuple):
    """A share of synthetic images and the cell that has it."""

    share: float
    levels: Levels


def _shares(study: Study, contrast: CellPair) -> list[ShareCell]:
    """Return the cells of the factors that a contrast changes, by their share of synthetic images, ascending."""
    changed = [factor for factor in study.factors if contrast.one[factor] != contrast.other[factor]]
    fixed = {factor: level for factor, level in contrast.one.items() if factor not in changed}
    source = _source(study, contrast)
    shares: dict[float, Levels] = {}
    cells = list(study.combinations())
    for levels in (*(side for side in (contrast.one, contrast.other) if side in cells), *cells):
        level = Cell(study, levels, 0).level
        if level.images != "real" and level.source != source:
            continue  # another curve
        share = {"real": 0.0, "synthetic": 1.0, "mixed": level.share}.get(level.images or "")
        if share is not None and fixed.items() <= levels.items():
            shares.setdefault(share, levels)
    return [ShareCell(*item) for item in sorted(shares.items())]
