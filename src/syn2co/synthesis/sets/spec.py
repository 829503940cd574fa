"""What a generator of images is: jobs in, uint8 images out, and the facts that its manifest lines carry.

Axis letters: H height, W width in pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from syn2co.synthesis.sets.job import Job

if TYPE_CHECKING:
    from syn2co.images.image_set import ImageSet

Image = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True)
class Made:
    """One image with what is to be noted about it in the manifest, such as {"prompt_cut": True, "attempt": 1}."""

    image: Image
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """Says that a job has no image, and why; it is listed and counted in place of one."""

    reason: str


@dataclass(frozen=True)
class Generator:
    """Makes images from jobs; the image of a job must not depend on the other jobs of the call.

    `facts` go into every manifest line: at least "generator", "model", "revision" and "licence" (None where there is
    none), further "guidance", "steps", "sampler", and "versions", a mapping package -> version.
    """

    make: Callable[[Sequence[Job]], Sequence[Image | Made | Skipped]]
    facts: Mapping[str, Any]
    exact: bool = True
    """Whether a repeat gives the same bytes; else it is compared within 1/255."""
    labels_used: bool = False
    """Whether somebody's labels went into the generator (class-conditional models)."""
    batch: int = 1
    """Jobs a call that it likes best."""


@dataclass(frozen=True)
class Context:
    """What a generator is opened with, besides its own options."""

    size: int
    """Side of the stored images in pixels."""
    seed: int = 0
    real: "ImageSet | None" = None
    """The user's images, for generators that are fitted to them or vary them."""
    folder: Path | None = None
    """Where a fitted or trained model is kept between two calls (created if needed); None keeps it in memory."""
    device: str = "cpu"
    progress: bool = False
