"""What a run folder says, read once for its page and for comparisons."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from syn2co.core.errors import Syn2CoError
from syn2co.core.files import public_path
from syn2co.core.paths import user_path
from syn2co.core.progress import note
from syn2co.diagnostics.diagnosis import Diagnosis
from syn2co.diagnostics.doctor import judge
from syn2co.diagnostics.evidence import read_evidence
from syn2co.evaluation.scores import Score
from syn2co.evaluation.stored_report import read_report
from syn2co.pretraining.config import Config, load_config
from syn2co.pretraining.metrics import read_metrics
from syn2co.pretraining.precision import computing_in
from syn2co.pretraining.run_folder import CONFIG
from syn2co.studies.result_files import read_cell
from syn2co.studies.results import RESULT

EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class RunSummary:
    """A run: its settings, its diagnosis and its records."""

    folder: Path
    config: Config
    diagnosis: Diagnosis
    records: list[dict[str, Any]]
    """Lines of metrics.jsonl of training; those of the online k-NN score are `knn`."""
    knn: list[dict[str, Any]]
    precision: str
    """Precision that it computes in, which the settings may only have asked for."""

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    def last(self, metric: str) -> float | None:
        """Return the last value of a metric, None if no record has it."""
        return next((record[metric] for record in reversed(self.records) if record.get(metric) is not None), None)

    def usual(self, metric: str) -> float | None:
        """Return the median of a metric over the run, None if no record has it."""
        values = [record[metric] for record in self.records if record.get(metric) is not None]
        return median(values) if values else None

    @property
    def settings(self) -> dict[str, str]:
        """Every setting but those of the machine by its dotted name, as JSON; of paths the last part.

        The precision is that in which the run computes.
        """
        return _flat(computing_in(self.config, self.precision).model_dump(mode="json", exclude={"machine": True}))

    def scores(self) -> list[Score]:
        """Return the scores of this run; a damaged file is noted.

        They are in evaluation.json in its folder or beside it, or in the cell.json of a study beside it.
        """
        several: list[Score] = []
        cell = self.folder.resolve().parent / RESULT
        if cell.is_file():
            try:
                several += read_cell(cell).report.rows
            except Syn2CoError as error:
                note(str(error))
        for folder in (self.folder, self.folder.resolve().parent):
            if (folder / EVALUATION).is_file():
                try:
                    report = read_report(folder)
                except Syn2CoError as error:
                    note(str(error))
                    continue
                several += [row for row in report.rows if row.encoder == self.name]
        return several


def read_run(folder: str | Path) -> RunSummary:
    """Return the summary of a run folder.

    Raises:
        ConfigError: if it is no run folder, or its config or metrics cannot be read.
    """
    folder = user_path(folder)
    evidence = read_evidence(folder)
    lines = read_metrics(folder)
    return RunSummary(
        folder=folder,
        config=load_config(folder / CONFIG),
        diagnosis=judge(evidence, str(folder)),
        records=[line for line in lines if "uninformative" in line],
        knn=[line for line in lines if line.get("knn") is not None],
        precision=evidence.config.training.precision,
    )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(_public(value))
    return flat


def _public(value: Any) -> Any:
    if isinstance(value, list):
        return [_public(item) for item in value]
    return public_path(value) if isinstance(value, str) else value
