"""How many real images are enough? Whether more of them help, where faked ones do, and how many those are worth."""

from collections.abc import Mapping, Sequence
from math import exp, log
from typing import NamedTuple

from syn2co.studies.comparisons import ContrastResult, against, primary_comparisons
from syn2co.studies.evidence import StudyEvidence
from syn2co.studies.grid import Levels, Study, axis_numbers


class CurvePoint(NamedTuple):
    """A number of real images on the curve of real images alone, and what the faked ones add to the cell against it;
    positive is better."""

    number: float
    value: float
    low: float
    high: float


class LeastNumber(NamedTuple):
    """A number of real images alone that no larger one beats, with the comparisons of these against it."""

    name: str
    larger: Mapping[str, ContrastResult]


def enough(evidence: StudyEvidence) -> str:
    """Return from which number on no gain by more real images alone is resolved, and which gains remain possible.

    These are the upper ends of the corrected intervals. Empty if the comparisons of the numbers are not all known.
    """
    study, cells = evidence.study, list(evidence.study.combinations())
    numbers = [name for name in axis_numbers(study) if study.complete({study.axis or "": name}) in cells]
    least = _least(evidence, numbers) if study.versus is not None and study.is_alone else None
    if least is None:
        return ""
    if not least.larger:
        return f"More {study.axis} alone help up to {least.name}, the largest number (exploratory)."
    results = list(least.larger.values())
    most = max(0.0, *(result.high if result.higher_is_better else -result.low for result in results))
    possible = f"{results[0].number(most)}{' points' if results[0].percent else ''}"
    how = "" if all(result.primary for result in results) else "; exploratory"
    return (
        f"No gain from more than {least.name} {study.axis} alone is resolved (up to {possible} remain possible{how})."
    )


def how_many(evidence: StudyEvidence) -> list[str]:
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
    if not numbers or study.axis is None or study.versus is None or not study.is_alone:
        return []
    base, level = study.baseline[study.axis], study.baseline[study.versus]
    results = {
        name: evidence.between(evidence.headline, _at(study, None, name), study.complete({}))
        for name in numbers
        if name != base
    }
    said = [f"{name} {against(base, result)}" for name, result in results.items() if result is not None]
    return [f"{level[:1].upper()}{level[1:]}, {study.axis}: {'; '.join(said)}."] if said else []


def _least(evidence: StudyEvidence, names: Sequence[str]) -> LeastNumber | None:
    """Return the least number of real images alone that no larger one beats; the largest may be it.

    None with less than two numbers, or where a comparison of two of them is missing or has one seed.
    """
    study, key = evidence.study, evidence.headline
    for place, name in enumerate(names if len(names) > 1 else ()):
        pairs = {
            other: evidence.between(key, _at(study, None, other), _at(study, None, name))
            for other in names[place + 1 :]
        }
        larger = {other: result for other, result in pairs.items() if result is not None and result.tested}
        if len(larger) < len(pairs):
            return None
        if not any(result.resolved and result.better for result in larger.values()):
            return LeastNumber(name, larger)
    return None


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
