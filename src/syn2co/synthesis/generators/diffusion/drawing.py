"""Images of jobs: seeds, batches, attempts; an image that is flagged, black or constant takes the next seed.

Axis letters: B images of a batch, H height, W width in pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from syn2co.core import keyed_rng
from syn2co.synthesis.sets.job import Job
from syn2co.synthesis.sets.spec import GeneratedImage, Skipped

Image = UInt8[np.ndarray, "H W 3"]
Sample = Callable[[Sequence[Job], Sequence[int]], tuple[Float[np.ndarray, "B H W 3"], Sequence[bool]]]
"""Jobs and one seed each -> pictures in 0..1, and which of them the safety checker flagged."""
DARK = 8
"""An image whose brightest value is below this is black."""


@dataclass
class _Try:
    """A job on its way, with what came of it so far."""

    row: int
    job: Job
    attempt: int = 0
    flagged: int = 0
    blank: int = 0


def attempt_seed(job: Job, attempt: int) -> int:
    """Return the seed of an attempt: that of the job, then ones derived from it."""
    return job.seed if attempt == 0 else keyed_rng.key64("diffusion attempt", job.seed, attempt) >> 1


def draw(
    jobs: Sequence[Job],
    *,
    sample: Sample,
    finish: Callable[[Image], Image],
    notes: Callable[[Job], dict[str, Any]],
    max_attempts: int,
    checker: str,
) -> list[GeneratedImage | Skipped]:
    """Return the image of each job, or why there is none; those that are drawn again are drawn together."""
    results: dict[int, GeneratedImage | Skipped] = {}
    waiting = [_Try(row, job) for row, job in enumerate(jobs)]
    while waiting:
        tries, waiting = waiting, []
        seeds = [attempt_seed(one.job, one.attempt) for one in tries]
        pictures, flags = sample([one.job for one in tries], seeds)
        for one, picture, flagged in zip(tries, pictures, flags, strict=True):
            image = None if flagged else _pixels(picture)
            if image is not None:
                safety = {"checker": checker, "flagged": one.flagged, "blank": one.blank}
                results[one.row] = GeneratedImage(
                    finish(image), {**notes(one.job), "attempt": one.attempt, "safety": safety}
                )
                continue
            one.flagged += bool(flagged)
            one.blank += not flagged
            one.attempt += 1
            if one.attempt < max_attempts:
                waiting.append(one)
            else:
                results[one.row] = Skipped(_refusals(one))
    return [results[row] for row in range(len(jobs))]


def _pixels(picture: Float[np.ndarray, "H W 3"]) -> Image | None:
    """Return the picture in 8 bits, or None if it is black, constant or not finite."""
    if not np.isfinite(picture).all():
        return None
    image = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return None if image.max() < DARK or image.max() == image.min() else image


def _refusals(one: _Try) -> str:
    return (
        f"none of {one.attempt} attempts gave an image: {one.flagged} flagged by the model's safety checker, "
        f"{one.blank} black, constant or not finite"
    )
