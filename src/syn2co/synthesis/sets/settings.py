"""Settings of a synthetic data set: those that determine each image, and those of the work alone."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from syn2co.core.settings import Settings, Share, read_settings
from syn2co.synthesis.sets.prompts import BACKGROUNDS, TEMPLATES, complaint_about

SHARD_SIZE = 1000
FEW_SKIPPED = 3
"""Skipped images that stop no set, however small it is, unless the allowed share is 0."""
SET = "set"
"""Key of recipe.json that holds facts of the set beside the settings."""
NO_SETTINGS = frozenset({"hash", SET, "check"})
"""Keys of recipe.json that are no settings."""

NEWER: dict[str, dict[str, Any]] = {
    "procedural": {"supersampling": 1},
    "diffusion": {"base": None, "lora": None, "lora_scale": 1.0},
}
"""Options that the first sets of a generator lack, with the value that they have there: recipes leave it out, so that
theirs and their hashes stay."""


class WorkSettings(Settings):
    """Settings of the work, such as the number of images; nothing here changes an image."""

    count: int | None = Field(default=None, gt=0)
    """Images of the set, which may grow later; null is that of the set in the folder, or else `per_subject` for each
    class, caption or real image."""
    shard_size: int | None = Field(default=None, gt=0)
    """Images per shard; null is that of the set in the folder, or else 1000."""
    batch: int | None = Field(default=None, gt=0)
    """Jobs per call of the generator; null leaves it to the generator."""
    workers: int = Field(default=0, ge=0)
    """Processes that make images; 0 makes them in the main process."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps, for generators that use torch."""
    max_skipped_share: Share = 0.01
    """The work is refused if a larger share of the images cannot be made; up to three never stop it, unless this is
    0."""
    retry_skipped: int = Field(default=0, ge=0)
    """Make images that were skipped once more, with so many attempts beyond those of the generator; 0 leaves them."""
    allow_unknown_license: bool = False
    """Allow a model of unknown license."""


class SynthesisSettings(Settings):
    """Settings of one synthetic data set; `work` and the lists of subjects are not part of the recipe's hash.

    Example:
        >>> settings = SynthesisSettings(size=64, options={"program": "leaves"}).with_settings(["work.count=100"])
        >>> settings.generator, settings.work.count
        ('procedural', 100)
    """

    generator: str = "procedural"
    """procedural, fitted, flow, diffusion, or a function of yours: path.py:function."""
    options: dict[str, Any] = {}
    """The generator's own settings."""
    size: int = Field(default=128, ge=8)
    """Side of the images in pixels."""
    seed: int = 0
    """Seed of everything that is drawn; another seed gives other images."""
    format: Literal["png", "jpg", "webp"] = "png"
    """File format of the stored images; png loses nothing."""
    quality: int = Field(default=95, ge=1, le=100)
    """Quality of jpg and webp, from 1 to 100."""
    classes: tuple[str, ...] | str | None = None
    """Class names; or a text file with a name or an ImageNet synset per line; or imagenet-1k."""
    captions: str | None = None
    """A file with a caption per line, or JSONL or CSV with a "caption" or "text"."""
    vary: bool = False
    """Make variations of the real images."""
    max_real: int | None = Field(default=None, gt=0)
    """Most distinct real images that the generator learns from or varies: those that a run with `mix.max_real` of equal
    value and equal seed trains on; null takes all."""
    per_subject: int = Field(default=1, gt=0)
    """Images of each program, and of each class, caption or real image where `work.count` is null."""
    templates: dict[str, float] = TEMPLATES
    """Prompts of classes with their weights; {class}, {gloss} and {background} are filled in."""
    backgrounds: tuple[str, ...] = BACKGROUNDS
    """Texts that {background} stands for, each equally likely."""
    work: WorkSettings = WorkSettings()
    """Number of images, and the way the work is done."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [name for name in ("classes", "captions", "vary") if getattr(self, name) not in (None, False)]
        if len(given) > 1:
            raise ValueError(f"{given[0]}, {given[1]}: images are of classes, captions or real images; give one kind")
        if self.classes is not None and not self.classes:
            raise ValueError("classes: no class names were given; give at least one, a file of them, or null for none")
        complaint = complaint_about(self.templates, self.backgrounds)
        if complaint:
            raise ValueError(complaint)
        return self


def in_todays_words(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a set in today's spelling: version 0.1 wrote licence where it is license now."""
    renamed = {"options": {"licence": "license"}, "work": {"allow_unknown_licence": "allow_unknown_license"}}
    groups = {
        group: {names.get(name, name): value for name, value in values[group].items()}
        for group, names in renamed.items()
        if isinstance(values.get(group), dict)
    }
    return {**values, **groups}


def settings_of_recipe(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the settings in what a recipe.json holds, with the options that it leaves out."""
    values = {name: value for name, value in saved.items() if name not in NO_SETTINGS}
    newer = NEWER.get(str(values.get("generator")), {})
    return values | {"options": newer | values["options"]} if isinstance(values.get("options"), dict) else values


def load_settings(path: str | Path) -> SynthesisSettings:
    """Return the settings in a JSON file; in the recipe.json of a data set, count and shard size are those of the set.

    Raises:
        ConfigError: if the file cannot be read, is not JSON, or names an unknown setting.
    """
    values = in_todays_words(
        read_settings(path, "give settings as JSON, such as a set's recipe.json", leave_out=NO_SETTINGS - {SET})
    )
    about, work = values.pop(SET, None), values.get("work", {})
    if isinstance(about, dict) and isinstance(work, dict):
        values = settings_of_recipe(values)
        of_set = {name: about[name] for name in ("count", "shard_size") if name in about and work.get(name) is None}
        values["work"] = work | of_set
    return SynthesisSettings.parse(values)
