"""Calibration: how far the confidence of the linear head is from its accuracy, before and after temperature scaling.

Axes: N held-out training images, M test images, C classes, B bins.
Source: Guo et al., arXiv:1706.04599.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from syn2co.evaluation.protocols.linear import DEFINITION, FittedProbe, correlation_of, fit, fitted_probe, held_out
from syn2co.evaluation.protocols.protocol import ProtocolResult, Task

LIMIT = 100.0
"""Temperatures are searched in 1 / LIMIT .. LIMIT."""


class CalibrationError(NamedTuple):
    """One number per test image whose mean is the expected calibration error, and the bins of a reliability diagram."""

    values: Float[Tensor, " M"]
    counts: Int64[Tensor, " B"]
    confidence: Float[Tensor, " B"]
    """Mean confidence of each bin, 0 where it is empty."""
    accuracy: Float[Tensor, " B"]
    """Share of each bin that is right, 0 where it is empty."""

    def table(self) -> list[dict[str, int | float]]:
        """Return count, mean confidence and accuracy of each bin."""
        columns = zip(self.counts.tolist(), self.confidence.tolist(), self.accuracy.tolist(), strict=True)
        return [{"count": count, "confidence": sure, "accuracy": right} for count, sure, right in columns]


def calibration_error(logits: Float[Tensor, "M C"], labels: Int64[Tensor, " M"], *, bins: int = 15) -> CalibrationError:
    """Return the expected calibration error of the largest softmax probability, in float64.

    ECE = sum_b n_b / M |conf_b - acc_b| = mean_i sign_b(i) (conf_i - right_i), over bins [b / B, (b + 1) / B), the last
    one with its end. Those summands are the values: ECE plus the influence of the image while no bin changes sign.
    Like every estimate of a sum of absolute values it is too high on few images.

    Source: arXiv:1706.04599, Eq. 3. torchmetrics agrees, but for confidences that float32 rounds to 1: these have a
    bin of their own there.

    Example:
        >>> sure = torch.tensor([[0.8, 0.2], [0.8, 0.2]]).log()  # right once of two times
        >>> round(float(calibration_error(sure, torch.tensor([0, 1])).values.mean()), 6)
        0.3
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    right = (predicted == labels).double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    bin_of = (torch.bucketize(confidence, edges, right=True) - 1).clamp(max=bins - 1)
    counts = torch.bincount(bin_of, minlength=bins)
    sums = [torch.bincount(bin_of, part, minlength=bins) for part in (confidence, right)]
    mean_confidence, accuracy = (part / counts.clamp(min=1) for part in sums)
    values = (sums[0] - sums[1]).sign()[bin_of] * (confidence - right)
    return CalibrationError(values, counts, mean_confidence, accuracy)


def temperature_of(logits: Float[Tensor, "N C"], labels: Int64[Tensor, " N"]) -> float:
    """Return the temperature T in 1 / LIMIT .. LIMIT with the smallest mean cross-entropy of softmax(logits / T).

    The cross-entropy is convex in b = 1 / T with the slope mean_i (sum_c p_ic z_ic - z_iy), whose root is bracketed
    and found to 1e-12. The end of the range is returned where the slope has one sign: the smaller T if all are right.

    Source: arXiv:1706.04599, Sec. 4.2.

    Example:
        >>> logits = torch.tensor([[6.0, 0.0]]).expand(4, 2)
        >>> round(temperature_of(logits, torch.tensor([0, 0, 0, 1])), 4)  # 6 / log 3: three of four are right
        5.4614
    """
    from scipy.optimize import brentq

    scores = logits.double()
    wanted = scores.gather(1, labels[:, None]).mean()

    def slope(inverse: float) -> float:
        return float(((inverse * scores).softmax(1) * scores).sum(1).mean() - wanted)

    low, high = 1 / LIMIT, LIMIT
    if slope(high) <= 0:
        return 1 / high
    if slope(low) >= 0:
        return 1 / low
    return 1 / float(brentq(slope, low, high, xtol=1e-12))  # type: ignore[arg-type]


def calibration(task: Task) -> list[ProtocolResult]:
    """Return the expected calibration error of the linear head, and that after temperature scaling.

    The temperature is fitted to the held-out training images (those that choose the penalty), by the logits of a probe
    fitted to the others; no test image is seen. It divides the logits of the head that is fitted to all.
    """
    probe, labels = fitted_probe(task), task.features.test_labels
    logits = probe.logits(task.features.test).cpu()
    held = _held_out_logits(task, probe)
    temperature = 1.0 if held is None else temperature_of(*held)
    bins = task.settings.calibration.bins
    errors = [calibration_error(part, labels, bins=bins) for part in (logits, logits / temperature)]
    details = {
        "temperature": temperature,
        "bins": errors[0].table(),
        "bins_scaled": errors[1].table(),
        "nll": _nll(logits, labels),
        "nll_scaled": _nll(logits / temperature, labels),
    }
    before = ProtocolResult(
        values=errors[0].values,
        metric="ECE",
        higher_is_better=False,
        name="calibration ECE",
        setting=f"{bins} bins",
        definition={"protocol": "calibration", "bins": bins, "head": DEFINITION},
        details=details,
    )
    if held is None:
        note = "calibration: every class has one training image, so no temperature can be fitted"
        return [replace(before, notes=(note,))]
    inside = 1 / LIMIT < temperature < LIMIT
    scaled = replace(
        before,
        values=errors[1].values,
        name="calibration ECE scaled",
        setting=f"{bins} bins, temperature {temperature:.3g}",
        definition={**before.definition, "temperature": f"of the held-out training images, 1 / {LIMIT:g} to {LIMIT:g}"},
        notes=() if inside else (f"calibration: the temperature {temperature:g} is at the end of its range",),
    )
    return [before, scaled]


def _nll(logits: Float[Tensor, "M C"], labels: Int64[Tensor, " M"]) -> float:
    return float(torch.nn.functional.cross_entropy(logits.double(), labels))


def _held_out_logits(task: Task, fitted: FittedProbe) -> tuple[Float[Tensor, "N C"], Int64[Tensor, " N"]] | None:
    """Return logits of the held-out training images by a probe that has not seen them, or None if none is held out."""
    features = task.features
    out = held_out(features.train_labels, seed=task.seed)
    if not out.any():
        return None
    inputs, labels = fitted.scaling.apply(features.train), features.train_labels
    shares = (~out).float() / (~out).sum()
    probe = fit(
        inputs, labels.to(inputs.device), shares.to(inputs.device), correlation_of(inputs),
        classes=features.classes, penalty=fitted.penalty,  # from zero: the fitted probe has seen the held-out images
    )  # fmt: skip
    return fitted._replace(probe=probe).logits(features.train[out]).cpu(), labels[out]
