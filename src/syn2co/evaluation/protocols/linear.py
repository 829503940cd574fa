"""Linear probe: multinomial logistic regression on frozen features, its penalty chosen inside the training images.

Axes: N training images, M test images, D features, C classes.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from syn2co.core import keyed_rng
from syn2co.evaluation.protocols.protocol import ProtocolResult, Task, class_values
from syn2co.runtime.device import with_float64

PENALTIES = tuple(10.0**-power for power in range(-1, 7))
"""Candidates for the factor of |W|^2 / 2 beside the mean cross-entropy in nats, strongest first."""
PATIENCE = 2
"""Weaker penalties are not tried after this many in a row that score below the best."""
HELD_OUT = 0.2
UNDECIDED = 1e-3
"""The penalty where no image can be held out, because every class has one."""
MAX_ITERATIONS = 300
_CELLS = 2**24  # logits held at once: 64 MiB


@dataclass(frozen=True)
class Scaling:
    """Standardization by the training images; a feature that does not vary there becomes 0 everywhere."""

    mean: Float[Tensor, " D"]
    factor: Float[Tensor, " D"]

    def apply(self, features: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """Return (features - mean) / std, in float32, on the device of `mean`."""
        return (features.to(self.mean.device) - self.mean) * self.factor


def scaling_of(train: Float[Tensor, "N D"], device: torch.device) -> Scaling:
    """Return the standardization by the mean and std of `train`."""
    variance, mean = (part.to(device) for part in torch.var_mean(train, dim=0, correction=0))
    std = variance.sqrt()
    return Scaling(mean, torch.where(std > 1e-6 * (mean.abs() + std.max()), 1 / std, 0.0))


def correlation_of(inputs: Float[Tensor, "N D"]) -> Float[Tensor, "D D"]:
    """Return the correlation matrix of standardized features plus its rounding error, in float64 on the CPU.

    From at most about 4 D evenly spaced rows: it only steers the search, so a sample will do.
    """
    rows = inputs[:: max(1, len(inputs) // (4 * inputs.shape[1]))]
    matrix = (rows.T @ rows / len(rows)).double().cpu()
    return matrix + torch.finfo(torch.float32).eps * matrix.norm() * torch.eye(len(matrix), dtype=torch.float64)


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe on standardized features, in float64 on the CPU; `converged` within MAX_ITERATIONS."""

    weight: Float[Tensor, "D C"]
    bias: Float[Tensor, " C"]
    converged: bool = True

    def predict(self, inputs: Float[Tensor, "N D"]) -> Int64[Tensor, " N"]:
        """Return the class of the largest logit of each row, the lowest on a tie, on the CPU."""
        weight, bias = (part.to(inputs) for part in (self.weight, self.bias))
        step = max(1, _CELLS // len(bias))
        return torch.cat([torch.addmm(bias, part, weight).argmax(dim=1).cpu() for part in inputs.split(step)])


def _loss(
    inputs: Float[Tensor, "N D"],
    labels: Int64[Tensor, " N"],
    shares: Float[Tensor, " N"],
    weight: Float[Tensor, "D C"],
    bias: Float[Tensor, " C"],
) -> tuple[float, Float[Tensor, "D C"], Float[Tensor, " C"]]:
    """Return sum_i share_i CE_i in nats, and its gradients, in float64; the products are float32."""
    narrow_weight, narrow_bias = weight.to(inputs), bias.to(inputs)
    loss, by_weight, by_bias = 0.0, torch.zeros_like(weight), torch.zeros_like(bias)
    step = max(1, _CELLS // len(bias))
    for part, wanted, share in zip(inputs.split(step), labels.split(step), shares.split(step), strict=True):
        logs = torch.log_softmax(torch.addmm(narrow_bias, part, narrow_weight), dim=1)
        loss -= float((logs.gather(1, wanted[:, None]).flatten() * share).double().sum())
        grads = logs.exp_().scatter_add_(1, wanted[:, None], -torch.ones_like(share)[:, None]) * share[:, None]
        by_weight += (grads.T @ part).T.double().cpu()
        by_bias += grads.double().sum(dim=0).cpu()
    return loss, by_weight, by_bias


def fit(
    inputs: Float[Tensor, "N D"],
    labels: Int64[Tensor, " N"],
    shares: Float[Tensor, " N"],
    correlation: Float[Tensor, "D D"],
    *,
    classes: int,
    penalty: float,
    start: LinearProbe | None = None,
) -> LinearProbe:
    """Return the minimum over W, b of sum_i share_i CE(x_i W + b, y_i) + penalty |W|^2 / 2, found by L-BFGS.

    Searched in V = L^T W with L L^T = correlation / C + penalty, which makes the curvature about the same in every
    direction: at 50,000 x 192 and 10 classes at most 41 evaluations a penalty (7.6 s of one core for the whole
    protocol), where the plain search in W had not converged after 300. The bias is not penalized.
    """
    from scipy.optimize import minimize

    identity = torch.eye(len(correlation), dtype=torch.float64)
    lower = torch.linalg.cholesky(correlation / classes + penalty * identity)
    spread = torch.linalg.solve_triangular(lower, identity, upper=False).T.contiguous()  # W = spread @ V
    start = start or LinearProbe(torch.zeros(len(lower), classes).double(), torch.zeros(classes).double())

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        table = torch.from_numpy(flat).view(-1, classes)
        weight = spread @ table[:-1]
        loss, by_weight, by_bias = _loss(inputs, labels, shares, weight, table[-1])
        grads = torch.cat([spread.T @ (by_weight + penalty * weight), by_bias[None]])
        return loss + penalty / 2 * float(weight.square().sum()), grads.numpy().ravel()

    first = torch.cat([lower.T @ start.weight, start.bias[None]]).numpy().ravel()
    options = {"maxiter": MAX_ITERATIONS, "maxcor": 20, "gtol": 1e-5, "ftol": 1e-7}
    solution = minimize(objective, first, jac=True, method="L-BFGS-B", options=options)
    table = torch.from_numpy(solution.x).view(-1, classes)
    return LinearProbe(spread @ table[:-1], table[-1], converged=solution.nit < MAX_ITERATIONS)


def held_out(labels: Int64[Tensor, " N"], *, seed: int) -> Bool[Tensor, " N"]:
    """Return which training images choose the penalty: a keyed fifth of every class, at least one, none of a single."""
    mask = np.zeros(len(labels), dtype=bool)
    order = keyed_rng.permutation(len(labels), "linear held out", seed)
    shuffled = labels.numpy()[order]
    for label in np.unique(shuffled):
        members = order[shuffled == label]
        count = max(1, int(HELD_OUT * len(members))) if len(members) > 1 else 0
        mask[members[:count]] = True
    return torch.from_numpy(mask)


def choose_penalty(
    inputs: Float[Tensor, "N D"],
    labels: Int64[Tensor, " N"],
    out: Bool[Tensor, " N"],
    correlation: Float[Tensor, "D D"],
    *,
    classes: int,
) -> tuple[float, LinearProbe, dict[float, float]]:
    """Return the penalty with the highest top-1 on the rows `out`, its probe fitted to the other rows, and every top-1.

    The stronger penalty wins a tie. Each fit starts from the one before it.
    """
    shares = (~out).float() / (~out).sum()
    held, wanted = inputs[out], labels[out].cpu()
    fits: dict[float, LinearProbe] = {}
    scores: dict[float, float] = {}
    probe, best = None, PENALTIES[0]
    for penalty in PENALTIES:
        probe = fit(inputs, labels, shares, correlation, classes=classes, penalty=penalty, start=probe)
        fits[penalty], scores[penalty] = probe, float((probe.predict(held) == wanted).double().mean())
        best = max(scores, key=scores.__getitem__)
        if len(scores) > PATIENCE and max(list(scores.values())[-PATIENCE:]) < scores[best]:
            break
    return best, fits[best], scores


class FittedProbe(NamedTuple):
    """A probe fitted to all training images, its standardization, and how its penalty was chosen."""

    scaling: Scaling
    probe: LinearProbe
    penalty: float
    held_out_images: int
    held_out_top1: dict[float, float]
    notes: tuple[str, ...]

    def predict(self, features: Float[Tensor, "M D"]) -> Int64[Tensor, " M"]:
        """Return the class of each row of features."""
        return self.probe.predict(self.scaling.apply(features))

    def logits(self, features: Float[Tensor, "M D"]) -> Float[Tensor, "M C"]:
        """Return the logits of each row of features, in float32, differentiable in `features`."""
        inputs = self.scaling.apply(features)
        return torch.addmm(self.probe.bias.to(inputs), inputs, self.probe.weight.to(inputs))


def row_space(inputs: Float[Tensor, "N D"]) -> Float[Tensor, "D N"] | None:
    """Return an orthonormal basis of the span of N < D rows, in float64 on the CPU; None for N >= D.

    The minimum of `fit` lies in that span, W = basis V with |W| = |V|, so that V may be searched instead: at 500 x 3072
    and 10 classes the whole probe takes 0.9 instead of 22.7 s of one core.
    """
    return torch.linalg.qr(inputs.double().cpu().T).Q if len(inputs) < inputs.shape[1] else None


def fit_probe(
    train: Float[Tensor, "N D"], labels: Int64[Tensor, " N"], *, classes: int, seed: int, device: torch.device
) -> FittedProbe:
    """Return the probe of the training images.

    Standardized by them; the penalty is the one of `PENALTIES` with the highest top-1 on a held-out fifth of them; then
    fitted anew to all. Labels need not cover every class.
    """
    device = with_float64(device)
    scaling = scaling_of(train, device)
    inputs, on_device = scaling.apply(train), labels.to(device)
    basis = row_space(inputs)
    if basis is not None:
        inputs = (inputs.double().cpu() @ basis).to(inputs)
    correlation = correlation_of(inputs)
    out = held_out(labels, seed=seed)
    penalty, probe, scores, notes = UNDECIDED, None, {}, []
    if out.any():
        penalty, probe, scores = choose_penalty(inputs, on_device, out.to(device), correlation, classes=classes)
    else:
        notes.append(f"linear: every class has one training image, so the penalty is {UNDECIDED:g}, chosen by nothing")
    even = torch.full((len(labels),), 1 / len(labels), device=device)
    probe = fit(inputs, on_device, even, correlation, classes=classes, penalty=penalty, start=probe)
    if basis is not None:
        probe = replace(probe, weight=basis @ probe.weight)
    if not probe.converged:
        notes.append(f"linear: the probe did not converge within {MAX_ITERATIONS} iterations")
    return FittedProbe(scaling, probe, penalty, int(out.sum()), scores, tuple(notes))


def fitted_probe(task: Task) -> FittedProbe:
    """Return the probe of a task's clean training features, fitted once for all protocols that use it."""

    def make() -> FittedProbe:
        features = task.features
        return fit_probe(
            features.train, features.train_labels, classes=features.classes, seed=task.seed, device=task.device
        )

    return task.once("linear probe", make)


DEFINITION = {
    "protocol": "linear",
    "penalties": PENALTIES,
    "held_out": HELD_OUT,
    "patience": PATIENCE,
    "iterations": MAX_ITERATIONS,
}


def linear(task: Task) -> list[ProtocolResult]:
    """Return the linear probe's score; the test images are seen once, by the final probe."""
    fitted, features = fitted_probe(task), task.features
    predicted = fitted.predict(features.test)
    right = (predicted == features.test_labels).float()
    result = ProtocolResult(
        values=class_values(right, features.test_labels, features.classes, task.metric),
        metric=task.metric,
        definition=DEFINITION,
        setting=f"penalty {fitted.penalty:g}",
        predicted=predicted,
        details={
            "penalty": fitted.penalty,
            "held_out_images": fitted.held_out_images,
            "held_out_top1": {f"{factor:g}": 100 * top1 for factor, top1 in fitted.held_out_top1.items()},
        },
        notes=fitted.notes,
    )
    return [result]
