"""Scores with everything that a reader needs to trust or repeat them: the table, the JSON and the Markdown.

Axes: M test images.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.box import SIMPLE_HEAD
from rich.table import Table

from syn2co.core.errors import EvaluationError
from syn2co.core.files import write_atomically
from syn2co.core.templates import render
from syn2co.evaluation.bootstrap import Interval, paired_difference

FORMAT = 1


@dataclass(frozen=True)
class Score:
    """One number, in percent, with its 95 % bootstrap interval over test images and all that it depends on."""

    protocol: str
    encoder: str
    metric: str
    value: float
    low: float
    high: float
    n_test: int
    n_train: int
    seed: int
    setting: str
    protocol_hash: str
    data_fingerprint: str
    encoder_hash: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{self.encoder}, {self.protocol} ({self.setting}): {self.metric} {self.value:.2f} % "
            f"[{self.low:.2f}, {self.high:.2f}], {self.n_test} test images"
        )


@dataclass(frozen=True)
class EvaluationReport:
    """All scores of one call, the first encoder's first.

    Attributes: `values`, for each (encoder, protocol) one number per test image whose mean is the score; `notes`,
    sentences on what was left out, capped or missing; `metadata`, the data, the settings and the versions.
    """

    rows: tuple[Score, ...]
    values: Mapping[tuple[str, str], Float[np.ndarray, " M"]]
    notes: tuple[str, ...]
    metadata: Mapping[str, Any]

    def score(self, encoder: str, protocol: str) -> Score:
        """Return one row.

        Raises:
            EvaluationError: if the report has no such row.
        """
        for row in self.rows:
            if (row.encoder, row.protocol) == (encoder, protocol):
                return row
        known = "; ".join(f"{row.encoder}, {row.protocol}" for row in self.rows)
        raise EvaluationError(f"{encoder}, {protocol}: the report has no such score; it has {known}")

    def compare(self, first: str, second: str, protocol: str = "knn") -> Interval:
        """Return score(first) - score(second) in points of percent, paired on the test images, with its 95 % interval.

        Raises:
            EvaluationError: if the report lacks one of the two scores.
        """
        one, two = (self.score(name, protocol) for name in (first, second))
        values = (self.values[row.encoder, protocol] for row in (one, two))
        return paired_difference(*values, seed=one.seed).percent()

    def table(self) -> Table:
        """Return the scores as a rich table of at most 80 columns, if names are short."""
        encoder, protocol, _, *numbers = self._titles()
        title = "Top-1 on the test images, 95 % bootstrap intervals"
        table = Table(encoder, protocol, *numbers, title=title, box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        for name, kind, setting, *scores in self._cells():
            table.add_row(name, f"{kind}, {setting}", *scores)
        for column in table.columns[:-1]:
            column.no_wrap = True
        table.caption = "\n".join(self.notes) or None
        return table

    def to_markdown(self) -> str:
        """Return the scores as a Markdown page: the table, the notes, the hashes."""
        return render(
            "evaluation/templates/evaluation.md.j2",
            titles=self._titles(),
            cells=self._cells(),
            notes=self.notes,
            metadata=self.metadata,
            first=self.rows[0],
            protocols=sorted({(row.protocol, row.protocol_hash) for row in self.rows}),
            encoders=list(dict.fromkeys((row.encoder, row.encoder_hash) for row in self.rows)),
        )

    def to_json(self) -> str:
        """Return everything but the pictures as JSON; top-1 values are packed, 8 test images a byte, in hex."""
        body = {
            "format": FORMAT,
            **self.metadata,
            "notes": self.notes,
            "scores": [asdict(row) | {"correct": self._packed(row)} for row in self.rows],
        }
        return json.dumps(body, indent=2) + "\n"

    def write(self, folder: Path) -> None:
        """Write evaluation.json and evaluation.md into `folder`, each whole or not at all.

        Raises:
            EvaluationError: if the folder cannot be made.
        """
        make_folder(folder)
        write_atomically(folder / "evaluation.json", self.to_json())
        write_atomically(folder / "evaluation.md", self.to_markdown())

    def _titles(self) -> list[str]:
        return ["encoder", "protocol", "setting", "top-1 %", "95 % interval", f"{self.rows[0].encoder} minus this"]

    def _cells(self) -> list[list[str]]:
        first = self.rows[0].encoder
        cells = []
        for row in self.rows:
            lead = "" if row.encoder == first else _signed(self.compare(first, row.encoder, row.protocol))
            span = f"{row.low:.1f} to {row.high:.1f}"
            cells.append([row.encoder, row.protocol, row.setting, f"{row.value:.1f}", span, lead])
        return cells

    def _packed(self, row: Score) -> str:
        return np.packbits(self.values[row.encoder, row.protocol] > 0).tobytes().hex()


def make_folder(folder: Path) -> None:
    """Make the folder that a report will be written to.

    Raises:
        EvaluationError: if that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(
            f"--out {folder.name}: cannot be made a folder ({error.strerror}); choose another one"
        ) from None


def _signed(difference: Interval) -> str:
    return f"{difference.value:+.1f} ({difference.low:+.1f} to {difference.high:+.1f})"
