"""Evidence from a run folder, read without running anything: config, metrics, newest checkpoint, files of a stop."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pydantic import BaseModel

from syn2co.core.errors import CheckpointError, ConfigError, FileError
from syn2co.core.json_files import JsonError, read_json, read_json_lines
from syn2co.core.locks import LOCK, is_held
from syn2co.core.paths import is_file, is_folder, status_of
from syn2co.core.progress import note
from syn2co.pretraining.config import Config, load_config
from syn2co.pretraining.metrics import FILE as METRICS
from syn2co.pretraining.metrics import knn_scores, read_sound_metrics, stands_still
from syn2co.pretraining.precision import computing_in
from syn2co.pretraining.run_folder import CONFIG, PRECISION
from syn2co.runtime.checkpoint import newest_checkpoint


@dataclass(frozen=True)
class Evidence:
    """The facts on one run; `records` are the metrics lines of training, oldest first."""

    run: Path
    config: Config  # in the precision that the run computes in
    records: list[dict[str, Any]]
    knn: list[float]
    switch_step: int  # first step of real images after synthetic ones, 0 in every other run
    stopped_early: bool  # by online_knn.patience
    saved_step: int | None  # of the newest checkpoint that verifies
    damaged: list[str]  # names of checkpoint files that do not verify
    no_checkpoint_verifies: bool
    refused: str | None  # why the checkpoints cannot be read at all, such as another format
    total: int | None  # optimizer steps of the whole run; None while it cannot be known
    steps_per_epoch: int | None
    images: int | None
    nonfinite_step: int | None
    quarantined: dict[str, int]  # reason -> images
    dark: int  # images that are nearly black, 0 unless they are the most
    running: bool

    @property
    def step(self) -> int:
        """The last optimizer step that is known to be done."""
        return max(self.records[-1]["step"] if self.records else 0, self.saved_step or 0)

    @property
    def finished(self) -> bool:
        return self.stopped_early or (self.total is not None and self.step >= self.total)

    @property
    def phase_start(self) -> int:
        """The step at which the present phase began: that of the change from synthetic to real images, or 0."""
        return self.switch_step if self.step > self.switch_step else 0

    @property
    def phase(self) -> list[dict[str, Any]]:
        """The records of the present phase; losses of other images say nothing about it."""
        return [record for record in self.records if record["step"] > self.phase_start]

    @property
    def command(self) -> str:
        """The command that resumes the run."""
        run = shlex.quote(str(self.run))
        return f"syn2co pretrain --config {shlex.quote(str(self.run / CONFIG))} --out {run}"

    def series(self, name: str) -> list[float]:
        """Return a metric over the present phase, without the records that lack it or where it was not finite."""
        return [record[name] for record in self.phase if record.get(name) is not None]

    def late(self, name: str) -> float:
        """Return the median of a metric over the last quarter of the phase (at least 3 records), else nan."""
        values = self.series(name)
        return median(values[-max(3, len(values) // 4) :]) if values else float("nan")

    def summary(self) -> str:
        """Return one line: the recipe, how far it is, how fast, and the k-NN score if there is one."""
        parts = [f"recipe {self.config.recipe}", f"step {self.step}" + (f" of {self.total}" if self.total else "")]
        if self.steps_per_epoch:
            parts.append(f"epoch {self.step / self.steps_per_epoch:.3g}")
        if self.images:
            parts.append(f"{self.images} images")
        if self.series("images_per_second"):
            parts.append(f"{self.late('images_per_second'):.0f} images/s")
        if self.knn:
            parts.append(f"k-NN {self.knn[-1]:.1f} %")
        return ", ".join(parts)


def read_evidence(run: Path) -> Evidence:
    """Read a run folder.

    Raises:
        ConfigError: if it is none, or its config or metrics cannot be read.
    """
    if not is_file(run / CONFIG):
        missing = status_of(run) is None
        what = "holds no config.json" if is_folder(run) else "does not exist" if missing else "is a file"
        raise ConfigError(f"RUN {run}: {what}; give the --out folder of a `syn2co pretrain`")
    config = load_config(run / CONFIG)
    lines = _metrics(run)
    records = [line for line in lines if "uninformative" in line]
    state, damaged, none_verifies, refused = _checkpoint(run)
    per_epoch = state.get("steps_per_epoch") or _steps_per_epoch(records)
    total = state.get("total_steps") or config.training.steps
    if total is None and per_epoch is not None:
        total = round(config.training.epochs * per_epoch)
    step, switch = state.get("step", 0), state.get("mix", {}).get("switch_step", 0)
    still = stands_still(knn_scores(lines, after=switch, upto=step), config.online_knn.patience)
    return Evidence(
        run=run,
        config=computing_in(config, _precision(run, state, config)),
        records=records,
        knn=[line["knn"] for line in lines if line.get("knn") is not None],
        switch_step=switch,
        stopped_early=still and (total is None or step < total),
        saved_step=state.get("step"),
        damaged=damaged,
        no_checkpoint_verifies=none_verifies,
        refused=refused,
        total=total,
        steps_per_epoch=per_epoch,
        images=state.get("images"),
        nonfinite_step=_nonfinite_step(run),
        quarantined=_quarantined(run),
        dark=state.get("dark", 0),
        running=is_held(run / LOCK),
    )


def _metrics(run: Path) -> list[dict[str, Any]]:
    try:
        records, damaged = read_sound_metrics(run)
    except FileError as error:
        raise ConfigError(f"RUN {run}: {error}") from None
    if damaged:
        note(f"{run.name}/{METRICS}: {damaged} lines are damaged and are left out")
    return records


def _checkpoint(run: Path) -> tuple[dict[str, Any], list[str], bool, str | None]:
    """Return the newest state, the damaged files, whether files are there and none verifies, and what refuses them."""
    damaged: list[Path] = []
    refused: str | None = None
    try:
        checkpoint = newest_checkpoint(run, damaged=damaged)
    except CheckpointError as error:
        checkpoint, refused = None, str(error)
    names = [path.name for path in damaged if path.exists()]  # a live run may have deleted an old one meanwhile
    return (checkpoint.state if checkpoint else {}), names, bool(names) and checkpoint is None, refused


def _steps_per_epoch(records: list[dict[str, Any]]) -> int | None:
    return round(records[-1]["step"] / records[-1]["epoch"]) if records and records[-1].get("epoch") else None


def _nonfinite_step(run: Path) -> int | None:
    steps = [path.stem.rpartition("-")[2] for path in run.glob("nonfinite-step-*.json")]
    return max((int(step) for step in steps if step.isdecimal()), default=None)


class _PrecisionFile(BaseModel):
    """JSON of precision.json."""

    precision: Literal["float32", "bfloat16", "float64"]


def _precision(run: Path, state: dict[str, Any], config: Config) -> str:
    """Return what the run computes in; before its first checkpoint, and where none verifies, a file says so."""
    asked = config.training.precision
    try:
        written = read_json(run / PRECISION, _PrecisionFile)["precision"] if not state else asked
    except (OSError, JsonError):
        written = asked
    return state.get("precision", written)


class _QuarantineLine(BaseModel):
    """JSON of one line of quarantine.jsonl, as far as it is counted."""

    reason: str


def _quarantined(run: Path) -> dict[str, int]:
    path, reasons = run / "quarantine.jsonl", {}
    for line in read_json_lines(path, _QuarantineLine) if path.is_file() else []:
        reason = "not readable in quarantine.jsonl" if isinstance(line, JsonError) else line["reason"]
        reasons[reason] = reasons.get(reason, 0) + 1
    return reasons
