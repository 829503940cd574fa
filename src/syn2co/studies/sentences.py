"""One sentence per question of a study, from the comparisons and the scores of its headline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import exp, log
from typing import NamedTuple

from syn2co.evaluation.scores import Score
from syn2co.studies.comparisons import (
    GIVEN,
    CellEstimate,
    CellPair,
    ContrastResult,
    MissingContrast,
    ScoreTable,
    exploratory_comparisons,
    primary_comparisons,
    resolvable,
    shown,
    why_missing,
)
from syn2co.studies.grid import Cell, Levels, Study
from syn2co.studies.results import ScoreKey, StudyResults
from syn2co.studies.statistics import ONE_SEED

ROBUST = ("robustness", "corrupt", "imagenet")
"""Beginnings of the protocols that score changed or other images of the same classes."""


@dataclass(frozen=True)
class StudyEvidence:
    """All comparisons of a study, and its scores by name."""

    results: StudyResults
    tables: Mapping[ScoreKey, ScoreTable]
    contrasts: Sequence[ContrastResult]

    @property
    def study(self) -> Study:
        return self.results.study

    @property
    def headline(self) -> ScoreKey:
        """The score that decides: the study's first protocol on the given test images, else the first there is."""
        first = self.study.protocols[0]
        keys = [key for key in self.tables if key.data in GIVEN and key.protocol.startswith(first)]
        exact = [key for key in keys if key.protocol == first]
        return (exact or keys or list(self.tables))[0]

    def primary(self, key: ScoreKey | None, pairs: Sequence[CellPair]) -> list[ContrastResult]:
        """Return the results of some planned comparisons in one score; None is a score of no cell."""
        names = {pair.name for pair in pairs}
        return [result for result in self.contrasts if result.primary and result.key == key and result.name in names]

    def missing(self, key: ScoreKey | None, pairs: Sequence[CellPair]) -> list[MissingContrast]:
        """Return those planned comparisons that have no result in one score."""
        table, known = None if key is None else self.tables[key], {one.name for one in self.primary(key, pairs)}
        lacking = [pair for pair in pairs if pair.name not in known]
        return [MissingContrast(pair.name, why_missing(self.results, pair, table)) for pair in lacking]

    def between(self, key: ScoreKey, one: Levels, other: Levels) -> ContrastResult | None:
        """Return the comparison of two cells, whichever was planned as the first; the primary one before the others."""
        results = [result for result in self.contrasts if result.key == key]
        pairs = [result for result in results if (result.one, result.other) == (one, other)]
        pairs += [result.reverse for result in results if (result.other, result.one) == (one, other)]
        return min(pairs, key=lambda result: not result.primary, default=None)


@dataclass(frozen=True)
class QuestionAnswer:
    """What a study says to one question."""

    contrasts: Sequence[ContrastResult]
    """The comparisons on whose resolution it rests, of one score or several."""
    missing: Sequence[MissingContrast]
    """The planned ones among them that have no result, by score."""
    said: str
    """All of them in words."""
    more: str
    """What else is known; empty if nothing is."""

    @property
    def text(self) -> str:
        """The whole answer."""
        return f"{self.said} {self.more}".strip()


def question_answers(evidence: StudyEvidence) -> dict[str, QuestionAnswer]:
    """Return the answer to each question that the study asks or has scores for."""
    pairs, first = primary_comparisons(evidence.study), evidence.headline if evidence.tables else None
    answers: dict[str, QuestionAnswer] = {}
    more: dict[str, Callable[[StudyEvidence], list[str]]] = {"enough": _enough, "ratio": _ratio}
    for question in dict.fromkeys(contrast.question for contrast in evidence.study.contrasts):
        texts = more[question](evidence) if question in more and evidence.tables else []
        answers[question] = _answer(evidence, [first], [pair for pair in pairs if pair.question == question], texts)
    rows = {key: table.some for key, table in evidence.tables.items()}
    transfer = transfer_scores(rows, evidence.study.protocols[0])
    trained = [pair for pair in pairs if pair.question != "random"] or pairs
    untrained = [pair for pair in pairs if pair not in trained]
    for question, keys in (("robust", robustness_scores(rows)), ("transfers", transfer)):
        if keys and pairs:
            apart = [text for key in keys if (text := _one_by_one(evidence, key, untrained))]
            answers[question] = _answer(evidence, keys, trained, apart)
    return answers


def _answer(
    evidence: StudyEvidence, keys: Sequence[ScoreKey | None], pairs: Sequence[CellPair], more: Sequence[str]
) -> QuestionAnswer:
    by_key = [(evidence.primary(key, pairs), evidence.missing(key, pairs)) for key in keys]
    return QuestionAnswer(
        [result for results, _ in by_key for result in results],
        [one for _, missing in by_key for one in missing],
        " ".join(summary(results, missing) for results, missing in by_key),
        " ".join(more),
    )


def _one_by_one(evidence: StudyEvidence, key: ScoreKey, pairs: Sequence[CellPair]) -> str:
    """Return a sentence for each comparison; those with a random encoder say nothing of the ways to train."""
    said = [result.sentence for result in evidence.primary(key, pairs)]
    return " ".join([*said, *_lacking(evidence.missing(key, pairs))])


def _lacking(missing: Sequence[MissingContrast]) -> list[str]:
    """Return a sentence per reason for which comparisons have no result."""
    reasons = dict.fromkeys(one.reason for one in missing)
    names = {reason: "; ".join(one.name for one in missing if one.reason == reason) for reason in reasons}
    return [f"{reason[:1].upper()}{reason[1:]}: {several}." for reason, several in names.items()]


def summary(results: Sequence[ContrastResult], missing: Sequence[MissingContrast]) -> str:
    """Return the comparisons of one score in words: which are resolved, which not, which have no result and why."""
    rest = "".join(f" {text}" for text in _lacking(missing))
    if len(results) < 2:
        return (results[0].sentence if results else "No answer yet.") + rest
    score, first = shown(results[0].key), results[0]
    lower = "" if first.higher_is_better else ", where lower is better"
    unit = f"points of {score}" if first.percent else score
    better, worse = ([one for one in results if one.resolved and one.better is side] for side in (True, False))
    open_ones = [result for result in results if result.tested and not result.resolved]
    once = [result for result in results if not result.tested]
    parts = {"Resolved": better, "Resolved, for the worse": worse, "Not resolved": open_ones,
             f"Not tested ({ONE_SEED})": once}  # fmt: skip
    said = [f"{title}: {'; '.join(one.brief for one in several)}{_closing(several) if several is open_ones else ''}."
            for title, several in parts.items() if several]  # fmt: skip
    count = len(better) + len(worse)
    text = f"{count or 'None'} of {len(results)} comparisons {'is' if count < 2 else 'are'} resolved ({unit}{lower})."
    return " ".join([text, *said]) + rest


def _closing(results: Sequence[ContrastResult]) -> str:
    """Return what those that are not resolved could have shown at best, by the one that was measured worst."""
    known = [result for result in results if result.difference.smallest is not None]
    if not known:
        return ""
    worst = max(known, key=lambda result: result.difference.smallest or 0)
    return f"; {resolvable(worst)}{' (the least certain one)' if len(known) > 1 else ''}"


class CurvePoint(NamedTuple):
    """A number of real images on the curve of real images alone, and what the faked ones add to the cell against it;
    positive is better."""

    number: float
    value: float
    low: float
    high: float


def _enough(evidence: StudyEvidence) -> list[str]:
    """Return whether more real images help, and per curve that is better somewhere, where, and what it is worth."""
    study, key = evidence.study, evidence.headline
    numbers = axis_numbers(study)
    texts = _alone(evidence, numbers)
    for level in _curves(study) if numbers else []:
        results = {name: evidence.between(key, _at(study, level, name), _at(study, None, name)) for name in numbers}
        known = {name: result for name, result in results.items() if result is not None}
        if helped := [name for name, result in known.items() if result.resolved and result.better]:
            texts.append(_where(level, known, helped, study.axis or ""))
            texts += [text for name in helped if (text := _worth(evidence, level, name))]
    return texts


def _alone(evidence: StudyEvidence, numbers: Mapping[str, float]) -> list[str]:
    """Return the numbers of real images alone against the baseline's, in one sentence."""
    study = evidence.study
    if not numbers or study.versus is None or study.axis is None:
        return []
    least, level = study.baseline[study.axis], study.baseline[study.versus]
    if Cell(study, study.complete({}), 0).level.images not in ("real", None):
        return []
    results = {
        name: evidence.between(evidence.headline, _at(study, None, name), study.complete({}))
        for name in numbers
        if name != least
    }
    said = [f"{name} {_against(least, result)}" for name, result in results.items() if result is not None]
    return [f"{level[:1].upper()}{level[1:]}, {study.axis}: {'; '.join(said)}."] if said else []


def _curves(study: Study) -> list[str]:
    """Return the curves with faked images that contrasts on the number of images name."""
    if study.versus is None:
        return []
    asked = [pair.one[study.versus] for pair in primary_comparisons(study) if pair.question == "enough"]
    return [level for level in study.factors[study.versus] if level in asked and level != study.baseline[study.versus]]


def _at(study: Study, level: str | None, name: str) -> Levels:
    """Return the cell of one curve, the baseline's if None, at one number of real images."""
    assert study.axis is not None and study.versus is not None
    return study.complete({study.axis: name, **({} if level is None else {study.versus: level})})


def axis_numbers(study: Study) -> dict[str, float]:
    """Return the levels of the axis with their numbers, ascending; empty if one is no positive number."""
    try:
        numbers = {name: float(name.replace(",", "").replace("_", "")) for name in study.factors[study.axis or ""]}
    except (KeyError, ValueError):
        return {}
    return dict(sorted(numbers.items(), key=lambda item: item[1])) if min(numbers.values()) > 0 else {}


def _where(level: str, known: Mapping[str, ContrastResult], helped: Sequence[str], axis: str) -> str:
    """Return at which numbers of real images a curve is better than real images alone."""
    worse = [name for name, result in known.items() if result.resolved and not result.better]
    once = [name for name, result in known.items() if not result.tested]
    open_ones = [name for name in known if name not in (*helped, *worse, *once)]
    parts = [f"better with {_list(helped)} {axis}"]
    parts += [f"not resolved with {_list(open_ones)}"] if open_ones else []
    parts += [f"one seed with {_list(once)}"] if once else []
    parts += [f"worse with {_list(worse)}"] if worse else []
    primary = all(known[name].primary for name in (*helped, *worse))
    return f"{level[:1].upper() + level[1:]}: {', '.join(parts)}{'' if primary else ' (exploratory)'}."


def _worth(evidence: StudyEvidence, level: str, name: str) -> str:
    """Return how many real images alone score like this number of them with faked ones; empty if nothing supports it.

    The cell is compared with each larger point of the curve of real images alone; the numbers at which the difference
    and the ends of its 95 % interval reach zero are interpolated on the logarithm of the number.
    """
    study, table = evidence.study, evidence.tables[evidence.headline]
    numbers, sign = axis_numbers(study), 1 if table.some.higher_is_better else -1
    points = []
    for other, number in numbers.items():
        if number < numbers[name]:
            continue
        change = table.difference(_at(study, level, name), _at(study, None, other))
        if change is None or change.seeds == 1:
            continue
        low, high = sorted((sign * change.low, sign * change.high))
        points.append(CurvePoint(number, sign * change.value, low, high))
    if len(points) < 2 or points[0].low <= 0:
        return ""
    least, number, most = (_crossing(points, end) for end in ("low", "value", "high"))
    if least is None:
        worth = f"more than {points[-1].number:,.0f} alone"
    elif number is None or most is None:
        worth = f"at least {_round(least):,} alone"
    else:
        worth = f"about {_round(number):,} alone [{_round(least):,} to {_round(most):,}]"
    return f"{name} {study.axis} with {level} are worth {worth} (exploratory)."


def _crossing(points: Sequence[CurvePoint], end: str) -> float | None:
    """Return the number at which a line through the points reaches zero, None if it stays above."""
    for before, after in zip(points, points[1:], strict=False):
        first, second = getattr(before, end), getattr(after, end)
        if first > 0 >= second:
            share = first / (first - second)
            return exp(log(before.number) + share * (log(after.number) - log(before.number)))
    return None


def _round(number: float) -> int:
    """Return a number with two digits that count."""
    return int(float(f"{number:.2g}"))


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _ratio(evidence: StudyEvidence) -> list[str]:
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
    compared = [_against(pair.name, result) for pair, result in zip(pairs, results, strict=True)]
    seeds = [len(table.of(cell)) for _, cell in cells]
    if seeds[best] == 1 or any(result is not None and not result.tested for result in results):
        compared.append(ONE_SEED)
    value, share = _value(table.estimate(cells[best].levels)), _percent(cells[best].share)
    number = f"{value:.1f} %" if table.some.percent else f"{value:.3g}"
    number += f", {'one seed' if seeds[best] == 1 else f'{seeds[best]} seeds'}"
    number += f"; others have up to {max(seeds)}" if max(seeds) > seeds[best] else ""
    return f"{what} is {share} ({shown(key)} {number}): {'; '.join(compared)}."


def _against(name: str, result: ContrastResult | None) -> str:
    """Return the difference to one other share in words."""
    if result is None:
        return f"against {name} no common seed"
    verdict = "resolved" if result.resolved else "not resolved" if result.tested else "one seed"
    verdict += ", for the worse" if result.resolved and not result.better else ""
    how = "" if result.primary else ", exploratory"
    return f"against {name} {result.number(result.difference.value)} {result.ends}, {verdict}{how}"


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


def robustness_scores(rows: Mapping[ScoreKey, Score]) -> list[ScoreKey]:
    """Return the accuracies on changed or other images of the same classes, or else whatever there is of them."""
    keys = [key for key in rows if key.protocol.startswith(ROBUST) and key.data in GIVEN]
    return [key for key in keys if rows[key].percent and rows[key].higher_is_better] or keys


def transfer_scores(rows: Mapping[ScoreKey, Score], protocol: str) -> list[ScoreKey]:
    """Return one score of each other data set: that of the study's first protocol, or else the first there is."""
    first: dict[str, ScoreKey] = {}
    for key in rows:
        if key.data not in GIVEN and (key.data not in first or key.protocol == protocol):
            first[key.data] = key
    return list(first.values())
