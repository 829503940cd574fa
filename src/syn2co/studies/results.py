"""Results of a study: what a finished or failed cell says, one JSON file each, and the study with all of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from syn2co.core.files import write_atomically
from syn2co.core.versions import __version__
from syn2co.evaluation.results import EvaluationReport
from syn2co.evaluation.scores import Score
from syn2co.studies.grid import Cell, Levels, Study

FORMAT = 1
STUDY, CELLS, RESULT, FAILED = "study.json", "cells", "cell.json", "failed.json"


@dataclass(frozen=True)
class Cost:
    """Seconds of one cell, and what they made."""

    training_seconds: float = 0.0
    """Wall time of the training loop."""
    generation_seconds: float = 0.0
    """Wall time of fitting, training and sampling the generator; a set that several cells share counts in each."""
    evaluation_seconds: float = 0.0
    images_made: int = 0
    """Synthetic images stored for the cell."""
    processors: str = ""
    """The processor and the threads or ranks that the times are of."""

    @property
    def seconds(self) -> float:
        """All of them."""
        return self.training_seconds + self.generation_seconds + self.evaluation_seconds


@dataclass(frozen=True)
class CellResult:
    """One finished cell."""

    cell: str
    """Hash of what determines it."""
    levels: Levels
    seed: int
    report: EvaluationReport
    cost: Cost = Cost()
    steps: int = 0
    """Optimizer steps that were taken."""
    health: Mapping[str, Any] = field(default_factory=dict)
    """Headline and findings of the doctor; empty for the untrained encoder."""
    curves: Sequence[Mapping[str, Any]] = ()
    """At most 100 records of metrics.jsonl."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Resolved settings of the run."""
    commands: Sequence[str] = ()
    """Commands that repeat the cell by hand."""
    shared: Mapping[str, str] = field(default_factory=dict)
    """What cells must have in common to be averaged: fingerprints of their images, settings that were added."""
    version: str = __version__
    source_hash: str = ""
    """Hash of syn2co's own files, which tells states of one development version apart; empty if it is not known."""
    precision: str = ""
    """Precision that the run computed in; empty for the untrained encoder, and if it is not known."""

    @property
    def machine(self) -> Mapping[str, Any]:
        """Versions and device of the evaluation; empty if the file does not tell them."""
        machine = self.report.metadata.get("machine")
        return machine if isinstance(machine, Mapping) else {}

    def score(self, protocol: str, data: str) -> Score | None:
        """Return one score, None if the cell has none of that protocol on that data set."""
        return next((row for row in self.report.rows if (row.protocol, row.data) == (protocol, data)), None)

    def write(self, folder: Path) -> None:
        """Write cell.json into the cell's folder."""
        body = {
            "format": FORMAT,
            **{name: value for name, value in asdict(self).items() if name != "report"},
            "evaluation": json.loads(self.report.to_json()),
        }
        write_atomically(folder / RESULT, json.dumps(body, separators=(",", ":")) + "\n")


@dataclass(frozen=True)
class FailedCell:
    """A cell that ended with an error."""

    cell: str
    levels: Levels
    seed: int
    reason: str

    def write(self, folder: Path) -> None:
        """Write failed.json into the cell's folder."""
        write_atomically(folder / FAILED, json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")


class ScoreKey(NamedTuple):
    """A score of the study: a protocol on a data set, the empty name for the given test images."""

    protocol: str
    data: str


@dataclass(frozen=True)
class StudyResults:
    """A study with what is finished of it."""

    study: Study
    cells: tuple[CellResult, ...]
    """Finished cells that may be averaged: of one version, one set of data and one form of each protocol."""
    failed: tuple[FailedCell, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences on whatever is missing, left out or different."""
    left_out: tuple[CellResult, ...] = ()
    """Finished cells that must not be averaged with the others."""
    unreadable: tuple[Cell, ...] = ()
    """Planned cells whose file cannot be read, by the name of the file or its folder."""

    def of(self, levels: Mapping[str, str]) -> dict[int, CellResult]:
        """Return the finished cells of these levels by seed, in order."""
        cells = [cell for cell in self.cells if cell.levels == levels]
        return {cell.seed: cell for cell in sorted(cells, key=lambda cell: cell.seed)}

    @property
    def scores(self) -> list[ScoreKey]:
        """Every protocol and data set of which at least one cell has a score."""
        keys = (ScoreKey(row.protocol, row.data) for cell in self.cells for row in cell.report.rows)
        return list(dict.fromkeys(keys))

    @property
    def missing(self) -> list[str]:
        """The planned cells that are not finished, in words."""
        finished = {key_of(cell) for cell in self.cells}
        return [cell.text for cell in self.study.cells() if key_of(cell) not in finished]


def key_of(cell: CellResult | FailedCell | Cell) -> tuple[Any, ...]:
    """Return what cells are told apart by: levels and seed."""
    return (*sorted(cell.levels.items()), cell.seed)
