"""What a study's sentences rest on: all its comparisons, and its scores by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from syn2co.studies.comparisons import GIVEN, CellPair, ContrastResult, MissingContrast, ScoreTable, why_missing
from syn2co.studies.grid import Levels, Study
from syn2co.studies.results import ScoreKey, StudyResults


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
