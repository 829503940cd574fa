"""From settings to the plan of a set, with its sources opened: alone, or as the continuation of the set in a folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from syn2co.data.mixing import subset_rows
from syn2co.data.open import open_images
from syn2co.images.image_set import ImageSet
from syn2co.synthesis.generators.registry import load_generator
from syn2co.synthesis.sets.dataset_folder import check_recipe, read_recipe
from syn2co.synthesis.sets.plan import Plan, make_plan
from syn2co.synthesis.sets.settings import NEWER, SET, SynthesisSettings, WorkSettings, settings_of_recipe


def plan(
    settings: SynthesisSettings,
    *,
    count: int | None = None,
    real: str | Path | Sequence[str | Path] | ImageSet | None = None,
    fingerprint: str | None = None,
) -> Plan:
    """Return the plan of a set: one job per image; the plan of more images begins with the plan of fewer.

    Args:
        settings: the set.
        count: images of the set; None is `work.count`, else `per_subject` images of each subject.
        real: sources of the real images that the generator learns from or varies, or an opened set; `max_real`
            chooses among them.
        fingerprint: stands for the real images that the generator learned from where they are not at hand.

    Returns:
        The jobs in order, made when they are asked for.

    Raises:
        ConfigError, DataError: if there is no such generator, on settings that contradict each other, and on lists
            that are missing or empty or name a subject twice.

    Example:
        >>> [(job.subject, job.k) for job in plan(SynthesisSettings(per_subject=2), count=3)]
        [('program:0', 0), ('program:0', 1), ('program:1', 0)]
    """
    generator = load_generator(settings.generator)
    return make_plan(settings, generator, count=count, real=open_real(real, settings), fingerprint=fingerprint)


def open_real(
    real: str | Path | Sequence[str | Path] | ImageSet | None, settings: SynthesisSettings
) -> ImageSet | None:
    """Return the real images of a set, `max_real` of them; again those if they are given.

    They are opened without keeping their pixels, since processes get copies of the set.

    Raises:
        DataError: if they cannot be opened.
        ConfigError: if there are fewer than `max_real`.
    """
    if not isinstance(real, ImageSet):
        real = open_images(real, cache="never") if real else None
    if real is None or settings.max_real is None:
        return real
    return real.subset(subset_rows(np.arange(len(real)), settings.max_real, "max_real", settings.seed))


def plan_in(
    folder: Path,
    settings: SynthesisSettings,
    images: ImageSet | None,
    *,
    count: int | None = None,
    workers: int | None = None,
) -> Plan:
    """Return the plan of settings for a folder; counts and newer options that they leave open are those of its set.

    `count` and `workers` stand for `work.count` and `work.workers`.

    Raises:
        ConfigError, DataError: as `plan` does, and if the folder holds another set.
        SynthesisError: if its recipe.json is damaged.
    """
    saved = read_recipe(folder)
    work = settings.work.model_dump() | {k: v for k, v in (("count", count), ("workers", workers)) if v is not None}
    if saved is not None:
        work |= {name: saved[SET][name] for name in ("count", "shard_size") if work[name] is None}
        if saved["generator"] == settings.generator:  # of a set from before an option, that is the value of old
            of_set = settings_of_recipe(saved)["options"]
            left = {name: of_set[name] for name in NEWER.get(settings.generator, {}) if name not in settings.options}
            settings = settings.model_copy(update={"options": settings.options | left})
    settings = settings.model_copy(update={"work": WorkSettings.parse(work, under="work.")})
    jobs = plan(settings, real=images, fingerprint=saved[SET]["real"] if saved else None)
    check_recipe(folder, saved, jobs)
    return jobs
