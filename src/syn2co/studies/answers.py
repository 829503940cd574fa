"""Answers of a study: the estimate of every cell, the contrasts with their verdicts, one sentence per question."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from syn2co.core.hints import first_names
from syn2co.studies.comparisons import (
    GIVEN,
    CellEstimate,
    ContrastResult,
    ScoreTable,
    exploratory_comparisons,
    primary_comparisons,
    shown,
)
from syn2co.studies.evidence import StudyEvidence
from syn2co.studies.grid import Levels, Study, text
from syn2co.studies.results import CellResult, ScoreKey, StudyResults
from syn2co.studies.sentences import QuestionAnswer, question_answers
from syn2co.studies.statistics import ONE_SEED

SEEDS = 5
"""Least seeds of a comparison of synthetic negatives."""

__all__ = ["CellEstimate", "ContrastResult", "StudyAnswers", "answer"]


@dataclass(frozen=True)
class StudyAnswers:
    """What a study says so far."""

    results: StudyResults
    estimates: list[CellEstimate]
    contrasts: list[ContrastResult]
    """The primary ones of each score, then its exploratory differences."""
    questions: dict[str, QuestionAnswer]
    """One answer per question: those of the contrasts, "robust" and "transfers"."""
    notes: list[str]
    """Sentences on whatever is missing, failed, left out or measured with one seed."""
    headline: ScoreKey | None = None
    """The score that the sentences are about; None without any score."""
    _by_cell: dict[tuple[frozenset[tuple[str, str]], ScoreKey], CellEstimate] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        by_cell = {(frozenset(one.levels.items()), one.key): one for one in self.estimates}
        object.__setattr__(self, "_by_cell", by_cell)

    @property
    def sentences(self) -> dict[str, str]:
        """The text of each answer."""
        return {question: one.text for question, one in self.questions.items()}

    def estimate(self, levels: Mapping[str, str], key: ScoreKey) -> CellEstimate | None:
        """Return the estimate of one cell, None if no seed of it has that score."""
        return self._by_cell.get((frozenset(levels.items()), key))

    def best(self, key: ScoreKey) -> Levels | None:
        """Return the cell with the best mean, whether or not that is resolved; None if no cell has that score."""
        several = [one for one in self.estimates if one.key == key]
        sign = -1 if several and not several[0].higher_is_better else 1
        return max(several, key=lambda one: sign * one.estimate.value).levels if several else None


def answer(results: StudyResults) -> StudyAnswers:
    """Return the answers of a study from whatever is finished of it.

    Args:
        results: cells that may be averaged, as `read_study` gives them.

    Returns:
        Estimates and contrasts of every score; Holm's correction is over all planned primary contrasts of a score, and
        by itself over its exploratory differences.
    """
    study = results.study
    tables = {key: ScoreTable(results, key) for key in results.scores}
    tables = {key: table for key, table in tables.items() if table.values}
    estimates = [
        estimate
        for table in tables.values()
        for levels in study.combinations()
        if (estimate := table.estimate(levels)) is not None
    ]
    planned, explored = primary_comparisons(study), exploratory_comparisons(study)
    contrasts = [
        result
        for table in tables.values()
        for result in (*table.compare(planned, primary=True), *table.compare(explored, primary=False))
    ]
    evidence = StudyEvidence(results, tables, contrasts)
    headline = evidence.headline if tables else None
    notes = [
        *results.notes,
        *_unfinished(results),
        *_one_seed(results),
        *_unequal_steps(results),
        *_unlike_states(results),
        *_few_seeds(contrasts),
        *_unlike_precisions(results),
        *_unlike_machines(results),
        *_unscored(results),
        *_replaced(study, headline),
    ]
    notes += [note for table in tables.values() for note in table.notes] + _unpaired(tables)
    notes += [f"{shown(key)}: is kept without a value per test image, so nothing can be said of it"
              for key in results.scores if key not in tables]  # fmt: skip
    notes += _notes_of_scores(results)
    return StudyAnswers(results, estimates, contrasts, question_answers(evidence), list(dict.fromkeys(notes)), headline)


def _unfinished(results: StudyResults) -> list[str]:
    """Return sentences on failed cells, and on planned ones that are not finished."""
    failed = {f"{text(cell.levels)}, seed {cell.seed}": cell.reason for cell in results.failed}
    notes = [f"{name}: failed ({reason})" for name, reason in failed.items()]
    noted = {f"{text(cell.levels)}, seed {cell.seed}" for cell in (*results.left_out, *results.unreadable)}
    missing = [name for name in results.missing if name not in failed and name not in noted]
    planned = len(results.study.cells())
    return notes + ([f"{len(missing)} of {planned} cells are not finished: {first_names(missing)}"] if missing else [])


def _one_seed(results: StudyResults) -> list[str]:
    """Return a sentence on the cells that have one seed."""
    names = [text(levels) for levels in results.study.combinations() if len(results.of(levels)) == 1]
    return [f"{first_names(names)}: {ONE_SEED}"] if names else []


def _unequal_steps(results: StudyResults) -> list[str]:
    """Return a sentence if the trained cells took different numbers of steps."""
    steps = sorted({cell.steps for cell in results.cells if cell.steps})
    differ = f"cells took from {steps[0]:,} to {steps[-1]:,} steps, and differ by that too" if len(steps) > 1 else ""
    return [differ] if differ else []


def _unlike_states(results: StudyResults) -> list[str]:
    """Return a sentence if other files of one development version ran some of the cells."""
    counts = Counter(cell.source_hash for cell in results.cells)
    unknown, version = counts.pop("", 0), next((cell.version for cell in results.cells), "")
    several = ", ".join(f"{count} by {name}" for name, count in sorted(counts.items()))
    notes = [f"cells were run by different states of syn2co {version}: {several}"] if len(counts) > 1 else []
    if unknown:
        run = f"{unknown} of {len(results.cells)} cells"
        notes.append(f"which state of syn2co {version} ran {run} was not recorded; there may have been several")
    return notes


def _few_seeds(contrasts: Sequence[ContrastResult]) -> list[str]:
    """Return a sentence if synthetic negatives, whose effect is small, were compared with less than five seeds."""
    seeds = [one.difference.seeds for one in contrasts if one.question == "negatives" and one.tested]
    if min(seeds, default=SEEDS) >= SEEDS:
        return []
    return [f"synthetic negatives are compared with {min(seeds)} seeds; an effect so small asks for {SEEDS} or more"]


def _unlike_machines(results: StudyResults) -> list[str]:
    """Return a sentence per library or kind of device that cells differ in; last bits may then differ."""
    notes: list[str] = []
    for name in ("torch", "timm", "numpy", "opencv", "device"):
        counts = Counter(str(cell.machine[name]) for cell in results.cells if name in cell.machine)
        several = ", ".join(f"{count} by {value}" for value, count in sorted(counts.items()))
        notes += [f"cells were scored by different {name}: {several}"] if len(counts) > 1 else []
    return notes


def _unlike_precisions(results: StudyResults) -> list[str]:
    """Return a sentence per precision that cells asked for and others, or others alone, were trained in."""
    pairs = Counter(filter(all, map(_precisions, results.cells)))
    asked_by = Counter(asked for asked, _ in pairs.elements())
    return [
        f"{count} of {asked_by[asked]} cells that ask for {asked} were trained in {computed}, since their device only "
        f"emulates {asked}; what they are compared with may differ from them by that alone, or not at all"
        for (asked, computed), count in sorted(pairs.items())
        if asked != computed and len(pairs) > 1
    ]


def _precisions(cell: CellResult) -> tuple[str, str]:
    """Return what a cell asks for and what it was trained in; empty for an untrained one."""
    asked = cell.config.get("training", {}).get("precision", "") if cell.steps else ""
    return asked, cell.precision or asked  # before it was recorded, cells were trained in what they asked for


def _notes_of_scores(results: StudyResults) -> list[str]:
    """Return what the evaluations of the cells said of their scores, each once with the number of cells."""
    counts = Counter(note for cell in results.cells for note in dict.fromkeys(cell.report.notes))
    total, most = len(results.cells), 20
    notes = [
        f"{note}{'' if count == total else f' ({count} of {total} cells)'}"
        for note, count in sorted(counts.items(), key=lambda item: -item[1])[:most]
    ]
    return notes + ([f"{len(counts) - most:,} more notes of the evaluations"] if len(counts) > most else [])


def _unscored(results: StudyResults) -> list[str]:
    """Return a sentence on the cells that are finished without any score."""
    names = [f"{text(cell.levels)}, seed {cell.seed}" for cell in results.cells if not cell.report.rows]
    return [f"{first_names(names)}: finished without any score"] if names else []


def _unpaired(tables: Mapping[ScoreKey, ScoreTable]) -> list[str]:
    """Return a sentence per set of seeds that are left out, with the comparisons, and the scores unless it is all."""
    scores: dict[tuple[str, str], list[str]] = {}
    for key, table in tables.items():
        for pair in table.unpaired.items():
            scores.setdefault(pair, []).append(shown(key))
    names: dict[tuple[str, str], list[str]] = {}
    for (name, seeds), several in scores.items():
        where = "" if len(several) == len(tables) else f" ({', '.join(several)})"
        names.setdefault((seeds, where), []).append(name)
    return [f"{first_names(several)}: {seeds}{where}" for (seeds, where), several in names.items()]


def _replaced(study: Study, headline: ScoreKey | None) -> list[str]:
    """Return a sentence if the answers are about another score than the one that the study decides by."""
    first = ScoreKey(study.protocols[0], "")
    if headline is None or (headline.data in GIVEN and headline.protocol.startswith(first.protocol)):
        return []
    return [f"no cell has numbers of {shown(first)}, which decides; the answers are about {shown(headline)} instead"]
