"""Procedural images that are made when they are read: no storage, the pixels of a stored set of the same recipe.

A source is named procedural:PROGRAM[:COUNT[:SIZE]], such as procedural:leaves:100000:32.

Axis letters: M images of the source, S side in pixels.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from jaxtyping import UInt8

from syn2co.core.errors import DataError
from syn2co.core.hints import nearest
from syn2co.core.keyed_rng import digest
from syn2co.images.identity import group_id
from syn2co.images.quarantine import BrokenImage, Quarantined
from syn2co.synthesis.sets.plan import make_plan
from syn2co.synthesis.sets.settings import SynthesisSettings

if TYPE_CHECKING:
    from syn2co.synthesis.sets.spec import Generator

COUNT, SIZE = 100_000, 128
MOST, LARGEST = 10_000_000, 8192


class ProceduralSource:
    """The images of a plan, drawn one by one; `load` gives equal pixels in every process, every time."""

    labels_used = False
    made_by = ("procedural",)
    licenses: Mapping[str, tuple[str, ...]] = {"procedural": ("CC0-1.0",)}  # as stored sets of it say
    on_the_fly = True
    classes: tuple[str, ...] = ()
    skipped: tuple[Quarantined, ...] = ()
    ignored = 0
    stamp: str | None = None

    def __init__(self, program: str, count: int, size: int) -> None:
        from syn2co.synthesis.generators.registry import load_generator

        self.size = size
        settings = SynthesisSettings.parse({"options": {"program": program}, "size": size})
        self.plan = make_plan(settings, load_generator("procedural"), count=count)
        self.identity = f"procedural:{program}:{size}"
        self.labels = np.full(count, -1, np.int32)
        groups = (group_id(self.plan[row].group) for row in range(count))
        self.group_ids = np.fromiter(groups, np.int64, count)
        self.source_ids = np.full(count, -1, np.int64)
        self._generator: Generator | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the opened generator, which other processes open themselves."""
        return self.__dict__ | {"_generator": None}

    @property
    def nbytes(self) -> int:
        """Return the memory of the index in bytes."""
        return self.labels.nbytes + self.group_ids.nbytes + self.source_ids.nbytes

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, row: int) -> str:
        """Return the job's id, as the image is called in a stored set."""
        return f"{self.plan[row].id}.png"

    def load(self, row: int) -> UInt8[np.ndarray, "S S 3"]:
        """Return the image of one job.

        Raises:
            BrokenImage: if the program cannot draw it.
        """
        from syn2co.synthesis.sets.spec import Context, Skipped

        if self._generator is None:
            generator = self.plan.recipe.generator
            options = generator.options.parse(self.plan.recipe.settings.options)
            self._generator = generator.open(options, Context(size=self.size))
        made = self._generator.make([self.plan[row]])[0]
        if isinstance(made, Skipped):
            raise BrokenImage(f"it could not be drawn ({made.reason})")
        return made if isinstance(made, np.ndarray) else made.image

    def digest(self) -> bytes:
        """Return the hash of the recipe, the generator's revision and the count."""
        from syn2co.synthesis.generators.procedural import REVISION

        return digest("procedural", self.plan.recipe_hash, REVISION, len(self))


def open_procedural(text: str) -> ProceduralSource:
    """Return the source of "PROGRAM[:COUNT[:SIZE]]".

    Raises:
        DataError: if there is no such program, or a number is none.
    """
    from syn2co.synthesis.generators.procedural import ProceduralOptions

    program, *numbers = text.split(":")
    known = get_args(ProceduralOptions.model_fields["program"].annotation)
    if program not in known:
        raise DataError(
            f"procedural:{text}: there is no program '{program}'{nearest(program, known)}; known are {', '.join(known)}"
        )
    if len(numbers) > 2 or not all(number.isascii() and number.isdecimal() for number in numbers):
        raise DataError(
            f"procedural:{text}: must look like procedural:PROGRAM:COUNT:SIZE with whole numbers, such as "
            "procedural:leaves:100000:32; correct it"
        )
    count, size = (*map(int, numbers), *(COUNT, SIZE)[len(numbers) :])
    if count < 1 or size < 8:
        raise DataError(f"procedural:{text}: needs at least 1 image of at least 8 pixels; raise the numbers")
    if count > MOST or size > LARGEST:
        raise DataError(
            f"procedural:{text}: must be at most {MOST:,} images of at most {LARGEST:,} pixels; lower the numbers"
        )
    return ProceduralSource(program, count, size)


def with_size(specs: Sequence[str], size: int) -> list[str]:
    """Return source names in which procedural ones without a size have this one."""
    completed = []
    for spec in specs:
        parts = spec.split(":")
        if parts[0] == "procedural" and len(parts) in (2, 3):
            spec = ":".join([*parts, *[str(COUNT)][len(parts) - 2 :], str(size)])
        completed.append(spec)
    return completed
