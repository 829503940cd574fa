"""Scores with everything that a reader needs to trust or repeat them: the table, JSON, CSV and Markdown.

Axes: M test images, R draws of the training labels.
"""

import csv
import io
import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any
from zlib import compress

import numpy as np
from jaxtyping import Float
from rich.table import Table
from rich.text import Text

from syn2co.core.errors import EvaluationError
from syn2co.core.files import write_atomically
from syn2co.core.templates import render
from syn2co.core.terminal import text_table
from syn2co.evaluation.bootstrap import Interval, paired_difference
from syn2co.evaluation.scores import Comparison, Score, comparable, number, signed

FORMAT = 2
LONG = 12
"""More scores than this are shown with one column per encoder."""
_NOT_IN_TABLES = {"values", "predicted", "labels", "details"}


@dataclass(frozen=True)
class EvaluationReport:
    """All scores of one call, the first encoder's first.

    Attributes: `notes`, sentences on what was left out, capped or missing; `metadata`, the data, the settings and the
    versions; `classes`, the names of the classes of each data set; `differences`, those computed so far.
    """

    rows: tuple[Score, ...]
    notes: tuple[str, ...]
    metadata: Mapping[str, Any]
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    differences: dict[tuple[int, int], Interval] = field(default_factory=dict, repr=False, compare=False)

    def score(self, encoder: str, protocol: str, data: str | None = None) -> Score:
        """Return one row; of the first data set, unless told which.

        Raises:
            EvaluationError: if the report has no such row.
        """
        for row in self.rows:
            if (row.encoder, row.protocol) == (encoder, protocol) and data in (None, row.data):
                return row
        known = "; ".join(f"{row.encoder}, {row.protocol}" for row in self.rows)
        raise EvaluationError(f"{encoder}, {protocol}: the report has no such score; it has {known}")

    def compare(self, first: str, second: str, protocol: str = "knn", data: str | None = None) -> Interval:
        """Return score(first) - score(second), in points of percent or the metric's unit, with its 95 % interval.

        Paired on the test images, and on the draws of labels where there are some.

        Raises:
            EvaluationError: if the report lacks one of the two scores, or they are of other test images or of another
                form of the protocol.
        """
        one = self.score(first, protocol, data)
        two = self.score(second, protocol, one.data)
        if not comparable(one, two):
            raise EvaluationError(
                f"{first} and {second}, {protocol}: their scores are of other test images or of another form of the "
                f"protocol ({one.setting}; {two.setting}), so their difference would mean nothing"
            )
        return self._difference(one, two)

    def _difference(self, one: Score, two: Score) -> Interval:
        """Return one - two, computed once."""
        key = id(one), id(two)
        if key not in self.differences:
            difference = paired_difference(one.values, two.values, seed=one.seed)
            self.differences[key] = difference.percent() if one.percent else difference
        return self.differences[key]

    def comparisons(self) -> list[Comparison]:
        """Return every pair of encoders, in every protocol and data set in which both have a score of one form."""
        groups: dict[tuple[str, str], list[Score]] = {}
        for row in self.rows:
            groups.setdefault((row.data, row.protocol), []).append(row)
        return [
            Comparison(one, two, self._difference(one, two))
            for rows in groups.values()
            for one, two in combinations(rows, 2)
            if comparable(one, two)
        ]

    def mean_ranks(self) -> dict[str, dict[str, float]]:
        """Return, per protocol that every encoder has on at least two data sets, the encoders' mean rank, 1 the best.

        Equal scores share the mean of their ranks.
        """
        from scipy.stats import rankdata

        encoders = list(dict.fromkeys(row.encoder for row in self.rows))
        ranks: dict[str, dict[str, float]] = {}
        for protocol in dict.fromkeys(row.protocol for row in self.rows):
            tables = [
                {row.encoder: row for row in self.rows if (row.data, row.protocol) == (data, protocol)}
                for data in dict.fromkeys(row.data for row in self.rows)
            ]
            whole = [
                [table[name].value * (-1 if table[name].higher_is_better else 1) for name in encoders]
                for table in tables
                if table.keys() == set(encoders) and len({row.protocol_hash for row in table.values()}) == 1
            ]
            if len(whole) > 1 and len(encoders) > 1:
                means = np.mean([rankdata(values) for values in whole], axis=0)
                ranks[protocol] = dict(zip(encoders, means.tolist(), strict=True))
        return ranks

    def table(self) -> Table:
        """Return the scores as a rich table; one column per encoder where there are many scores, else one line each."""
        many = self.is_long
        title = "95 % intervals" if many or self._shows()[1] else "Top-1 on the test images, 95 % bootstrap intervals"
        titles, rows = (self._wide_titles(), self._wide_cells()) if many else (self._titles(), self._cells())
        table = text_table(titles, rows, title=title, padding=(0, 1, 0, 0))
        for column in () if many else table.columns[:-1]:  # many columns wrap where the screen is narrow
            column.no_wrap = True
        lines = ((self._legend,) if many else ()) + (*self._rank_lines(), *self.notes)
        table.caption = Text("\n".join(lines), "table.caption") if lines else None
        return table

    def to_markdown(self) -> str:
        """Return the scores as a Markdown page: the table, the comparisons, the notes, the hashes."""
        firsts = {row.data: row for row in reversed(self.rows)}
        return render(
            "evaluation/templates/evaluation.md.j2",
            wide_titles=self._wide_titles() if self.is_long else [],
            wide_cells=list(self._wide_cells()) if self.is_long else [],
            legend=self._legend,
            titles=self._titles(),
            cells=list(self._cells()),
            comparisons=[comparison.text for comparison in self.comparisons()],
            ranks=self._rank_lines(),
            notes=self.notes,
            metadata=self.metadata,
            sets=[firsts[name] for name in dict.fromkeys(row.data for row in self.rows)],
            classes={name: len(names) for name, names in self.classes.items()},
            first=self.rows[0],
            protocols=sorted({(row.protocol, row.protocol_hash) for row in self.rows}),
            encoders=list(dict.fromkeys((row.encoder, row.encoder_hash) for row in self.rows)),
        )

    def to_json(self) -> str:
        """Return everything but the pictures as JSON.

        "correct" packs values that are all 0 or 1, 8 test images a byte, in hex; other values are "values", float32,
        little-endian, zlib, base64.
        """
        body = {
            "format": FORMAT,
            **self.metadata,
            "classes": {name: list(names) for name, names in self.classes.items()},
            "notes": self.notes,
            "mean_ranks": self.mean_ranks(),
            "scores": [_row(row) | {"details": row.details, **_packed(row.values)} for row in self.rows],
        }
        return json.dumps(body, indent=2) + "\n"

    def to_csv(self) -> str:
        """Return one line per score, with its interval and hashes, below a line of titles."""
        rows = [_row(row) for row in self.rows]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def write(self, folder: Path) -> None:
        """Write evaluation.json, evaluation.csv and evaluation.md into `folder`, each whole or not at all.

        Raises:
            EvaluationError: if the folder cannot be made.
        """
        make_folder(folder)
        write_atomically(folder / "evaluation.json", self.to_json())
        write_atomically(folder / "evaluation.csv", self.to_csv())
        write_atomically(folder / "evaluation.md", self.to_markdown())

    @property
    def is_long(self) -> bool:
        """Whether a line per score would fill a screen."""
        return len(self.rows) > LONG

    @property
    def _legend(self) -> str:
        first = self.rows[0].encoder
        return f"< {first} is better, > it is worse, ~ not told apart; paired on the same test images"

    def _wide_titles(self) -> list[str]:
        data, _ = self._shows()
        encoders = dict.fromkeys(row.encoder for row in self.rows)
        return [*(["data"] if data else []), "score", *encoders]

    def _wide_cells(self) -> Iterator[list[str]]:
        """Yield a line per data set and protocol: half the interval's width, and who is better than the first."""
        data, _ = self._shows()
        encoders = list(dict.fromkeys(row.encoder for row in self.rows))
        groups: dict[tuple[str, str], dict[str, Score]] = {}
        for row in self.rows:
            groups.setdefault((row.data, row.protocol), {})[row.encoder] = row
        for (name, protocol), rows in groups.items():
            some = next(iter(rows.values()))
            known = some.metric == "top-1" or some.metric.lower() in protocol.lower()
            title = protocol if known else f"{protocol} ({some.metric})"
            leader = rows.get(encoders[0])
            cells = [self._wide_cell(rows.get(encoder), leader) for encoder in encoders]
            yield [*([name] if data else []), title, *cells]

    def _wide_cell(self, row: Score | None, leader: Score | None) -> str:
        if row is None:
            return ""
        half = (row.high - row.low) / 2
        text = f"{number(row.value, row.percent)} ±" + (f"{half:.1f}" if row.percent else f"{half:.1g}")
        if leader is None or leader is row or not comparable(leader, row):
            return text
        return f"{text} {Comparison(leader, row, self._difference(leader, row)).sign}"

    def _shows(self) -> tuple[bool, bool]:
        """Return whether the table needs a column for data sets, and one for metrics."""
        return len({row.data for row in self.rows}) > 1, {row.metric for row in self.rows} != {"top-1"}

    @property
    def _several(self) -> bool:
        """Whether there is an encoder to compare the first one with."""
        return len({row.encoder for row in self.rows}) > 1

    def _titles(self) -> list[str]:
        data, metric = self._shows()
        score = ["metric", "score"] if metric else ["top-1 %"]
        led = [f"{self.rows[0].encoder} minus this"] if self._several else []
        return [*(["data"] if data else []), "encoder", "protocol", *score, "95 % interval", *led]

    def _cells(self) -> Iterator[list[str]]:
        data, metric = self._shows()
        first = {(row.data, row.protocol): row for row in self.rows if row.encoder == self.rows[0].encoder}
        for row in self.rows:
            leader = first.get((row.data, row.protocol))
            lead = ""
            if leader is not None and leader is not row and comparable(leader, row):
                lead = signed(self._difference(leader, row), row.percent)
            yield [
                *([row.data] if data else []), row.encoder, f"{row.protocol}, {row.setting}",
                *([row.metric + (" %" if row.percent else "")] if metric else []),
                number(row.value, row.percent),
                f"{number(row.low, row.percent)} to {number(row.high, row.percent)}",
                *([lead] if self._several else []),
            ]  # fmt: skip

    def _rank_lines(self) -> list[str]:
        return [
            f"mean rank over data sets, {protocol}: " + ", ".join(f"{name} {rank:.2f}" for name, rank in ranks.items())
            for protocol, ranks in self.mean_ranks().items()
        ]


def _row(row: Score) -> dict[str, Any]:
    """Return the cells of a score that fit a line: no details, no value per image."""
    return {name: getattr(row, name) for name in row.__dataclass_fields__ if name not in _NOT_IN_TABLES}


def _packed(values: Float[np.ndarray, "*R M"]) -> dict[str, str]:
    if values.ndim == 1 and np.isin(values, (0, 1)).all():
        return {"correct": np.packbits(values > 0).tobytes().hex()}
    return {"values": b64encode(compress(np.ascontiguousarray(values, "<f4").tobytes())).decode()}


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
