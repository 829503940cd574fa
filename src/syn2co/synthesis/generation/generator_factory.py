"""Opening a generator: in the main process, and again in each worker process."""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from syn2co.core.errors import ConfigError, SynthesisError
from syn2co.synthesis.generation.encode import JobRunner
from syn2co.synthesis.generation.locks import lock
from syn2co.synthesis.generators.registry import load_generator
from syn2co.synthesis.sets.dataset_folder import MODEL
from syn2co.synthesis.sets.recipe import Recipe, resolve
from syn2co.synthesis.sets.settings import SynthesisSettings, WorkSettings
from syn2co.synthesis.sets.spec import Context

if TYPE_CHECKING:
    from syn2co.images.image_set import ImageSet


@dataclass(frozen=True)
class GeneratorFactory:
    """Everything that a process needs to open the generator."""

    settings: SynthesisSettings
    context: Context
    code: str | None

    def open(self, recipe: Recipe | None = None) -> "JobRunner":
        """Return what makes the images.

        Raises:
            SynthesisError: if the file of the user's own generator changed since the work began.
        """
        recipe = recipe or resolve(self.settings, load_generator(self.settings.generator), None)
        if recipe.generator.code != self.code:
            raise SynthesisError(f"generator = {recipe.generator.name}: the file changed during the work; start again")
        options = recipe.generator.options.parse(self.settings.options, under="options.")
        if "max_attempts" in type(options).model_fields:
            attempts = getattr(options, "max_attempts") + self.settings.work.retry_skipped  # noqa: B009 - of some alone
            options = options.model_copy(update={"max_attempts": attempts})
        return JobRunner(recipe.generator.open(options, self.context), recipe.generator.name, self.settings)


def open_generator_for(
    folder: Path | None, recipe: Recipe, images: "ImageSet | None", *, progress: bool
) -> tuple[GeneratorFactory, JobRunner]:
    """Return the opened generator, and how other processes open it; one process at a time fits or trains a model."""
    settings, generator, device = recipe.settings, recipe.generator, device_of(recipe)
    if generator.torch:
        device = settings.work.device  # it chooses for itself: of several ranks none may name the index of its GPU
    context = Context(
        size=settings.size,
        seed=settings.seed,
        real=images,
        folder=None if folder is None else folder / MODEL,
        device=device,
        progress=progress,
    )
    with lock(folder, MODEL) if generator.learns and folder is not None else contextlib.nullcontext():
        runner = GeneratorFactory(settings, context, recipe.generator.code).open(recipe)
    return GeneratorFactory(settings, replace(context, progress=False), recipe.generator.code), runner


def device_of(recipe: Recipe) -> str:
    """Return the device that the generator of a recipe works on."""
    device = recipe.settings.work.device
    if recipe.generator.torch:
        from syn2co.runtime.device import choose_device

        return str(choose_device(device))
    return "cpu" if device == "auto" else device


def check_license(runner: JobRunner, work: WorkSettings) -> None:
    """Refuse a model of unknown license unless that is allowed.

    Raises:
        ConfigError: if there is a model, its license is unknown and `allow_unknown_license` is false.
    """
    metadata = runner.generator.metadata
    if metadata.get("model") is not None and metadata.get("license") is None and not work.allow_unknown_license:
        raise ConfigError(
            f"model = {metadata['model']}: its license is unknown, so nobody could tell what the images may be used "
            "for; look it up, and name it in options.license or set work.allow_unknown_license=true"
        )
