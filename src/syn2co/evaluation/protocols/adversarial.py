"""Adversarial attacks: accuracy of the linear head under FGSM and PGD, whose gradients go through head and encoder.

Axes: M attacked test images, B images of a batch, S side of an image in pixels, C classes.
"""

from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from syn2co.core.progress import Bar
from syn2co.evaluation.attacks import attack
from syn2co.evaluation.baselines import RawPixels
from syn2co.evaluation.crops import crop_batches
from syn2co.evaluation.features import crop_reader, frozen
from syn2co.evaluation.protocols.linear import DEFINITION, FittedProbe, fitted_probe
from syn2co.evaluation.protocols.protocol import ProtocolResult, Task, chosen_images, class_values
from syn2co.runtime import distributed

_FGSM_STEPS = 1


def adversarial(task: Task) -> list[ProtocolResult]:
    """Return the accuracy under FGSM and under PGD, for each epsilon.

    White box, L-infinity, on the encoder's own crops in [0, 1] before normalization; the loss is the cross-entropy of
    the clean linear head. Every chosen image is attacked, also those that are wrong without. Random starts are keyed
    by the image's place among all test images. Every rank does the whole work.

    Source: arXiv:1412.6572 (FGSM), arXiv:1706.06083 (PGD; steps of 2.5 epsilon / steps as there).
    """
    settings = task.settings.adversarial
    rows = chosen_images(len(task.splits.test), settings.max_images, "adversarial", task.seed)
    kinds = [
        (f"{name} {epsilon:g}/255", epsilon / 255, steps)
        for epsilon in sorted(set(settings.epsilons))
        for name, steps in (("FGSM", _FGSM_STEPS), ("PGD", settings.steps))
    ]
    right = _right_under(task, rows, {name: (epsilon, steps) for name, epsilon, steps in kinds})
    labels = task.features.test_labels[rows]
    clean = _score(task, fitted_probe(task).predict(task.features.test[rows]) == labels, labels)
    few = f", {len(rows)} images" if len(rows) < len(task.splits.test) else ""
    return [
        ProtocolResult(
            values=_score(task, right[name], labels),
            metric=task.metric,
            name=name,
            setting=("1 step" if steps == _FGSM_STEPS else f"{steps} steps") + few,
            definition={
                "protocol": "adversarial",
                "attack": name.split()[0],
                "epsilon": epsilon,
                "steps": steps,
                "max_images": settings.max_images,
                "head": DEFINITION,
            },
            details={"clean": 100 * float(clean.double().mean()), "epsilon": epsilon, "images": len(rows)},
        )
        for name, epsilon, steps in kinds
    ]


def _score(task: Task, right: Bool[Tensor, " M"], labels: Int64[Tensor, " M"]) -> Float[Tensor, " M"]:
    return class_values(right.float(), labels, task.features.classes, task.metric)


def _right_under(
    task: Task, rows: Int64[np.ndarray, " M"], kinds: dict[str, tuple[float, int]]
) -> dict[str, Bool[Tensor, " M"]]:
    """Return, for each attack (epsilon, steps), whether the head is right about the attacked image."""
    probe = fitted_probe(task)  # and the clean features with it, before the encoder is held
    labels = task.features.test_labels[rows]
    right = {name: torch.zeros(len(rows), dtype=torch.bool) for name in kinds}
    show = task.progress and distributed.is_main()
    with frozen(task.encoder, task.device), Bar(f"{task.name}: attacks", len(rows) * len(kinds), show=show) as bar:
        logits_of = _logits_of(task, probe)
        for part, images in _batches(task, rows):
            keys = [(task.seed, int(row)) for row in rows[part]]
            for name, (epsilon, steps) in kinds.items():
                attacked = attack(
                    logits_of, images, labels[part].to(task.device), epsilon=epsilon, steps=steps, keys=keys
                )
                with torch.no_grad():
                    right[name][part] = logits_of(attacked).argmax(1).cpu() == labels[part]
                bar.advance(len(images), name)
    return right


def _batches(task: Task, rows: Int64[np.ndarray, " M"]) -> Iterator[tuple[slice, Float[Tensor, "B 3 S S"]]]:
    """Yield places among `rows` and their crops in [0, 1], on the device of the task."""
    reader = crop_reader(task.encoder, task.splits.test, None)
    parts = [slice(start, start + task.settings.batch_size) for start in range(0, len(rows), task.settings.batch_size)]
    batches = crop_batches(reader, [rows[part].tolist() for part in parts], workers=task.settings.workers)
    with closing(batches):
        for part, crops in zip(parts, batches, strict=True):
            yield part, crops.to(task.device).permute(0, 3, 1, 2).float() / 255


def _logits_of(task: Task, probe: FittedProbe) -> Callable[[Float[Tensor, "B 3 S S"]], Float[Tensor, "B C"]]:
    """Return the head on the encoder as a function of images in [0, 1], in the precision of the features."""
    low = task.settings.precision == "bfloat16"

    def logits_of(images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C"]:
        with torch.autocast(task.device.type, torch.bfloat16, enabled=low):
            features = task.encoder(normalized(task.encoder, images))
        return probe.logits(features.float()).to(images.device)

    return logits_of


def normalized(encoder: nn.Module, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B ..."]:
    """Return images in [0, 1] as the encoder wants them: what its `preprocess` does to bytes, differentiable."""
    mean, std = (encoder.get_buffer(name).view(3, 1, 1) for name in ("mean", "std"))
    pixels = (images - mean) / std
    return pixels.permute(0, 2, 3, 1).flatten(1) if isinstance(encoder, RawPixels) else pixels
