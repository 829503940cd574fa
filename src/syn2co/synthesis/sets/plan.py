"""The plan of a set, from settings to one job per image: a pure function, and lazy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from syn2co.core.errors import ConfigError
from syn2co.synthesis.sets.job import Job
from syn2co.synthesis.sets.recipe import Recipe, resolve
from syn2co.synthesis.sets.settings import SHARD_SIZE, SynthesisSettings
from syn2co.synthesis.sets.spec import BUILTIN, GeneratorSpec
from syn2co.synthesis.sets.subjects import Subjects, open_subjects

if TYPE_CHECKING:
    from syn2co.images.image_set import ImageSet


@dataclass(frozen=True)
class Plan(Sequence[Job]):
    """The jobs of a set in order; each is made when it is asked for, so a plan of millions takes no memory.

    Example:
        >>> jobs = syn2co.plan(syn2co.SynthesisSettings(size=16), count=2500)
        >>> len(jobs), jobs.shards, jobs.shard_length(2), jobs[2499].subject
        (2500, 3, 500, 'program:2499')
    """

    recipe: Recipe
    """Settings and generator, which determine each image."""
    recipe_hash: str
    """32 hex digits of the recipe, part of every job's id."""
    subjects: Subjects
    """Programs, classes, captions or real images, taken in turn."""
    length: int
    """Images of the set."""
    shard_size: int
    """Images per shard; the last one may have fewer."""

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> list[Job]: ...
    def __getitem__(self, index: int | slice) -> Job | list[Job]:
        if isinstance(index, slice):
            return [self.subjects.job(self.recipe_hash, i) for i in range(self.length)[index]]
        return self.subjects.job(self.recipe_hash, range(self.length)[index])

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.length // self.shard_size)

    def shard_length(self, number: int) -> int:
        """Return the number of jobs of one shard."""
        return min(self.shard_size, self.length - number * self.shard_size)

    def shard(self, number: int) -> list[Job]:
        """Return the jobs of one shard."""
        return self[number * self.shard_size : (number + 1) * self.shard_size]


def make_plan(
    settings: SynthesisSettings,
    generator: GeneratorSpec,
    *,
    count: int | None = None,
    real: "ImageSet | None" = None,
    fingerprint: str | None = None,
) -> Plan:
    """Return the plan of `count` images (default: `work.count`, else `per_subject` images of each subject).

    The plan of more images begins with the plan of fewer. `real` are the real images that the generator learns from
    or varies; where they are not at hand, `fingerprint` stands for those it learned from.

    Raises:
        ConfigError, DataError: on settings that contradict each other, and on lists that are missing or empty or name
            a subject twice.
    """
    recipe = resolve(settings, generator, fingerprint if real is None else real.fingerprint)
    if generator.name in BUILTIN and generator.learns and recipe.real is None:
        raise ConfigError(f"real: the {generator.name} generator learns from real images and got none; give --real")
    subjects = open_subjects(settings, real, programs=generator.programs, prompts=generator.prompts)
    chosen = count if count is not None else settings.work.count
    if chosen is None:
        if subjects.number is None or subjects.kind == "unconditional":
            raise ConfigError("count: is not given and there is no list of classes or captions to follow; give --count")
        chosen = subjects.number * settings.per_subject
    if chosen < 1:
        raise ConfigError(f"count = {chosen}: must be at least 1")
    return Plan(recipe, recipe.hash, subjects, chosen, settings.work.shard_size or SHARD_SIZE)
