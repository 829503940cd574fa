"""Representation health: spread and rank of the features of unlabeled test images, in numbers without percent.

Axes: M test images, D features, K = min(M, D) singular values, n images of a block or a source.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from syn2co.evaluation.protocols.protocol import NotApplicable, ProtocolResult, Task
from syn2co.evaluation.view_source import view_settings, viewed, without_crop
from syn2co.images.image_set import ImageSet
from syn2co.images.source import parts
from syn2co.runtime.device import with_float64

EXPONENT = 2
"""alpha of alignment."""
TEMPERATURE = 2.0
"""t of uniformity."""
EPSILON = 1e-7
"""What RankMe adds to each share of the singular values."""
_CELLS = 2**24  # pairs held at once: 64 MiB


def alignment_values(one: Float[Tensor, "M D"], two: Float[Tensor, "M D"]) -> Float[Tensor, " M"]:
    """Return |f(x) - f(x')|^2 of unit features of two views of each image: 0 if the views do not matter, at most 4.

    Source: Wang and Isola, arXiv:2005.10242, Sec. 4.1, alpha = 2.
    """
    return (_unit(one) - _unit(two)).square().sum(dim=1)


def uniformity_values(features: Float[Tensor, "M D"], *, device: torch.device | None = None) -> Float[Tensor, " M"]:
    """Return one value per image whose mean is log U, U the mean over pairs of exp(-2 |z_i - z_j|^2), z of unit length.

    u_i = log U + 2 (mean_{j != i} e_ij / U - 1): the score plus the image's influence on it. 0 if all features are
    equal, -4 if pairs are orthogonal. All pairs count, in blocks.
    Source: Wang and Isola, arXiv:2005.10242, Sec. 4.1, t = 2.
    """
    device = device or features.device
    unit = _unit(features).float().to(with_float64(device))
    squares = unit.square().sum(dim=1)
    step = max(1, _CELLS // len(unit))
    means = torch.empty(len(unit), dtype=torch.float64)
    for start in range(0, len(unit), step):
        rows = slice(start, start + step)
        distances = squares[rows, None] + squares - 2 * unit[rows] @ unit.T
        kernel = torch.exp(-TEMPERATURE * distances)
        kernel.diagonal(start).zero_()
        means[rows] = (kernel.sum(dim=1, dtype=torch.float64) / (len(unit) - 1)).cpu()
    mean = means.mean()
    return mean.log() + 2 * (means / mean - 1)


def rank_me_values(features: Float[Tensor, "M D"]) -> Float[Tensor, " M"]:
    """Return one value per image whose mean is RankMe, exp(entropy) of the singular values, from 1 to min(M, D).

    RankMe = exp(-sum_k p_k log p_k), p_k = sigma_k / sum_l sigma_l + 1e-7, of the features as they are, not centered.
    u_i = RankMe + M dRankMe/dw_i at weights w = 1 of the images, with d(sigma_k^2)/dw_i = (x_i . v_k)^2.
    Source: Garrido et al., arXiv:2210.02885, Eq. 1. In float64.
    """
    rows = features.double()
    sigmas, changes = _singular_values(rows)
    total = sigmas.sum().clamp_min(torch.finfo(torch.float64).tiny)
    shares = sigmas / total
    p = shares + EPSILON
    rank = torch.exp(-(p * p.log()).sum())
    by_share = -rank * (p.log() + 1)
    influence = (changes @ by_share - changes.sum(dim=1) * (shares @ by_share)) / total
    return rank + len(rows) * influence


def _singular_values(rows: Float[Tensor, "M D"]) -> tuple[Float[Tensor, " K"], Float[Tensor, "M K"]]:
    """Return the singular values, and their derivatives by the weight of each row, (x_i . v_k)^2 / (2 sigma_k).

    From the smaller Gram matrix: 10,000 x 3,072 pixels take half of the time of an SVD. What is below its rounding
    error counts as 0.
    """
    wide = rows.shape[0] < rows.shape[1]
    squares, vectors = torch.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    floor = squares[-1].clamp_min(0) * max(rows.shape) * torch.finfo(squares.dtype).eps
    sigmas = torch.where(squares > floor, squares, 0).clamp_min(0).sqrt()
    if wide:
        return sigmas, vectors.square() * sigmas / 2
    return sigmas, (rows @ vectors).square() / torch.where(sigmas > 0, 2 * sigmas, torch.inf)


def std_values(features: Float[Tensor, "M D"]) -> Float[Tensor, " M"]:
    """Return one value per image whose mean is the mean std of unit features' coordinates times sqrt(D).

    1 if the features are spread evenly around 0, 0 if collapsed: the `embedding_std` of a run's metrics, on features
    instead of keys, with M - 1 in the variance. With v_d the variance of coordinate d over M, m_d its mean:
    u_i = c mean_d (sqrt(v_d) + ((z_id - m_d)^2 - v_d) / (2 sqrt(v_d))), c^2 = D M / (M - 1).
    """
    unit = _unit(features)
    count, width = unit.shape
    variances, means = torch.var_mean(unit, dim=0, correction=0)
    stds = variances.sqrt()
    halves = torch.where(stds > 1e-12, 0.5 / stds, 0.0)  # a constant coordinate: rounding is no spread
    influences = ((unit - means).square() - variances) * halves
    return (stds + influences).mean(dim=1) * (width * count / (count - 1)) ** 0.5


def _unit(features: Float[Tensor, "M D"]) -> Float[Tensor, "M D"]:
    return F.normalize(features.double(), dim=1)


class _Measure(NamedTuple):
    """One number of the health: a function of the features of the test images and of their two views."""

    name: str
    values: Callable[[Tensor], Float[Tensor, " n"]]
    rows: Float[Tensor, "M ..."]
    setting: str
    higher_is_better: bool
    fixed: dict[str, object]


def health(task: Task) -> list[ProtocolResult]:
    """Return alignment, uniformity, RankMe and std of the test images' features; labels are not used.

    Alignment is over one pair of random views per test image, drawn by the seed, with the augmentations that the
    recipes train with at the encoder's side. If the images have several sources, the details hold each number within
    each.
    """
    images = task.splits.test
    if len(images) < 2:
        raise NotApplicable(f"{len(images)} test image: spread and rank need at least 2; give more test images")
    spans, width = _spans(images), task.test_features.shape[1]
    bound = f"health: RankMe is at most {len(images)}, the number of test images, though features have {width} numbers"
    results = [_result(measure, spans) for measure in _measures(task)]
    if len(images) < width:
        results[-2] = replace(results[-2], notes=(bound,))
    return results


def _measures(task: Task) -> list[_Measure]:
    features, views = task.test_features, _view_features(task)
    size: int = task.encoder.image_size  # type: ignore[assignment]
    augmentations = view_settings(size).model_dump(mode="json", exclude={"size"})  # equal for sides with equal ones
    uniformity = partial(uniformity_values, device=task.device)
    return [
        _Measure(
            "alignment", lambda pair: alignment_values(pair[:, 0], pair[:, 1]), views, f"alpha = {EXPONENT}", False,
            {"alpha": EXPONENT, "views": augmentations},
        ),
        _Measure("uniformity", uniformity, features, f"t = {TEMPERATURE:g}", False, {"t": TEMPERATURE}),
        _Measure("RankMe", rank_me_values, features, "not centered", True, {"epsilon": EPSILON}),
        _Measure("std", std_values, features, "unit features x sqrt(D)", True, {}),
    ]  # fmt: skip


def _view_features(task: Task) -> Float[Tensor, "M 2 D"]:
    """Return the features of both views of each test image."""
    whole = replace(task, encoder=without_crop(task.encoder))
    size: int = task.encoder.image_size  # type: ignore[assignment]
    return torch.stack(
        [whole.extract(viewed(task.splits.test, size, seed=task.seed, view=v), f"view {v + 1}") for v in (0, 1)], dim=1
    )


def _result(measure: _Measure, spans: dict[str, slice]) -> ProtocolResult:
    values = measure.values(measure.rows)
    parts = {name: measure.rows[span] for name, span in spans.items()}
    by_source = {name: float(measure.values(part).mean()) for name, part in parts.items() if len(part) > 1}
    return ProtocolResult(
        values=values,
        name=f"health {measure.name}",
        metric=measure.name,
        percent=False,
        is_share=False,
        higher_is_better=measure.higher_is_better,
        definition={"protocol": "health", "number": measure.name, **measure.fixed},
        setting=measure.setting,
        details={"by_source": by_source} if by_source else {},
    )


def _spans(images: ImageSet) -> dict[str, slice]:
    """Return where the images of each source lie, by its number and name; nothing for a single source."""
    if len(images.sources) < 2:
        return {}
    starts = [images.first_of(number) for number in range(len(images.sources) + 1)]
    names = [f"{number}:{Path(parts(source)[0]).name}" for number, source in enumerate(images.sources)]
    return {name: slice(*ends) for name, *ends in zip(names, starts[:-1], starts[1:], strict=True)}
