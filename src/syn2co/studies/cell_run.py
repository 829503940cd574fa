"""The run of one cell: synthetic images, pretraining, evaluation, and what each of them cost."""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from syn2co.core.errors import StudyError, SynthesisError
from syn2co.core.json_files import JsonError, read_json
from syn2co.core.versions import source_hash
from syn2co.data.open import open_images
from syn2co.diagnostics.doctor import judge
from syn2co.diagnostics.evidence import read_evidence
from syn2co.evaluation.evaluate import AnyEncoder, score
from syn2co.evaluation.kept_results import KeptResults
from syn2co.evaluation.results import EvaluationReport
from syn2co.images.image_set import ImageSet
from syn2co.models.encoder import build_encoder
from syn2co.pretraining.metrics import read_metrics
from syn2co.pretraining.run_folder import MIX
from syn2co.pretraining.train import pretrain
from syn2co.runtime import distributed
from syn2co.runtime.determinism import describe
from syn2co.runtime.device import choose_device
from syn2co.studies.cell import CellJob, cell_job
from syn2co.studies.commands import commands_of
from syn2co.studies.portable import portable_values
from syn2co.studies.results import FAILED, CellResult, Cost
from syn2co.synthesis.generation.generate import DatasetInfo, generate

RUN, SCORES = "run", "scores"
POINTS = 100
"""Most records of the metrics in a result."""


def run_cell(job: CellJob, study: Path, folder: Path, *, progress: bool) -> CellResult:
    """Run a cell, or resume it, and write cell.json into its folder; all ranks call this in one process group.

    Args:
        job: the cell.
        study: folder of the study, where sets of synthetic images are shared.
        folder: folder of the cell.
        progress: show bars on standard error.

    Raises:
        Syn2CoError: as `generate`, `pretrain` and `evaluate`.
    """
    files = source_hash()  # as they are imported; others may change them before the run ends
    _refuse_other_images(job)
    made = None if job.images is None else _make_images(job, study, progress)
    if job.cell.level.images == "untrained":
        encoder, of_run = build_encoder(job.config.encoder_spec, seed=job.cell.seed), {}
    else:
        synthetic = () if made is None else (made.folder,)
        encoder = pretrain(job.config, out=folder / RUN, synthetic=synthetic, progress=progress).folder
        of_run = _of_run(encoder)
    started, kept = time.monotonic(), KeptResults(folder / SCORES)
    report = _evaluate(job, encoder, kept, progress)
    cost = Cost(
        training_seconds=_training_seconds(of_run.get("curves", ()), job.config.training.batch),
        generation_seconds=_generation_seconds(folder / RUN),
        evaluation_seconds=time.monotonic() - started + kept.seconds,
        images_made=0 if made is None else made.images,
        processors=_processors(job),
    )
    of_run["curves"] = _thinned(of_run.get("curves", ()))
    config = job.config.model_dump(mode="json", exclude={"data": {"real", "synthetic"}, "machine": True})
    result = CellResult(
        cell=job.hash, levels=job.cell.levels, seed=job.cell.seed, report=report, cost=cost,
        config=portable_values(config), commands=commands_of(job), shared=job.shared,
        source_hash=files, **of_run,
    )  # fmt: skip
    if distributed.is_main():
        result.write(folder)
        (folder / FAILED).unlink(missing_ok=True)
        shutil.rmtree(folder / SCORES, ignore_errors=True)
    return result


def _refuse_other_images(job: CellJob) -> None:
    """Refuse images that are no longer those of the cell's hash: hours may lie between the study's start and now."""
    if job.cell.level.images == "untrained":
        return
    data, known, source = job.config.data, job.inputs.fingerprints, f"source {job.cell.level.source}"
    first = cell_job(job.cell.study.cells()[0], job.inputs).config.data  # the study's start opened them by its settings
    learns = job.images is not None and job.images.generator != "procedural"
    opened: dict[str, ImageSet] = {}
    if data.real or learns:
        opened["real"] = distributed.main_first(lambda: job.inputs.open_real(first))
    if source in known:
        opened[source] = distributed.main_first(lambda: open_images(data.synthetic, cache="never"))
    for name, images in opened.items():
        if images.fingerprint != known[name]:
            raise StudyError(
                f"{name}: the images are no longer those that the study began with; restore them and run it again"
            )


def _make_images(job: CellJob, study: Path, progress: bool) -> DatasetInfo:
    """Make the cell's synthetic images, or what they lack; from its real images alone."""
    assert job.images is not None
    real = () if job.images.generator == "procedural" else job.inputs.open_real(job.config.data)
    made = generate(job.images, job.set_folder(study), real=real, progress=progress and distributed.is_main())
    if not made.complete:
        raise SynthesisError(f"{made.folder.name}: another process makes these images and is not done; run it again")
    return made


def _of_run(run: Path) -> dict[str, Any]:
    """Return what the result says of a run."""
    records, evidence = read_metrics(run), read_evidence(run)
    diagnosis = judge(evidence, str(run))
    findings = [{"check": part.check, "level": part.level, "reason": part.reason} for part in diagnosis.findings]
    return {
        "steps": records[-1]["step"] if records else 0,
        "precision": evidence.config.training.precision,
        "health": {"headline": diagnosis.headline, "healthy": diagnosis.healthy, "findings": findings},
        "curves": records,
    }


def _training_seconds(records: Sequence[Mapping[str, Any]], batch: int) -> float:
    """Return the wall time of the training loop, from the speed in each record."""
    seconds, step = 0.0, 0
    for record in records:
        if record.get("images_per_second"):
            seconds += (record["step"] - step) * batch / record["images_per_second"]
            step = record["step"]
    return seconds


def _generation_seconds(run: Path) -> float:
    """Return the time that the run's synthetic images took, 0 if there are none."""
    path = run / MIX
    try:
        return float(read_json(path, _MixFile).get("generation_seconds", 0.0)) if path.exists() else 0.0
    except JsonError as error:
        raise StudyError(f"{run.name}/{MIX}: {error}; delete the cell's folder, and it is run again") from None


class _MixFile(BaseModel):
    """JSON of mix.json, as far as a study needs it."""

    generation_seconds: float = 0.0


def _thinned(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return every k-th record, the last one and all scores while training."""
    stride = max(1, -(-len(records) // POINTS))
    return [
        record for number, record in enumerate(records) if (len(records) - 1 - number) % stride == 0 or "knn" in record
    ]


def _evaluate(job: CellJob, encoder: AnyEncoder, kept: KeptResults, progress: bool) -> EvaluationReport:
    inputs, settings = job.inputs, job.evaluation
    with distributed.session(choose_device(settings.device).type):
        report, _ = score(
            [encoder],
            list(inputs.train),
            list(inputs.test),
            protocols=job.cell.study.protocols,
            transfer=inputs.transfer,
            settings=settings,
            progress=progress,
            kept=kept,
        )
    return report


def _processors(job: CellJob) -> str:
    """Return device, threads and ranks in words."""
    machine = describe(choose_device(job.config.machine.device))
    threads = job.config.machine.threads or machine["threads"]
    return f"{machine['device']}, {threads} threads, {machine['ranks']} ranks"
