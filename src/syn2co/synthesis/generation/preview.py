"""Preview of a call of `generate`: images, shards, the first jobs, and the expected time and size."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from syn2co.core.progress import clock
from syn2co.synthesis.generation.disk_budget import bytes_of
from syn2co.synthesis.generation.generator_factory import open_generator_for
from syn2co.synthesis.generation.plan import open_real
from syn2co.synthesis.sets.dataset_folder import is_done
from syn2co.synthesis.sets.job import Job
from syn2co.synthesis.sets.plan import Plan
from syn2co.synthesis.sets.shards import EncodedImage, stem

if TYPE_CHECKING:
    from syn2co.images.image_set import ImageSet

FIRST = 10
TRIED = 16


@dataclass(frozen=True)
class Preview:
    """A plan and its cost; what is not known is None."""

    jobs: Plan
    missing: int
    """Images that the folder lacks."""
    bytes_an_image: float | None
    seconds_an_image: float | None
    """Of one process."""

    def text(self) -> str:
        """Return the plan in words, with its first ten jobs."""
        subjects, work = self.jobs.subjects, self.jobs.recipe.settings.work
        number = "" if subjects.number is None else f"{subjects.number} "
        size = None if self.bytes_an_image is None else self.bytes_an_image * len(self.jobs)
        seconds = None if self.seconds_an_image is None else self.seconds_an_image * self.missing / max(1, work.workers)
        first = [_job(job) for job in self.jobs[:FIRST]]
        return "\n".join(
            [
                f"images     {len(self.jobs)}, of which {self.missing} are missing",
                f"shards     {self.jobs.shards} of {self.jobs.shard_size}",
                f"subjects   {number}{subjects.kind}",
                f"disk       {'unknown before the first images' if size is None else f'about {decimal(round(size))}'}",
                f"time       {'unknown before the first images' if seconds is None else _about(seconds, work.workers)}",
                f"recipe     {self.jobs.recipe_hash}",
                f"first {len(first)}",
                *first,
            ]
        )


def preview(jobs: Plan, out: Path | None, real: "Sequence[str | Path] | ImageSet" = ()) -> Preview:
    """Return what making the plan in the folder `out` would cost; nothing is written.

    Cost is measured on a few images where that takes seconds, else taken from the shards in the folder.
    """
    done = [number for number in range(jobs.shards) if is_done(out, jobs, number)] if out is not None else []
    missing = len(jobs) - sum(map(jobs.shard_length, done))
    if jobs.recipe.generator.quick:
        return Preview(jobs, missing, *_try(jobs, real))
    stored = None
    if out is not None and done:
        files = [out / f"{stem(number)}{suffix}" for number in done for suffix in (".tar", ".jsonl")]
        stored = sum(path.stat().st_size for path in files) / (len(jobs) - missing)
    return Preview(jobs, missing, stored, None)


def _try(jobs: Plan, real: "Sequence[str | Path] | ImageSet") -> tuple[float | None, float | None]:
    """Return bytes and seconds per image, from a few images that are spread over the plan; the first warms up."""
    images = open_real(real, jobs.recipe.settings)
    runner = open_generator_for(None, jobs.recipe, images, progress=False)[1]
    runner(jobs[:1])
    chosen = [jobs[position * len(jobs) // min(TRIED, len(jobs))] for position in range(min(TRIED, len(jobs)))]
    start = time.perf_counter()
    results = runner(chosen)
    seconds = (time.perf_counter() - start) / len(chosen)
    sizes = [bytes_of(result.data, result.text) for result in results if isinstance(result, EncodedImage)]
    return (sum(sizes) / len(sizes) if sizes else None), seconds


def job_as_json(job: Job) -> dict[str, Any]:
    """Return a job under the names of the manifest."""
    return {
        "id": job.id,
        "seed": job.seed,
        "subject": job.subject,
        "k": job.k,
        "group": job.group,
        "class": job.class_name,
        "prompt": job.prompt,
        "source": job.source,
    }


def _job(job: Job) -> str:
    about = job.prompt or job.source or job.class_name or job.subject
    return f"  {job.id}  k={job.k}  {about}".rstrip()


def _about(seconds: float, workers: int) -> str:
    return f"about {clock(seconds)} in {max(1, workers)} process{'es' if workers > 1 else ''}"
