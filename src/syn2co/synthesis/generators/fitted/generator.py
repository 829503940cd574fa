"""Images with the statistics of the user's own: spectrum, colors and palette per cluster or class, in closed form.

Axis letters: S side in pixels.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from syn2co.core.errors import ConfigError
from syn2co.core.progress import Bar
from syn2co.core.settings import Settings
from syn2co.core.versions import package_versions
from syn2co.synthesis.generators import procedural
from syn2co.synthesis.generators.conditions import Conditions, Kind
from syn2co.synthesis.generators.fitted.statistics import Statistics, draw, fit
from syn2co.synthesis.generators.model_file import model_hash, read_model, refuse_other, write_model
from syn2co.synthesis.generators.real_images import choose
from syn2co.synthesis.sets.job import Job
from syn2co.synthesis.sets.spec import Context, GeneratedImage, Generator, Image, Skipped

FILE = "fitted.safetensors"
Edges = Image | GeneratedImage | Skipped


class FittedOptions(Settings):
    """Statistics that are fitted, and the origin of the phases."""

    condition: Kind = "cluster"
    """Statistics per cluster of the images, per class (then labels were used), or of all together (none)."""
    clusters: int = Field(default=16, gt=0)
    """Clusters of the images by their thumbnails."""
    max_images: int = Field(default=5000, gt=1)
    """Most images that are looked at, chosen by the seed."""
    phases: Literal["random", "procedural"] = "procedural"
    """Origin of the edges: random phases have none, those of procedural images have theirs."""


def code(options: FittedOptions) -> str | None:
    """Return the revision of the procedural images if the phases are theirs, for the recipe's hash."""
    return f"procedural {procedural.REVISION}" if options.phases == "procedural" else None


def open_generator(options: FittedOptions, context: Context) -> Generator:
    """Return a generator with the statistics of `context.real`, fitted now or read from the model folder.

    Raises:
        DataError: if there are no images to fit, or the model in the folder is of other images.
        ConfigError: if that model is of other settings.
        CheckpointError: if that model is damaged.
    """
    arrays, metadata = _model(options, context)
    conditions = Conditions.restore(arrays, metadata)
    statistics = Statistics.restore(arrays)
    edges = _edges(context) if options.phases == "procedural" else None

    def make(jobs: Sequence[Job]) -> list[GeneratedImage | Skipped]:
        images = [None] * len(jobs) if edges is None else edges(jobs)
        return [_make(statistics, conditions, job, image) for job, image in zip(jobs, images, strict=True)]

    return Generator(
        make=make,
        metadata={
            "generator": "fitted",
            "model": model_hash(arrays),
            "revision": None,
            "license": "as the images it was fitted to",
            "phases": options.phases,
            "procedural_revision": procedural.REVISION if options.phases == "procedural" else None,
            "guidance": None,
            "steps": None,
            "sampler": None,
            "versions": package_versions("numpy", "cv2"),
        },
        exact=True,
        labels_used=conditions.kind == "class",
        batch=16,
    )


def _model(options: FittedOptions, context: Context) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and facts of the model, from its file if there is one."""
    settings = {**options.model_dump(mode="json", exclude={"phases"}), "size": context.size, "seed": context.seed}
    path: Path | None = None if context.folder is None else context.folder / FILE
    if path is not None and path.exists():
        arrays, metadata = read_model(path)
        refuse_other(path.name, metadata, settings, None if context.real is None else context.real.fingerprint)
        return arrays, metadata
    images = choose(context.real, options.max_images, "fitted", context.seed)
    assert context.real is not None
    with Bar("fit", 2 * len(images), show=context.progress) as bar:
        conditions, statistics = fit(
            images,
            options.condition,
            clusters=options.clusters,
            size=context.size,
            seed=context.seed,
            advance=bar.advance,
        )
    arrays = {**statistics.arrays, **conditions.arrays}
    metadata = {
        **conditions.metadata,
        "settings": settings,
        "fingerprint": context.real.fingerprint,
        "images": len(images),
    }
    if path is not None:
        write_model(path, arrays, metadata)
    return arrays, metadata


def _make(statistics: Statistics, conditions: Conditions, job: Job, edges: Edges | None) -> GeneratedImage | Skipped:
    if job.source is not None:
        raise ConfigError(
            f"source = {job.source}: the fitted generator makes no variations of an image; use the flow generator"
        )
    if isinstance(edges, Skipped):
        return edges
    number = conditions.of_job(job)
    image = draw(statistics, number, job.rng("fitted"), edges.image if isinstance(edges, GeneratedImage) else edges)
    return GeneratedImage(image, {} if conditions.kind == "none" else {conditions.note: conditions.names[number]})


def _edges(context: Context) -> Callable[[Sequence[Job]], Sequence[Edges]]:
    """Return a function that makes the procedural images of jobs."""
    return procedural.open_generator(procedural.ProceduralOptions(), Context(size=context.size, seed=context.seed)).make
