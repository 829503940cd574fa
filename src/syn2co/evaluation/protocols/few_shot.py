"""Few-shot and semi-supervised scores: the linear probe with few labels, drawn several times.

Axes: N training images, n images of a draw, M test images, R draws.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from syn2co.core import keyed_rng
from syn2co.core.progress import Bar
from syn2co.evaluation.bootstrap import bootstrap_mean
from syn2co.evaluation.protocols.linear import DEFINITION, fit_probe
from syn2co.evaluation.protocols.protocol import NotApplicable, ProtocolResult, Task, class_values
from syn2co.runtime import distributed


class LabelCount(NamedTuple):
    """How many labels a draw has: a share of those of each class, or a number per class."""

    share: float = 0.0
    per_class: int = 0

    def __str__(self) -> str:
        return f"{100 * self.share:g} %" if self.share else f"{self.per_class} per class"

    def of_class(self, images: int) -> int:
        """Return max(1, round(share * images)), or the number per class capped by the images of the class."""
        return max(1, round(self.share * images)) if self.share else min(self.per_class, images)


def labels_of(shares: Sequence[float], per_class: Sequence[int]) -> list[LabelCount]:
    """Return the rows of a protocol with few labels, in the order of its settings."""
    return [LabelCount(share=share) for share in shares] + [LabelCount(per_class=number) for number in per_class]


def draw_labels(labels: Int64[Tensor, " N"], wanted: LabelCount, *, draw: int) -> Int64[Tensor, " n"]:
    """Return the training images of draw number `draw`, ascending: a function of labels, `wanted` and `draw` alone.

    So that every encoder gets the same images, and comparisons are paired on draws.
    """
    key = f"{wanted.share:g}" if wanted.share else wanted.per_class
    order = keyed_rng.permutation(len(labels), "few-shot", key, draw)
    shuffled = labels.numpy()[order]
    members = (order[shuffled == label] for label in np.unique(shuffled))
    chosen = np.concatenate([rows[: wanted.of_class(len(rows))] for rows in members])
    return torch.from_numpy(np.sort(chosen))


def notes_on(labels: Int64[Tensor, " N"], wanted: LabelCount, row: str) -> Iterator[str]:
    """Yield the note on classes that have fewer images than are wanted per class."""
    counts = torch.bincount(labels)
    counts = counts[counts > 0]
    short = int((counts < wanted.per_class).sum())
    if short:
        yield f"{row}: {short} of {len(counts)} classes have fewer images than that, so all of theirs are taken"


def details_of(values: Float[Tensor, "R M"], images: int, *, seed: int) -> dict[str, Any]:
    """Return the score of each draw, the number of labels, and the interval over test images of the mean over draws."""
    interval = bootstrap_mean(values.double().mean(dim=0).numpy(), seed=seed).percent()
    return {
        "labels": images,
        "seeds": list(range(len(values))),
        "by_draw": [100 * float(row.double().mean()) for row in values],
        "interval_over_images": [interval.low, interval.high],
    }


def few_shot(task: Task) -> list[ProtocolResult]:
    """Return the score of a linear probe for every number of labels in the settings, the mean over draws of the labels.

    Draw r is made by the published seed r. The penalty is chosen inside the drawn images.

    Raises:
        NotApplicable: if the settings name no number of labels.
    """
    settings = task.settings.few_shot
    rows = labels_of(settings.shares, settings.per_class)
    if not rows:
        raise NotApplicable("few_shot.shares and few_shot.per_class are empty, so there is nothing to draw")
    show = task.progress and distributed.is_main()
    with Bar(f"{task.name}: few-shot probes", len(rows) * settings.draws, show=show) as bar:
        return [_score(task, wanted, settings.draws, bar) for wanted in rows]


def _score(task: Task, wanted: LabelCount, draws: int, bar: Bar) -> ProtocolResult:
    features, values, penalties = task.features, [], []
    row, images = f"few-shot {wanted}", 0
    notes = dict.fromkeys(notes_on(features.train_labels, wanted, row))
    for draw in range(draws):
        chosen = draw_labels(features.train_labels, wanted, draw=draw)
        train, labels, images = features.train[chosen], features.train_labels[chosen], len(chosen)
        fitted = fit_probe(train, labels, classes=features.classes, seed=draw, device=task.device)
        right = (fitted.predict(features.test) == features.test_labels).float()
        values.append(class_values(right, features.test_labels, features.classes, task.metric))
        penalties.append(fitted.penalty)
        notes |= dict.fromkeys(f"{row}: {note.removeprefix('linear: ')}" for note in fitted.notes)
        bar.advance()
    scores = torch.stack(values)
    return ProtocolResult(
        values=scores,
        metric=task.metric,
        n_train=images,
        name=row,
        definition={**DEFINITION, "protocol": "few-shot", "labels": str(wanted), "draws": draws},
        setting=f"{images} labels, {draws} draws",
        details={**details_of(scores, images, seed=task.seed), "penalties": penalties},
        notes=tuple(notes),
    )
