"""Scores of a study's cells as numbers per seed and test image, and the comparisons of two cells in one score.

Axes: S seeds, M test images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from syn2co.core.hints import first_names
from syn2co.evaluation.scores import Score
from syn2co.studies.grid import Contrast, Levels, Question, Study, axis_numbers, text
from syn2co.studies.results import ScoreKey, StudyResults
from syn2co.studies.statistics import LEVEL, ONE_SEED, Difference, Estimate, difference, estimate, holm, holm_levels

GIVEN = ("", "given")
"""Names of the test images that are no transfer set."""
_SHOWN = {"knn": "k-NN", "linear": "linear probe", "robustness": "accuracy on corrupted images"}


@dataclass(frozen=True)
class CellEstimate:
    """One score of one cell, in percent if `percent`."""

    levels: Levels
    key: ScoreKey
    metric: str
    estimate: Estimate
    percent: bool
    higher_is_better: bool


@dataclass(frozen=True)
class ContrastResult:
    """The difference of two cells in one score, one - other, in points of percent if `percent`.

    `difference.improvement` is the probability that `one` is better, whichever direction is; what could be resolved is
    at the level of the corrected interval.
    """

    name: str
    question: Question | None
    """None for an exploratory difference."""
    key: ScoreKey
    one: Levels
    other: Levels
    primary: bool
    difference: Difference
    adjusted_p: float
    """By Holm's procedure, over all primary contrasts of the score or all its exploratory differences; one that has
    no p, for it lacks cells or has one seed, counts with p = 1."""
    low: float
    """Lower end of the corrected interval; with one seed, of the 95 % interval over the test images."""
    high: float
    resolved: bool
    """Whether the corrected interval leaves zero; never with one seed."""
    percent: bool
    higher_is_better: bool
    sentence: str = ""

    @property
    def tested(self) -> bool:
        """Whether it has a p: two seeds or more."""
        return self.difference.seeds > 1

    @property
    def better(self) -> bool:
        """Whether `one` is the better cell, resolved or not."""
        return (self.difference.value > 0) == self.higher_is_better

    @property
    def reverse(self) -> "ContrastResult":
        """The same with the two cells exchanged, other - one; its name and sentence are left empty."""
        change = self.difference
        turned = replace(
            change, value=-change.value, low=-change.high, high=-change.low, improvement=1 - change.improvement
        )
        return replace(
            self,
            name="",
            one=self.other,
            other=self.one,
            difference=turned,
            low=-self.high,
            high=-self.low,
            sentence="",
        )

    @property
    def brief(self) -> str:
        """The name, the difference and its corrected interval."""
        return f"{self.name} ({self.number(self.difference.value)} {self.ends})"

    @property
    def ends(self) -> str:
        """The corrected interval in brackets; an end close to zero keeps its sign where the interval leaves zero."""
        return f"[{self._end(self.low)}, {self._end(self.high)}]"

    def _end(self, value: float) -> str:
        rounded = self.number(value)
        return f"{value:+.1g}" if self.resolved and value and float(rounded) == 0 else rounded

    def number(self, value: float) -> str:
        """Return a signed number with as many digits as the score has; there is no -0.0."""
        return f"{round(value, 1) + 0.0:+.1f}" if self.percent else f"{value + 0.0:+.2g}"


class CellPair(NamedTuple):
    """Two cells that are compared, before any number is known."""

    name: str
    question: Question | None
    one: Levels
    other: Levels


def shown(key: ScoreKey) -> str:
    """Return a score as it stands in sentences.

    Example:
        >>> shown(ScoreKey("knn", "")), shown(ScoreKey("linear", "pets"))
        ('k-NN', 'linear probe on pets')
    """
    name = _SHOWN.get(key.protocol, key.protocol)
    return name if key.data in GIVEN else f"{name} on {key.data}"


class MissingContrast(NamedTuple):
    """A planned comparison without a result in one score, and why."""

    name: str
    reason: str
    """"not run yet", "failed", "left out", "unreadable", "no such score" or "no common seed"."""


class ScoreTable:
    """One score of every cell that has it: a number per seed and test image."""

    def __init__(self, results: StudyResults, key: ScoreKey) -> None:
        self.key, self.study = key, results.study
        self.values: dict[frozenset[tuple[str, str]], dict[int, Float[np.ndarray, " M"]]] = {}
        self.notes: list[str] = []
        self.unpaired: dict[str, str] = {}  # by the name of the comparison, which seeds are left out
        lacking: list[str] = []
        for cell in sorted(results.cells, key=lambda cell: cell.seed):
            row = cell.score(*key)
            if row is None or not row.values.size or not np.isfinite(row.values).all():
                lacking.append(f"{text(cell.levels)}, seed {cell.seed}")
                continue
            self.some: Score = row
            by_seed = self.values.setdefault(frozenset(cell.levels.items()), {})
            by_seed[cell.seed] = row.values.mean(0) if row.values.ndim == 2 else row.values
        if lacking:
            self.notes.append(f"{shown(key)}: no finite score in {first_names(lacking)}")

    @property
    def scale(self) -> float:
        return 100.0 if self.some.percent else 1.0

    def of(self, levels: Mapping[str, str]) -> dict[int, Float[np.ndarray, " M"]]:
        """Return one number per test image, by seed; empty if no cell of these levels has the score."""
        return self.values.get(frozenset(levels.items()), {})

    def estimate(self, levels: Levels) -> CellEstimate | None:
        """Return the mean over seeds and test images, None without a cell; a share stays within its bounds."""
        by_seed = self.of(levels)
        if not by_seed:
            return None
        values = np.stack(list(by_seed.values()))
        mean = estimate(values)
        if self.some.percent and values.min() >= 0 and values.max() <= 1:
            mean = replace(mean, low=max(0.0, mean.low), high=min(1.0, mean.high))
        row = self.some
        return CellEstimate(levels, self.key, row.metric, mean.times(self.scale), row.percent, row.higher_is_better)

    def difference(self, one: Mapping[str, str], other: Mapping[str, str], *, name: str = "") -> Difference | None:
        """Return one - other over the seeds that both have, None if there are none; a name is noted with the rest."""
        first, second = self.of(one), self.of(other)
        seeds = [seed for seed in first if seed in second]
        alone = sorted(first.keys() ^ second.keys())
        if name and seeds and alone:
            are = "is" if len(alone) == 1 else "are"
            self.unpaired[name] = (
                f"paired by {_seeds(seeds)}; {_seeds(alone)} {are} in one of the two cells alone and left out"
            )
        if not seeds:
            return None
        result = difference(np.stack([first[seed] for seed in seeds]), np.stack([second[seed] for seed in seeds]))
        if not self.some.higher_is_better:
            result = replace(result, improvement=1 - result.improvement)
        return result.times(self.scale)

    def compare(
        self, comparisons: Sequence[CellPair], *, primary: bool, beside: Sequence[CellPair] = ()
    ) -> list[ContrastResult]:
        """Return the comparisons that have cells, corrected over all and those beside; without a p it is 1."""
        changes = [self.difference(pair.one, pair.other, name=pair.name) for pair in comparisons]
        others = [self.difference(pair.one, pair.other) for pair in beside]
        p = [1.0 if change is None or change.seeds == 1 else change.p for change in (*changes, *others)]
        return [
            self._result(pair, change, primary, adjusted, LEVEL if change.seeds == 1 else level)
            for pair, change, adjusted, level in zip(comparisons, changes, holm(p), holm_levels(p), strict=False)
            if change is not None
        ]

    def _result(
        self, pair: CellPair, result: Difference, primary: bool, adjusted: float, level: float
    ) -> ContrastResult:
        low, high = result.interval(level)
        resolved, row = result.seeds > 1 and not low <= 0 <= high, self.some
        result = result.resolvable_at(level, point=0.01 * self.scale)
        contrast = ContrastResult(
            pair.name, pair.question, self.key, pair.one, pair.other, primary, result, adjusted, low, high, resolved,
            row.percent, row.higher_is_better,
        )  # fmt: skip
        return replace(contrast, sentence=sentence(contrast))


def why_missing(results: StudyResults, pair: CellPair, table: ScoreTable | None) -> str:
    """Return why two cells have no difference in a score, as `MissingContrast.reason`; None is a score of no cell."""
    sides = [levels for levels in (pair.one, pair.other) if table is None or not table.of(levels)]
    if not sides:
        return "no common seed"
    reasons = {
        "no such score": results.cells,
        "failed": results.failed,
        "left out": results.left_out,
        "unreadable": results.unreadable,
    }
    for reason, cells in reasons.items():
        if any(cell.levels in sides for cell in cells):
            return reason
    return "not run yet"


def primary_comparisons(study: Study) -> list[CellPair]:
    """Return the contrasts of a study with a level of every factor."""

    def pair(contrast: Contrast) -> CellPair:
        one, other = study.complete(contrast.one), study.complete(contrast.other)
        return CellPair(contrast.name, contrast.question, one, other)

    return [pair(contrast) for contrast in study.contrasts]


def exploratory_comparisons(study: Study) -> list[CellPair]:
    """Return every other cell against the one that has the baseline's levels of what the contrasts vary.

    Where the question is how many real images are enough, every two numbers of them alone are compared.
    """
    primary = [(pair.one, pair.other) for pair in primary_comparisons(study)]
    cells = list(study.combinations())
    pairs = []
    for levels in cells:
        other = _counterpart(study, levels, cells)
        if levels != other and (levels, other) not in primary and (other, levels) not in primary:
            changed = [factor for factor in levels if levels[factor] != other[factor]]
            name = " and ".join(f"{levels[factor]} instead of {other[factor]}" for factor in changed)
            kept = [
                factor
                for factor in levels
                if factor not in changed and (factor == study.axis or levels[factor] != study.baseline[factor])
            ]
            pairs.append(
                CellPair(", ".join([name, *(f"{factor} {levels[factor]}" for factor in kept)]), None, levels, other)
            )
    asked = study.is_alone and any(contrast.question == "enough" for contrast in study.contrasts)
    known = [{text(pair.one), text(pair.other)} for pair in (*primary_comparisons(study), *pairs)]
    for low, high in combinations(axis_numbers(study) if asked else (), 2):
        one, other = (study.complete({study.axis or "": name}) for name in (high, low))
        if one in cells and other in cells and {text(one), text(other)} not in known:
            pairs.append(CellPair(f"{high} instead of {low}", None, one, other))
    return pairs


def _counterpart(study: Study, levels: Levels, cells: Sequence[Levels]) -> Levels:
    """Return the cell that differs in what the contrasts vary; without one, the baseline at the level of the axis.

    That baseline itself is held against the one at the axis' own level: whether more images help at all.
    """
    varied = {
        factor for pair in primary_comparisons(study) for factor in levels if pair.one[factor] != pair.other[factor]
    }
    treatment = varied - {study.axis} or varied
    other = {factor: study.baseline[factor] if factor in treatment else levels[factor] for factor in levels}
    if other != levels and other in cells:
        return other
    along = study.complete({study.axis: levels[study.axis]} if study.axis else {})
    return along if along != levels else study.complete({})


def sentence(result: ContrastResult) -> str:
    """Return the comparison in words: resolved, or what could have been."""
    name, change, drawn = result.name[:1].upper() + result.name[1:], result.difference, _measured(result)
    name += "" if result.primary else " (exploratory)"
    if not result.tested:
        return f"{name}: {drawn} {result.ends} over the test images; {ONE_SEED}."
    if result.resolved:
        worse = "" if result.better else ", for the worse"
        return f"{name}: {drawn} {result.ends}, {change.seeds} seeds: resolved{worse}."
    if change.smallest is None:
        return f"{name}: not resolved; the two are the same on every test image with every seed."
    return f"{name}: not resolved ({drawn} {result.ends}); {resolvable(result)}."


def against(name: str, result: ContrastResult | None) -> str:
    """Return the difference to one other cell, a share or a number of images, in words."""
    if result is None:
        return f"against {name} no common seed"
    verdict = "resolved" if result.resolved else "not resolved" if result.tested else "one seed"
    verdict += ", for the worse" if result.resolved and not result.better else ""
    how = "" if result.primary else ", exploratory"
    return f"against {name} {result.number(result.difference.value)} {result.ends}, {verdict}{how}"


def resolvable(result: ContrastResult) -> str:
    """Return what these seeds could have resolved, and how many resolve one point."""
    change, smallest = result.difference, result.difference.smallest
    assert smallest is not None, "one seed, or no spread, tells nothing of this"
    if not result.percent:
        return f"{change.seeds} seeds could have resolved {smallest:.2g}"
    seen = f"{change.seeds} seeds could have resolved {smallest:.1f} points"
    if change.seeds_for_one_point is None:
        return f"{seen}, one point takes more test images than these {change.images:,}"
    if change.seeds_for_one_point <= change.seeds:
        return seen
    return f"{seen}, one point would take {change.seeds_for_one_point:,} seeds"


def _measured(result: ContrastResult) -> str:
    """Return the difference with its unit."""
    value, name = result.number(result.difference.value), shown(result.key)
    lower = "" if result.higher_is_better else ", where lower is better,"
    return f"{value} points of {name}{lower}" if result.percent else f"{value} in {name}{lower}"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"
