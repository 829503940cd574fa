"""The recipe of a data set: everything that an image depends on besides its subject and number, under one hash."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from syn2co.core.errors import ConfigError
from syn2co.core.files import public_path
from syn2co.synthesis.sets.settings import NEWER, SynthesisSettings
from syn2co.synthesis.sets.spec import BUILTIN, GeneratorSpec

FORMAT = 1
"""Raised when the same settings begin to mean other images."""
SUBJECTS = {"classes", "captions", "vary", "per_subject"}
PROMPTS = {"templates", "backgrounds"}
NO_PIXEL = {"license", "licence", "cpu_offload", "save_steps"}
"""Options of the built-in generators that change no image; version 0.1 wrote licence."""
PLACE = {"model", "revision", "base", "lora"}
"""Options of the diffusion generator that say where its files lie; `code` knows these by their content."""


@dataclass(frozen=True)
class Recipe:
    """Settings with the generator's options complete, the hash of its code and of the images that it learns from."""

    settings: SynthesisSettings
    generator: GeneratorSpec
    real: str | None
    """Fingerprint of the real images, for generators that learn from them."""

    @property
    def hash(self) -> str:
        return recipe_hash(public_settings(self.settings), self.generator.code, self.real)


def resolve(settings: SynthesisSettings, generator: GeneratorSpec, real: str | None) -> Recipe:
    """Return the recipe of settings and the generator that they name.

    `real` is the fingerprint of the real images, if there are any.

    Raises:
        ConfigError: if an option is unknown or out of range, or the generator cannot make images of the subjects, or
            has no such model.
    """
    _check_subjects(settings, generator)
    options = generator.options.parse(settings.options, under="options.")
    if generator.complete is not None:
        options = generator.complete(options, settings.size)
    if generator.check_subjects is not None:
        generator.check_subjects(options, _given(settings))
    if generator.code_of is not None:
        generator = replace(generator, code=generator.code_of(options))
    settings = settings.model_copy(update={"options": options.model_dump(mode="json")})
    return Recipe(settings, generator, real if generator.learns else None)


def public_settings(settings: SynthesisSettings) -> dict[str, Any]:
    """Return the settings without `work`, without where on the machine files lie, and without `max_real` if unset."""
    values = settings.model_dump(mode="json", exclude={"work"})
    if settings.max_real is None:  # newer than the first sets, whose recipe and hash stay as they are
        del values["max_real"]
    newer = NEWER.get(settings.generator, {})
    values["options"] = {name: value for name, value in values["options"].items() if newer.get(name, ...) != value}
    places = [(values, name) for name in ("generator", "classes", "captions")]
    places += [(values["options"], name) for name in ("model", "base", "lora")]
    for group, name in places:
        if isinstance(group.get(name), str):
            group[name] = public_path(group[name])
    return values


def recipe_hash(settings: Mapping[str, Any], code: str | None, real: str | None) -> str:
    """Return 32 hex digits of public settings (but the lists of subjects), the generator's code and the real images.

    Options that change no image, and the place of a model folder, are left out. Templates and backgrounds count only
    where there are classes to fill in.
    """
    left_out = SUBJECTS if settings["classes"] else SUBJECTS | PROMPTS
    chosen = {name: value for name, value in settings.items() if name not in left_out}
    builtin = settings["generator"] in BUILTIN
    without = (NO_PIXEL if builtin else set()) | (PLACE if settings["generator"] == "diffusion" and code else set())
    chosen["options"] = {name: value for name, value in settings["options"].items() if name not in without}
    chosen["generator"] = settings["generator"].replace("\\", "/").rpartition("/")[2]
    body = json.dumps({"format": FORMAT, "settings": chosen, "code": code, "real": real}, sort_keys=True)
    return blake2b(body.encode(), digest_size=16).hexdigest()


def _check_subjects(settings: SynthesisSettings, generator: GeneratorSpec) -> None:
    foreign = [name for name in _given(settings) if name not in generator.subjects]
    if foreign:
        able = ", ".join(sorted(generator.subjects)) or "none of classes, captions and vary"
        what = "variations of real images" if foreign[0] == "vary" else f"images of {foreign[0]}"
        raise ConfigError(f"{foreign[0]}: the {settings.generator} generator cannot make {what}; it takes {able}")


def _given(settings: SynthesisSettings) -> list[str]:
    """Return those of classes, captions and vary that the images are of."""
    return [name for name in ("classes", "captions", "vary") if getattr(settings, name) not in (None, False)]
