"""Generators of images: jobs in, uint8 images out, and the facts that the manifest lines carry.

Axis letters: H height, W width in pixels.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from syn2co.core.errors import ConfigError
from syn2co.core.settings import Settings
from syn2co.synthesis.sets.job import Job

if TYPE_CHECKING:
    from syn2co.images.image_set import ImageSet

Image = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True)
class GeneratedImage:
    """One image with notes for its manifest line.

    Example:
        >>> GeneratedImage(np.zeros((8, 8, 3), np.uint8), {"attempt": 1}).notes
        {'attempt': 1}
    """

    image: Image
    """uint8 RGB, at the stored size."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Plain values by name, such as {"prompt_cut": True, "attempt": 1}."""


@dataclass(frozen=True)
class Skipped:
    """A job without an image; it is listed in skipped.jsonl and counted in place of one.

    Example:
        >>> Skipped("the safety checker refused it").reason
        'the safety checker refused it'
    """

    reason: str
    """The reason in words, as skipped.jsonl shows it."""


@dataclass(frozen=True)
class Generator:
    """Maker of images from jobs; the image of a job must not depend on the other jobs of the call.

    Example:
        >>> def gray(jobs):
        ...     return [np.full((8, 8, 3), job.rng("level").integers(256), np.uint8) for job in jobs]
        >>> facts = {"generator": "gray", "model": None, "revision": None, "license": None}
        >>> generator = Generator(make=gray, metadata=facts, batch=64)
        >>> [image.shape for image in generator.make(syn2co.plan(syn2co.SynthesisSettings(size=8), count=2)[:])]
        [(8, 8, 3), (8, 8, 3)]
    """

    make: Callable[[Sequence[Job]], Sequence[Image | GeneratedImage | Skipped]]
    """Jobs to one outcome each, in their order."""
    metadata: Mapping[str, Any]
    """Facts for every manifest line: at least "generator", "model", "revision" and "license" (None where there is
    none), further "guidance", "steps", "sampler", and "versions", a mapping from package to version."""
    exact: bool = True
    """A repeat gives the same bytes; else it is compared within 1/255."""
    labels_used: bool = False
    """Somebody's labels went into the generator (class-conditional models)."""
    batch: int = 1
    """Jobs per call that suit it best."""
    check: Callable[[Sequence[Job]], object] | None = None
    """Raises for jobs whose class it does not know; asked before anything is written."""


@dataclass(frozen=True)
class Context:
    """Context that a generator is opened in, besides its own options.

    Example:
        >>> Context(size=32).device
        'cpu'
    """

    size: int
    """Side of the stored images in pixels."""
    seed: int = 0
    """Seed of the set; draws of an image come from its job instead."""
    real: "ImageSet | None" = None
    """The user's images, for generators that are fitted to them or vary them."""
    folder: Path | None = None
    """Folder for a fitted or trained model between two calls (made if needed); None keeps the model in memory."""
    device: str = "cpu"
    """auto, cpu, cuda, cuda:N or mps, for generators that use torch."""
    progress: bool = False
    """Show bars on standard error."""


BUILTIN = ("procedural", "fitted", "flow", "diffusion")
"""The generators of syn2co; any other is a function of the user's."""


def refuse_unnamed_file(generator: str, where: str) -> None:
    """Refuse a generator that a file of settings names and that is no built-in one: opening it would run it.

    Raises:
        ConfigError: naming the file that holds the settings.
    """
    if generator not in BUILTIN:
        raise ConfigError(
            f"{where}: names a generator of its own, {generator}, and no file that a set names is run; read it, then "
            "give it with --generator path.py:function"
        )


SUBJECTS = frozenset({"classes", "captions", "vary"})


@dataclass(frozen=True)
class GeneratorSpec:
    """A generator before it is opened: its options, and what a plan must know of it."""

    name: str
    """As manifests call it."""
    options: type[Settings]
    open: Callable[[Any, Context], Generator]
    subjects: frozenset[str] = SUBJECTS
    """Those of classes, captions and vary that it can make images of."""
    programs: bool = False
    """An image without a subject is of a program with jittered parameters, not of nothing in particular."""
    learns: bool = False
    """Its images depend on the real images as a whole, not just on the one that is varied."""
    prompts: bool = False
    """Images of classes get prompts."""
    torch: bool = False
    quick: bool = False
    """It opens and makes a few images in seconds, so that a dry run may try."""
    code: str | None = None
    """Hash of the file of a user's own function; of a built-in generator, what its `code` says of the options."""
    code_of: Callable[[Any], str | None] | None = None
    complete: Callable[[Any, int], Settings] | None = None
    """Returns the options with what they leave to the size in pixels."""
    check_subjects: Callable[[Any, Collection[str]], None] | None = None
    """Raises for options with which the given subjects cannot be made."""
