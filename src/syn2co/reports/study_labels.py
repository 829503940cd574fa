"""Words of a study's page: names of its cells and scores, and which scores answer which question."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from syn2co.studies.comparisons import GIVEN, shown
from syn2co.studies.grid import Cell, Levels
from syn2co.studies.results import ScoreKey, StudyResults
from syn2co.studies.sentences import ROBUST

if TYPE_CHECKING:
    from syn2co.evaluation.scores import Score

_NUMBER = re.compile(r"[\d,._]+[kKM]?")


@dataclass(frozen=True)
class StudyLabels:
    """Names for the cells and scores of a study; `first` is the score that decides."""

    results: StudyResults
    first: ScoreKey | None

    @cached_property
    def combinations(self) -> list[Levels]:
        """Levels of every cell that has a result, in the order of the study."""
        finished = [cell.levels for cell in self.results.cells]
        return [levels for levels in self.results.study.combinations() if levels in finished]

    @cached_property
    def factors(self) -> list[str]:
        """Factors that have more than one level among the finished cells; all of them where none has."""
        varying = [
            factor for factor in self.results.study.factors if len({levels[factor] for levels in self.combinations}) > 1
        ]
        return varying or list(self.results.study.factors)

    def cell(self, levels: Mapping[str, str]) -> str:
        """Return the levels of the varying factors, such as "half flow · 500 real images"."""
        return " · ".join(self.level(factor, levels[factor]) for factor in self.factors if factor in levels)

    def level(self, factor: str, name: str) -> str:
        """Return a level in words: a number is followed by its factor, a name that two factors share as well."""
        shared = sum(name in levels for levels in self.results.study.factors.values()) > 1
        return f"{name} {factor}" if shared or _NUMBER.fullmatch(name) else name

    def score(self, key: ScoreKey) -> str:
        """Return a score in words, such as "k-NN on cifar100, top-1 (%)"."""
        row = self.row(key)
        metric = "" if row.metric.lower() in key.protocol.lower() else f", {row.metric}"
        lower = "" if row.higher_is_better else ", lower is better"
        return f"{shown(key)}{metric}{' (%)' if row.percent else ''}{lower}"

    def row(self, key: ScoreKey) -> "Score":
        """Return one row of a score."""
        return next(score for cell in self.results.cells if (score := cell.score(*key)) is not None)

    @cached_property
    def plain(self) -> list[ScoreKey]:
        """Scores on the given test images as they are."""
        return [key for key in self.results.scores if key.data in GIVEN and not is_robustness(key)]

    @cached_property
    def robust(self) -> list[ScoreKey]:
        """Scores on changed test images."""
        return [key for key in self.results.scores if is_robustness(key)]

    @cached_property
    def transfer(self) -> list[ScoreKey]:
        """Scores on other data sets."""
        return [key for key in self.results.scores if key.data not in GIVEN and not is_robustness(key)]

    def untrained(self, levels: Levels) -> bool:
        """Return whether these are the levels of the random encoder."""
        return Cell(self.results.study, levels, 0).level.images == "untrained"


def is_robustness(key: ScoreKey) -> bool:
    """Return whether a score is one on corrupted or otherwise changed test images."""
    return key.protocol.startswith(ROBUST)
