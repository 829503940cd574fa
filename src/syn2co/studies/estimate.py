"""What a study will cost, before it runs: cells, seconds by a few real steps or by finished cells, and disk."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.filesize import decimal

from syn2co.core.progress import clock, note
from syn2co.data.open import open_images
from syn2co.evaluation.features import extract
from syn2co.models.encoder import build_encoder
from syn2co.pretraining.metrics import read_metrics
from syn2co.pretraining.speed import EVERY, SHORT, STEPS
from syn2co.pretraining.train import pretrain
from syn2co.runtime.checkpoint import FOLDER
from syn2co.studies.cell import CellJob
from syn2co.studies.cell_run import RUN
from syn2co.studies.run import StudyRun, expected_seconds, kind_of_run, makes_alike

IMAGES = 512
BYTES_A_PIXEL = 2.0
"""Of a stored synthetic image: PNG of generated 32 px images took 1.7 to 2.4."""


@dataclass(frozen=True)
class StudyEstimate:
    """Cost of the open cells of a study."""

    cells: int
    finished: int
    seconds: tuple[float, ...]
    """Of each open cell, in order."""
    disk: float
    """Bytes of checkpoints and synthetic images."""
    measured: str
    """What the times are measured by."""
    untimed: tuple[str, ...]
    """What they leave out."""
    first: tuple[str, ...]
    """The open cells in words, in order."""

    def text(self) -> str:
        """Return lines for the terminal."""
        left, most = len(self.seconds), 12
        lines = [f"{self.cells} cells, {self.finished} finished, {left} to run; times {self.measured}"]
        shown = list(zip(self.first, self.seconds, strict=True))
        lines += [f"  {clock(seconds)}  {text}" for text, seconds in shown[:most]]
        lines += [f"  ... and {left - most} more"] if left > most else []
        lines.append(f"total {clock(sum(self.seconds))}, one cell at a time; disk {decimal(round(self.disk))}")
        lines += [f"not counted: {', '.join(self.untimed)}"] if self.untimed else []
        return "\n".join(lines)


def estimate_study(run: StudyRun) -> StudyEstimate:
    """Return what the open cells of a study will cost; finished cells tell it, else a few real steps here.

    Nothing is written into the study's folder.

    Raises:
        Syn2CoError: as `pretrain`, if such a run could not be.
    """
    jobs = run.open_jobs
    finished = len(run.jobs) - len(jobs)
    told = {job.hash: expected_seconds(run, job) for job in jobs}
    speeds: dict[str, _Speed] = {}
    for job in jobs:
        if not told[job.hash] and (key := kind_of_run(job.config)) not in speeds:
            note(f"timing {STEPS} steps of {job.cell.text}")
            speeds[key] = _measure(job, run)
    seconds = [told[job.hash] or speeds[kind_of_run(job.config)].cell(job, run) for job in jobs]
    disk = sum(BYTES_A_PIXEL * _images_of(job) * job.config.views.size**2 for job in _distinct_sets(jobs))
    kept = {kind: speed.checkpoints for kind, speed in speeds.items()} | _checkpoints_of_finished(run)
    trained = [kind_of_run(job.config) for job in jobs if job.cell.level.images != "untrained"]
    disk += sum(kept.get(kind, 0.0) for kind in trained)
    measured = [f"{STEPS} steps and the features of {IMAGES} images"] if speeds else []
    measured += [f"{finished} finished cells"] if any(told.values()) else []
    untimed = [f"making the images ({name})" for name in _unknown_generators(run, jobs)]
    if speeds:
        untimed += ["heads and corruptions of the evaluation", *(["other data sets"] if run.inputs.transfer else [])]
    untimed += ["checkpoints"] if not kept.keys() >= set(trained) else []
    return StudyEstimate(
        cells=len(run.jobs),
        finished=finished,
        seconds=tuple(seconds),
        disk=disk,
        measured="by " + " and by ".join(measured or ["nothing"]),
        untimed=tuple(untimed),
        first=tuple(job.cell.text for job in jobs),
    )


def expected_costs(run: StudyRun) -> dict[str, float]:
    """Return the seconds of the open cells by hash, as `estimate_study` has them, and say what they leave out."""
    estimate = estimate_study(run)
    if estimate.untimed:
        note(f"the budget does not count {', '.join(estimate.untimed)} until a finished cell tells it")
    return dict(zip((job.hash for job in run.open_jobs), estimate.seconds, strict=True))


def _unknown_generators(run: StudyRun, jobs: list[CellJob]) -> list[str]:
    """Return the generators of open cells whose images no finished cell had made alike."""
    finished = [job for job in run.jobs if run.is_done(job)]
    unknown = [job for job in jobs if job.images and not any(makes_alike(one, job) for one in finished)]
    return sorted({job.images.generator for job in unknown if job.images})


@dataclass(frozen=True)
class _Speed:
    """Speed of one kind of run on this machine."""

    training: float
    """Images per second."""
    extraction: float
    """Images per second."""
    checkpoints: float
    """Bytes that stay of a run."""

    def cell(self, job: CellJob, run: StudyRun) -> float:
        """Return the seconds of a cell."""
        return job.images_seen / self.training + _scored_images(job, run) / self.extraction


def _measure(job: CellJob, run: StudyRun) -> _Speed:
    """Take a few steps on the real images, and extract a few features."""
    short = [
        f"training.steps={STEPS}", f"machine.log_steps={EVERY}", *SHORT, "mix.mode=real", "mix.max_synthetic=null",
        "mix.ratio=null", "mix.replace=null", "mix.max_real=null",
    ]  # fmt: skip
    config = job.config.with_settings(short)
    config = config.model_copy(
        update={"data": config.data.model_copy(update={"real": run.inputs.real, "synthetic": ()})}
    )
    with TemporaryDirectory() as folder:
        out = pretrain(config, out=Path(folder) / "run", progress=False).folder
        training = float(read_metrics(out)[-1]["images_per_second"])
        checkpoints = sum(path.stat().st_size for path in (out / FOLDER).glob("*"))
    encoder = build_encoder(config.encoder_spec, seed=0)
    images = open_images(list(run.inputs.test), cache="never")
    some = images.subset(range(min(IMAGES, len(images))))
    started = time.monotonic()
    extract(encoder, some)
    return _Speed(training, len(some) / (time.monotonic() - started), config.machine.keep * checkpoints)


def _checkpoints_of_finished(run: StudyRun) -> dict[str, float]:
    """Return the bytes of checkpoints that stay of a run, by kind of run, as far as finished ones still have them."""
    kept: dict[str, float] = {}
    for job in run.jobs:
        paths = list((run.cell_folder(job) / RUN / FOLDER).glob("*")) if run.is_done(job) else []
        if paths:
            kept[kind_of_run(job.config)] = float(sum(path.stat().st_size for path in paths))
    return kept


def _scored_images(job: CellJob, run: StudyRun) -> int:
    """Return the number of images whose features the protocols need; the cache keeps those of clean ones."""
    train, test = run.inputs.counts["train"], run.inputs.counts["test"]
    corrupted = 0
    if "robustness" in job.cell.study.protocols:
        robustness = job.evaluation.robustness
        corrupted = min(test, robustness.max_images or test) * 15 * len(robustness.severities)
    return train + test + corrupted


def _distinct_sets(jobs: list[CellJob]) -> list[CellJob]:
    """Return one cell for each set of synthetic images that is stored."""
    sets: Mapping[str, CellJob] = {job.set_folder(Path()).name: job for job in jobs if job.images is not None}
    return list(sets.values())


def _images_of(job: CellJob) -> int:
    assert job.images is not None
    if job.images.vary:
        return job.images.per_subject * (job.images.max_real or 0)
    return job.images.work.count or 0
