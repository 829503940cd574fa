"""What a generator of images is: jobs in, uint8 images out, and the facts that its manifest lines carry.

Axis letters: H height, W width in pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from syn2co.core.settings import Settings
from syn2co.synthesis.sets.job import Job

if TYPE_CHECKING:
    from syn2co.images.image_set import ImageSet

Image = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True)
class GeneratedImage:
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

    `facts` go into every manifest line: at least "generator", "model", "revision" and "license" (None where there is
    none), further "guidance", "steps", "sampler", and "versions", a mapping package -> version.
    """

    make: Callable[[Sequence[Job]], Sequence[Image | GeneratedImage | Skipped]]
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


BUILTIN = ("procedural", "fitted", "flow", "diffusion")
"""The generators of syn2co; any other is a function of the user's."""
SUBJECTS = frozenset({"classes", "captions", "vary"})


@dataclass(frozen=True)
class GeneratorSpec:
    """A generator before it is opened: its options, and what a plan must know of it."""

    name: str
    """As manifests call it."""
    options: type[Settings]
    open: Callable[[Any, Context], Generator]
    subjects: frozenset[str] = SUBJECTS
    """Which of classes, captions and vary it can make images of."""
    needs_subjects: bool = False
    programs: bool = False
    """Whether an image without a subject is of a program with jittered parameters, not of nothing in particular."""
    learns: bool = False
    """Whether its images depend on the real images as a whole, not just on the one that is varied."""
    prompts: bool = False
    """Whether images of classes get prompts."""
    torch: bool = False
    quick: bool = False
    """Whether it opens and makes a few images in seconds, so that a dry run may try."""
    code: str | None = None
    """Hash of the file of a user's own function; of a built-in generator, what its `code` says of the options."""
    code_of: Callable[[Any], str | None] | None = None
