"""Common corruptions: accuracy of the clean linear head on corrupted test images, its relative drop, and mCE.

Axes: M test images, K corruptions, L severities, D features.
Source: Hendrycks and Dietterich, arXiv:1903.12261.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from syn2co.core.errors import EvaluationError
from syn2co.core.hints import nearest
from syn2co.core.progress import Bar
from syn2co.evaluation.crops import CropTransform
from syn2co.evaluation.features import check_finite, extract
from syn2co.evaluation.protocols.linear import DEFINITION, fitted_probe
from syn2co.evaluation.protocols.protocol import NotApplicable, ProtocolResult, Task, chosen_images, class_values
from syn2co.images.corruptions import ALEXNET_ERRORS, CORRUPTIONS, REPLACED, ParameterSet, corrupt, default_parameters
from syn2co.images.corruptions.catalog import SMALLEST_SIDE
from syn2co.images.image_set import ImageSet
from syn2co.runtime import distributed

ALEXNET = "alexnet"
_PUBLISHED_SIDE, _PUBLISHED_CLASSES = 224, 1000  # of ImageNet-C


@dataclass(frozen=True)
class Corrupted:
    """Answers of one encoder's head on clean and on corrupted test images.

    Attributes: `labels` of the images that were corrupted, `classes` of the head, `metric` of the data.
    """

    names: tuple[str, ...]
    severities: tuple[int, ...]
    clean: Bool[Tensor, " M"]
    right: Bool[Tensor, "K L M"]
    labels: Int64[Tensor, " M"]
    classes: int
    metric: str

    def values(self, right: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
        """Return one number per image, linear in `right`, whose mean is the accuracy, in float64."""
        return class_values(right, self.labels, self.classes, self.metric).double()

    def accuracy(self, right: Float[Tensor, " M"]) -> float:
        """Return the accuracy in percent."""
        return 100 * float(self.values(right).mean())

    def errors(self) -> Float[Tensor, "K M"]:
        """Return, per corruption, one number per image whose mean is the error over the severities."""
        return torch.stack([1 - self.values(right.double().mean(0)) for right in self.right])


def robustness(task: Task) -> list[ProtocolResult]:
    """Return the accuracy on corrupted test images, its relative drop, and mCE if a reference is set.

    accuracy = mean over corruptions and severities; drop = (clean - accuracy) / clean; mCE: see `mce_values`. Crops are
    corrupted after the encoder's own resize, at its own side. Severities and corruptions count alike.

    Raises:
        NotApplicable: if the encoder sees images below 8 px.
        EvaluationError: if the reference is no encoder of the table.
    """
    reference = _reference(task)
    table = _parameters(task)
    answers = corrupted(task)
    definition = {
        "protocol": "robustness",
        "corruptions": answers.names,
        "severities": answers.severities,
        "parameters": table,
        "max_images": task.settings.robustness.max_images,
        "replaced": sorted(REPLACED),
        "head": DEFINITION,
    }
    accuracy = ProtocolResult(
        values=answers.values(answers.right.double().mean((0, 1))),
        metric=task.metric,
        definition=definition,
        setting=_setting(task, answers, table),
        details=_details(answers, table, task),
        notes=_notes(task, answers, reference),
    )
    return [accuracy, *_drop(answers, accuracy), *_mce(task, answers, accuracy, reference)]


def corrupted(task: Task) -> Corrupted:
    """Return the answers of a task's head on corrupted images, once for the encoder and all that compare with it."""
    return task.once("corrupted", lambda: _corrupted(task))


def _corrupted(task: Task) -> Corrupted:
    settings, probe = task.settings.robustness, fitted_probe(task)
    names = tuple(name for name in CORRUPTIONS if not settings.corruptions or name in settings.corruptions)
    severities = tuple(sorted(settings.severities))
    rows = chosen_images(len(task.features.test_labels), settings.max_images, "robustness", task.seed)
    labels, images = task.features.test_labels[rows], task.splits.test.subset(rows)
    show = task.progress and distributed.is_main()
    cells: list[Tensor] = []
    with Bar(f"{task.name}: corruptions", len(names) * len(severities), show=show) as bar:
        for name in names:
            for severity in severities:
                bar.advance(0, f"{name} {severity}")
                features = _features(task, images, _corruption(name, severity, _parameters(task), task.seed, rows))
                cells.append(probe.predict(features) == labels)
                bar.advance()
    return Corrupted(
        names=names,
        severities=severities,
        clean=probe.predict(task.features.test[rows]) == labels,
        right=torch.stack(cells).unflatten(0, (len(names), len(severities))),
        labels=labels,
        classes=task.features.classes,
        metric=task.metric,
    )


def _corruption(
    name: str, severity: int, parameters: ParameterSet, seed: int, rows: Int64[np.ndarray, " M"]
) -> CropTransform:
    """Return a change of crops that is keyed by the image's place among all test images."""
    return lambda crop, index: corrupt(crop, name, severity, key=(seed, int(rows[index])), parameters=parameters)


def _features(task: Task, images: ImageSet, transform: CropTransform) -> Float[Tensor, "M D"]:
    settings = task.settings
    features = extract(
        task.encoder,
        images,
        transform=transform,
        device=task.device,
        precision=settings.precision,
        batch_size=settings.batch_size,
        workers=settings.workers,
    )
    check_finite(features, images, task.name)
    return features


def _parameters(task: Task) -> ParameterSet:
    """Return the table of strengths: the one that is set, or that of the largest encoder in the table of scores."""
    encoder: Any = task.encoder
    if encoder.image_size < SMALLEST_SIDE:
        raise NotApplicable(
            f"the encoder sees {encoder.image_size} x {encoder.image_size} px, and corruptions need at least "
            f"{SMALLEST_SIDE} px on each side"
        )
    chosen = task.settings.robustness.parameters
    side = max(int(other.image_size) for other in (encoder, *task.encoders.values()))  # type: ignore[arg-type]
    return default_parameters(side, side) if chosen == "auto" else chosen


def _reference(task: Task) -> str | None:
    """Return the reference of mCE, checked before anything is corrupted."""
    name = task.settings.robustness.reference
    if name is not None and name not in (ALEXNET, *task.encoders):
        known = (ALEXNET, *task.encoders)
        raise EvaluationError(
            f"robustness.reference = {name}: must be {ALEXNET} or an encoder of this table ({', '.join(known[1:])})"
            f"{nearest(name, known) or '; name one of them'}"
        )
    return name


def _drop(answers: Corrupted, accuracy: ProtocolResult) -> Iterator[ProtocolResult]:
    """Yield the relative drop d = 1 - r / c, by d - (r_i - (1 - d) c_i) / c: the drop plus the image's influence."""
    clean, right = answers.values(answers.clean.double()), accuracy.values
    if float(clean.mean()) == 0:
        return
    drop = 1 - right.mean() / clean.mean()
    yield replace(
        accuracy,
        name="robustness drop",
        values=drop - (right - (1 - drop) * clean) / clean.mean(),
        metric="relative drop",
        is_share=False,
        higher_is_better=False,
        details={"clean": answers.accuracy(answers.clean.double()), "corrupted": 100 * float(right.mean())},
        notes=(),
    )


def mce_values(
    errors: Float[Tensor, "K M"], reference: Float[Tensor, "K M"]
) -> tuple[Float[Tensor, " M"], Float[Tensor, " K"]]:
    """Return one number per image whose mean is the mean corruption error mCE, and each corruption's CE.

    CE_k = E_k / R_k with E_k, R_k the mean errors over severities; mCE = mean_k CE_k. Values: mean_k of
    CE_k + (e_ki - CE_k r_ki) / R_k, the ratio plus the image's influence on numerator and denominator. A row of
    `reference` that is constant (published errors) has no influence.

    Source: arXiv:1903.12261, Sec. 4.2.

    Example:
        >>> values, ratios = mce_values(torch.tensor([[0.0, 1.0], [1.0, 1.0]]), torch.full((2, 2), 0.8))
        >>> ratios.tolist(), values.tolist()
        ([0.625, 1.25], [0.625, 1.25])
    """
    means = reference.mean(1)
    ratios = errors.mean(1) / means
    return (ratios[:, None] + (errors - ratios[:, None] * reference) / means[:, None]).mean(0), ratios


def _mce(task: Task, answers: Corrupted, accuracy: ProtocolResult, name: str | None) -> Iterator[ProtocolResult]:
    """Yield mCE against the reference of this name."""
    reference = None if name is None else _reference_errors(task, answers, name)
    if name is None or reference is None or _flawless(answers, reference):
        return
    values, ratios = mce_values(answers.errors(), reference)
    yield replace(
        accuracy,
        name="robustness mCE",
        values=values,
        metric="mCE",
        is_share=False,
        setting=f"{accuracy.setting}, {name} = 100",
        higher_is_better=False,
        definition={**accuracy.definition, "reference": name},
        details={"reference": name, "ce": dict(zip(answers.names, (100 * ratios).tolist(), strict=True))},
        notes=_alexnet_notes(task, answers) if name == ALEXNET else (),
    )


def _reference_errors(task: Task, answers: Corrupted, name: str) -> Float[Tensor, "K M"]:
    """Return the reference's errors as `Corrupted.errors` has them; the published ones are the same for every image."""
    if name != ALEXNET:
        return corrupted(task.peer(name)).errors()
    published = [[ALEXNET_ERRORS[kind][severity - 1] for severity in answers.severities] for kind in answers.names]
    return torch.tensor(published, dtype=torch.float64).mean(1, keepdim=True).expand(-1, len(answers.labels))


def _flawless(answers: Corrupted, reference: Float[Tensor, "K M"]) -> list[str]:
    """Return the corruptions under which the reference makes no error, so that there is nothing to divide by."""
    return [kind for kind, mean in zip(answers.names, reference.mean(1).tolist(), strict=True) if mean <= 1e-9]


def _alexnet_notes(task: Task, answers: Corrupted) -> tuple[str, ...]:
    """Return that mCE is not the published one, unless classes, side, corruptions and severities are."""
    encoder: Any = task.encoder
    cells = answers.right.shape[0] * answers.right.shape[1]
    published = (_PUBLISHED_CLASSES, _PUBLISHED_SIDE, 75)
    if (answers.classes, encoder.image_size, cells) == published and task.metric == "top-1":
        return ()
    return (
        f"robustness mCE: AlexNet's errors are those on the {_PUBLISHED_CLASSES:,} classes of ImageNet at "
        f"{_PUBLISHED_SIDE} px and 75 corruptions; with {answers.classes:,} classes at {encoder.image_size} px and "
        f"{cells} corruptions, mCE compares the encoders of this table and nothing published",
    )


def _setting(task: Task, answers: Corrupted, parameters: str) -> str:
    few = f", {len(answers.labels)} images" if len(answers.labels) < len(task.splits.test_labels) else ""
    return f"{len(answers.names)} corruptions x {len(answers.severities)} severities, {parameters}{few}"


def _notes(task: Task, answers: Corrupted, reference: str | None) -> tuple[str, ...]:
    notes = [f"robustness: {name} is not as published: {REPLACED[name]}" for name in answers.names if name in REPLACED]
    if not answers.clean.any():
        notes.append("robustness: no clean test image is right, so there is no relative drop")
    flawless = [] if reference is None else _flawless(answers, _reference_errors(task, answers, reference))
    if flawless:
        notes.append(
            f"robustness: {reference} makes no error under {', '.join(flawless)}, so nothing can be measured by it and "
            "there is no mCE; choose another robustness.reference"
        )
    return tuple(notes)


def _details(answers: Corrupted, parameters: str, task: Task) -> dict[str, Any]:
    """Return the accuracy in percent per corruption and severity, per group, and on clean images."""
    encoder: Any = task.encoder
    accuracy = {
        name: [answers.accuracy(cell.double()) for cell in cells]
        for name, cells in zip(answers.names, answers.right, strict=True)
    }
    groups: dict[str, list[float]] = {}
    for name, cells in accuracy.items():
        groups.setdefault(CORRUPTIONS[name].group, []).append(sum(cells) / len(cells))
    return {
        "accuracy": accuracy,
        "severities": list(answers.severities),
        "groups": {group: sum(means) / len(means) for group, means in groups.items()},
        "clean": answers.accuracy(answers.clean.double()),
        "parameters": parameters,
        "side": encoder.image_size,
        "replaced": {name: text for name, text in REPLACED.items() if name in answers.names},
    }
