"""ImageNet-A, -R, -Sketch and -V2: the clean linear head on other images of its classes.

Axes: M images of a variant, C classes of the head.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from syn2co.core.errors import ConfigError, EvaluationError
from syn2co.core.hints import nearest
from syn2co.core.keyed_rng import digest
from syn2co.core.paths import user_path
from syn2co.evaluation.crops import decoding_threads
from syn2co.evaluation.imagenet_classes import imagenet_classes
from syn2co.evaluation.imagenet_variants import IMAGENET_VARIANTS, RobustSet, find_variants, robust_set
from syn2co.evaluation.near_overlap import hashed_sample, near_overlap
from syn2co.evaluation.protocols.linear import DEFINITION, fitted_probe
from syn2co.evaluation.protocols.protocol import NotApplicable, ProtocolResult, Task, class_values
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.splits import shared_files
from syn2co.images.sources.torchvision import data_root
from syn2co.runtime import distributed


def variants(task: Task) -> list[ProtocolResult]:
    """Return the accuracy of the clean linear head on each variant of ImageNet that the user has.

    Folders come from the setting `variants`, the others by their usual names from the data root. Notes name those that
    are missing or have too few classes of the head.

    Raises:
        NotApplicable: if the training classes are not of ImageNet, or no variant can be scored.
        ConfigError: if the setting names an unknown variant.
        EvaluationError: if too many images of a variant are training images.
        DataError: if a folder is missing, too broken, or laid out otherwise.
    """
    folders = _folders(task.settings)
    _refuse_other_classes(task.splits.classes)
    missing = [name for name in IMAGENET_VARIANTS if name not in folders]
    notes = [f"variants: not there and not scored: {', '.join(missing)}; {_how(missing)}"] if missing else []
    results: list[ProtocolResult] = []
    for name, folder in folders.items():
        try:
            variant = _open(task, name, folder)
        except NotApplicable as reason:
            notes.append(f"variants: {reason}")
            continue
        results.append(_result(task, variant))
    if not results:
        raise NotApplicable("; ".join(note.removeprefix("variants: ") for note in notes))
    return [replace(results[0], notes=(*notes, *results[0].notes)), *results[1:]]


def _how(missing: Sequence[str]) -> str:
    return f"give folders, as in --set variants.{missing[0]}=PATH, or a data root that holds them"


def _folders(settings: EvaluationSettings) -> dict[str, Path]:
    """Return the folder of each variant that is given or found, in the order of `IMAGENET_VARIANTS`."""
    for name in settings.variants:
        if name not in IMAGENET_VARIANTS:
            known = ", ".join(IMAGENET_VARIANTS)
            hint = nearest(name, IMAGENET_VARIANTS, separator="/") or "; choose among these"
            raise ConfigError(f"variants.{name}: there is no such variant of ImageNet, known are {known}{hint}")
    root = data_root() if settings.data_root is None else user_path(settings.data_root)
    below_root = {} if root is None else find_variants(root).have
    given = {name: user_path(folder) for name, folder in settings.variants.items()}
    folders = {**below_root, **given}
    return {name: folders[name] for name in IMAGENET_VARIANTS if name in folders}


def _refuse_other_classes(classes: Sequence[str]) -> None:
    unknown = [name for name in classes if name not in set(imagenet_classes())]
    if unknown:
        raise NotApplicable(
            f"{len(unknown)} of {len(classes)} training classes are no WordNet ids of ImageNet (first: {unknown[0]}), "
            "and ImageNet-A, -R, -Sketch and -V2 have no other classes"
        )


def _open(task: Task, name: str, folder: Path) -> RobustSet:
    """Return the images of a variant, of which a share of `max_overlap` may be training images, as its notes say.

    Raises:
        NotApplicable: if too few classes or images are left.
    """
    settings = task.settings
    make = partial(robust_set, name, folder, task.splits.classes, max_broken_share=settings.max_broken_share)
    try:
        variant = distributed.main_first(make)
    except EvaluationError as error:
        raise NotApplicable(str(error)) from None
    shared = len(shared_files(task.splits.train, variant.images))
    if shared > settings.max_overlap * len(variant.images):
        raise EvaluationError(
            f"variants.{name}: {shared} of {len(variant.images)} images are training images too, byte for byte, so "
            "they would be scored against themselves; give the published set, or allow a larger share with --set "
            f"max_overlap={shared / len(variant.images):.3g}"
        )
    counted = [f"{shared} of {len(variant.images)} images are training images too, byte for byte"] * bool(shared)
    counted += _near_overlap(task, variant)
    return replace(variant, notes=(*variant.notes, *(f"{name}: {note}" for note in counted)))


def _near_overlap(task: Task, variant: RobustSet) -> list[str]:
    """Return a note on images of a variant that are training images stored again."""
    train, threads = task.splits.train, decoding_threads(task.settings.workers)
    first = task.peer(next(iter(task.encoders), task.name))  # the images are the same for every encoder
    bank = first.once("hashes of the training images", lambda: hashed_sample(train, threads))
    sides, most = f"variants.{variant.name}", task.settings.max_overlap
    return first.once(
        f"overlap of {variant.name}",
        lambda: near_overlap(train, variant.images, most, threads=threads, sides=sides, bank=bank),
    )


def _result(task: Task, variant: RobustSet) -> ProtocolResult:
    """Return the row of one variant."""
    images, classes = variant.images, len(task.splits.classes)
    labels = torch.from_numpy(images.labels)
    predicted = variant.predict(fitted_probe(task).logits(task.extract(images, variant.name))).cpu()
    tested = len(labels.unique())
    return ProtocolResult(
        values=class_values((predicted == labels).float(), labels, classes, task.metric),
        metric=task.metric,
        name=variant.name,
        setting=f"{tested} of {classes} classes",
        definition={"protocol": "variants", "variant": variant.name, "among": len(variant.columns), "head": DEFINITION},
        details={"classes": tested, "of": classes, "among": len(variant.columns), "images": len(images)},
        notes=variant.notes,
        fingerprint=digest(task.splits.fingerprint, images.fingerprint).hex(),
    )
