"""Procedural images: programs of a few random numbers, no weights, no data. One program, jittered, is a positive pair.

Each program's module has `draw(rng)`, the parameters of a group; `jitter(parameters, rng, strength)`, those of one
job; and `render(parameters, rng, size)`, the picture. Bytes are a function of job, options, size and the versions of
NumPy, SciPy and OpenCV on one kind of processor; the number of threads does not matter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from pydantic import Field

from syn2co.core.settings import Settings, Share
from syn2co.core.versions import package_versions
from syn2co.synthesis.generators.procedural import blend
from syn2co.synthesis.generators.procedural.palettes import with_contrast
from syn2co.synthesis.sets.job import Job
from syn2co.synthesis.sets.spec import Context, GeneratedImage, Generator

REVISION = "1"
"""Changes whenever the same job would give another picture."""


class ProceduralOptions(Settings):
    """Programs, and the spread of the images of one program."""

    program: Literal["mix", "leaves", "spectrum", "fractals", "warps", "blend"] = "mix"
    """mix: each group draws one of the five others, all equally likely."""
    blend_of: int = Field(default=3, ge=2)
    """Pictures in a blend (MixUp), with weights from a flat Dirichlet distribution."""
    jitter: Share = 0.1
    """Spread of the images of one group; 0: only by what is drawn anew, such as the chaos game's points."""
    supersampling: int | None = Field(default=None, ge=1, le=8)
    """Side at which pictures are rendered before they are shrunk, in multiples of the size; null is 2 for warps below
    64 px, one of 50 of which would be noise of lines finer than a pixel, and else 1."""


@dataclass(frozen=True)
class Program:
    """The three stages of one kind of picture."""

    draw: Callable[[np.random.Generator], Any]
    jitter: Callable[[Any, np.random.Generator, float], Any]
    render: Callable[[Any, np.random.Generator, int], UInt8[np.ndarray, "S S 3"]]


def programs(blend_of: int = 3) -> dict[str, Program]:
    """Return all programs by name."""
    parts = {name: Program(part.draw, part.jitter, part.render) for name, part in blend.PARTS.items()}
    return {**parts, "blend": Program(partial(blend.draw, count=blend_of), blend.jitter, blend.render)}


def complete(options: ProceduralOptions, size: int) -> ProceduralOptions:
    """Return the options with what they leave to the size in pixels; null stays where warps differ from the others."""
    if options.supersampling is not None or (size < 64 and options.program in ("mix", "warps")):
        return options
    return options.model_copy(update={"supersampling": 1})


def open_generator(options: ProceduralOptions, context: Context) -> Generator:
    """Return the generator of these programs at `context.size` pixels; it needs nothing else of the context."""
    options = complete(options, context.size)
    known = programs(options.blend_of)
    names = list(known) if options.program == "mix" else [options.program]

    def make(jobs: Sequence[Job]) -> list[GeneratedImage]:
        return [_one(job, names, known, options, context.size) for job in jobs]

    metadata = {
        "generator": "procedural",
        "model": options.program,
        "revision": REVISION,
        "license": "CC0-1.0",
        "versions": package_versions("numpy", "scipy", "cv2"),
    }
    return Generator(make, metadata, exact=True, batch=1)


def program_of(
    job: Job, names: Sequence[str], known: dict[str, Program], strength: float
) -> tuple[str, Any, np.random.Generator]:
    """Return the name of the job's program, its jittered parameters, and the generator that it is rendered with."""
    group, rng = job.group_rng("procedural"), job.rng("procedural")
    name = names[int(group.integers(len(names)))]
    parameters = known[name].draw(group)
    return name, known[name].jitter(parameters, rng, strength) if strength else parameters, rng


def _one(
    job: Job, names: Sequence[str], known: dict[str, Program], options: ProceduralOptions, size: int
) -> GeneratedImage:
    """Return the picture of one job, with the name of its program noted."""
    name, parameters, rng = program_of(job, names, known, options.jitter)
    side = size * (options.supersampling or (2 if name == "warps" else 1))
    picture = known[name].render(parameters, rng, side)
    if side > size:
        picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return GeneratedImage(with_contrast(picture), {"program": name})
