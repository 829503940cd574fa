"""Subjects of the images of a set: programs, nothing in particular, classes, captions or real images.

Every kind answers for the i-th image of the plan alone, so no list of jobs is kept. Subjects come in turn (0, 1, ..,
S - 1, 0, 1, ..), so that the plan of more images begins with the plan of fewer.

Groups, whose images are never each other's negatives: a program is one group, a caption is one, a real image and all
its variations are one; images of classes and of nothing in particular are groups of their own, for otherwise a whole
class would stop being negatives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from syn2co.core.errors import ConfigError, DataError
from syn2co.synthesis.sets.job import Job, make_job
from syn2co.synthesis.sets.prompts import choose_prompt, usable_templates
from syn2co.synthesis.sets.settings import SynthesisSettings
from syn2co.synthesis.sets.text_lists import ClassName, TextList, digest_of, first_twice, read_captions, read_classes

if TYPE_CHECKING:
    from syn2co.images.image_set import ImageSet


class Subjects(Protocol):
    """A list of subjects, lazily."""

    @property
    def kind(self) -> str:
        """Their name in the plural."""
        ...

    @property
    def digest(self) -> str:
        """Changes with the list and its order: a set keeps to the list that it began with."""
        ...

    @property
    def number(self) -> int | None:
        """Number of subjects; None if there is no end of them."""
        ...

    def job(self, recipe_hash: str, index: int) -> Job:
        """Return the job of image `index` of the plan."""
        ...


@dataclass(frozen=True)
class Programs:
    """Programs without end; image i is the (i mod per_subject)-th of program i div per_subject."""

    per_subject: int
    kind = "programs"
    number = None

    @property
    def digest(self) -> str:
        return digest_of(["programs", str(self.per_subject)])

    def job(self, recipe_hash: str, index: int) -> Job:
        number, k = divmod(index, self.per_subject)
        return make_job(recipe_hash, f"program:{number}", k, group=f"program:{recipe_hash}:{number}")


@dataclass(frozen=True)
class Unconditional:
    """Images of nothing in particular."""

    kind = "unconditional"
    number = 1
    digest = digest_of(["unconditional"])

    def job(self, recipe_hash: str, index: int) -> Job:
        return make_job(recipe_hash, "", index)


@dataclass(frozen=True)
class Classes:
    """Class names in turn; with templates each image has a prompt."""

    entries: Sequence[ClassName]
    templates: Mapping[str, float]
    backgrounds: Sequence[str]
    seed: int
    digest: str
    prompts: bool
    kind = "classes"

    @property
    def number(self) -> int:
        return len(self.entries)

    def job(self, recipe_hash: str, index: int) -> Job:
        k, number = divmod(index, len(self.entries))
        entry = self.entries[number]
        prompt = None
        if self.prompts:
            key = (self.seed, entry.text, k)
            prompt = choose_prompt(self.templates, self.backgrounds, name=entry.name, gloss=entry.gloss, key=key)
        return make_job(recipe_hash, entry.text, k, class_name=entry.key, prompt=prompt)


@dataclass(frozen=True)
class Captions:
    """Captions in turn; a caption is the prompt as it stands."""

    captions: TextList
    digest: str
    kind = "captions"

    @property
    def number(self) -> int:
        return len(self.captions)

    def job(self, recipe_hash: str, index: int) -> Job:
        k, number = divmod(index, len(self.captions))
        text = self.captions[number]
        return make_job(recipe_hash, text, k, group=f"caption:{text}", prompt=text)


@dataclass(frozen=True)
class RealImages:
    """Real images in turn, known by their names and contents."""

    images: "ImageSet"
    digest: str
    kind = "real images"

    @property
    def number(self) -> int:
        return len(self.images)

    def job(self, recipe_hash: str, index: int) -> Job:
        k, number = divmod(index, len(self.images))
        key = self.images.key(number)
        return make_job(recipe_hash, key, k, group=key, source=key)


def open_subjects(settings: SynthesisSettings, real: "ImageSet | None", *, programs: bool, prompts: bool) -> Subjects:
    """Return what the images of a set are of.

    Raises:
        ConfigError, DataError: if a list is missing, empty, or names a subject twice.
    """
    if settings.classes is not None:
        return _classes(settings, settings.classes, prompts)
    if settings.captions is not None:
        captions = read_captions(settings.captions)
        return Captions(captions, digest_of(captions[i] for i in range(len(captions))))
    if settings.vary:
        if real is None:
            raise ConfigError("vary = true: makes variations of real images and was given none; give them with --real")
        return _real_images(real)
    return Programs(settings.per_subject) if programs else Unconditional()


def _classes(settings: SynthesisSettings, given: tuple[str, ...] | str, prompts: bool) -> Classes:
    entries = read_classes(given)
    without = [entry.key for entry in entries if not entry.gloss]
    if prompts and without and not usable_templates(settings.templates, gloss=False):
        raise ConfigError(
            f"templates: all of them name {{gloss}} and the class {without[0]!r} has none; add one without it, or a "
            "gloss behind a tab in the file of classes"
        )
    digest = digest_of(part for entry in entries for part in entry)
    return Classes(entries, settings.templates, settings.backgrounds, settings.seed, digest, prompts)


def _real_images(real: "ImageSet") -> RealImages:
    keys = TextList(real.key(number) for number in range(len(real)))
    twice = first_twice(keys, real.name)
    if twice:
        raise DataError(f"real: {twice} have the same name and content; leave one out, or it would be varied twice")
    return RealImages(real, digest_of(keys[number] for number in range(len(keys))))
