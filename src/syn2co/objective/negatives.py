"""The six kinds of synthetic negative of SynCo, in scalar form: no vector of a synthetic negative is ever built.

Every one is s = (w_q q + w_n n + extra) / r, with q the query, n a hard key and r its length before normalizing, so the
logit q.s, and its gradient with s held fixed, need only scalars. All inputs have unit length.

Axes: B queries, and per kind any trailing slots (`...` is [B, count of the kind]).

Source: SynCo, arXiv:2410.02401, Sec. 3.2; kinds 1 and 3 are MoCHI's (arXiv:2010.01028).
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

SMALLEST_SQUARE = 1e-6  # kinds 1 and 3 vanish near antipodes at weight 1/2


class Unnormalized(NamedTuple):
    """One kind's negatives before normalizing: s r = query * q + key * n + extra * (n' or sign q, or nothing)."""

    product: Float[Tensor, "..."]  # q.(s r)
    square: Float[Tensor, "..."]  # r^2, in a form that does not cancel
    query: Float[Tensor, "..."] | float
    key: Float[Tensor, "..."] | float
    extra: Float[Tensor, "..."] | float = 0.0


def interpolated(c: Float[Tensor, "..."], a: Float[Tensor, "..."]) -> Unnormalized:
    """Return kind 1, a q + (1 - a) n, with r^2 = 1 - 2 a (1 - a)(1 - c) and c = q.n; the draw is a ~ U(0, 0.5)."""
    b = 1 - a
    return Unnormalized(a + b * c, 1 - 2 * a * b * (1 - c), a, b)


def extrapolated(c: Float[Tensor, "..."], b: Float[Tensor, "..."]) -> Unnormalized:
    """Return kind 2, q + b (n - q), with r^2 = 1 + 2 b (b - 1)(1 - c); the draw is b ~ U(1, 1.5).

    The papers write n + b'(n - q), with b' = b - 1.
    """
    a = 1 - b
    return Unnormalized(a + b * c, 1 - 2 * a * b * (1 - c), a, b)


def mixup(
    c: Float[Tensor, "..."], c_partner: Float[Tensor, "..."], keys: Float[Tensor, "..."], g: Float[Tensor, "..."]
) -> Unnormalized:
    """Return kind 3, g n + (1 - g) n', with r^2 = 1 - 2 g (1 - g)(1 - n.n'); the draw is g ~ U(0, 1).

    `c_partner` is q.n' and `keys` is n.n'; `extra` weighs n'.
    """
    h = 1 - g
    return Unnormalized(g * c + h * c_partner, 1 - 2 * g * h * (1 - keys), 0.0, g, h)


def noise(
    c: Float[Tensor, "..."],
    x: Float[Tensor, "..."],
    y: Float[Tensor, "..."],
    rest: Float[Tensor, "..."],
    sigma: float | int,
) -> Unnormalized:
    """Return kind 4, n + e with e ~ N(0, sigma^2 I), from the three scalars of e that matter.

    e = sigma (x q + y u + sqrt(rest) w), u the unit vector of n - c q, w a unit vector orthogonal to q and n;
    x, y ~ N(0, 1) and rest ~ chi-square(D - 2) give e exactly its law, and
    q.e = sigma x,   n.e = sigma (c x + sqrt(1 - c^2) y),   |e|^2 = sigma^2 (x^2 + y^2 + rest).
    The part along w is left out of the gradient: its direction is uniform, so its expected value is zero, and the
    gradient's variance falls to 4 % of that of full noise vectors at sigma 0.1 (benchmarks/noise_negatives.py).
    """
    sine = (1 - c * c).clamp_min(0).sqrt()
    y_over_sine = y / sine.clamp_min(1e-3)  # u has no direction when n = +-q: its part of the gradient fades out there
    square = 1 + 2 * sigma * (c * x + sine * y) + sigma * sigma * (x * x + y * y + rest)
    return Unnormalized(c + sigma * x, square, sigma * (x - c * y_over_sine), 1 + sigma * y_over_sine)


def perturbed(c: Float[Tensor, "..."], delta: float | int) -> Unnormalized:
    """Return kind 5, n + delta grad_n(q.n) = n + delta q, with r^2 = 1 + delta^2 + 2 delta c."""
    return Unnormalized(c + delta, 1 + delta * delta + 2 * delta * c, delta, 1.0)


def adversarial(
    c: Float[Tensor, "B S"],
    key_sign: Float[Tensor, "B S"],
    norm1: Float[Tensor, "B 1"],
    nonzero: Float[Tensor, "B 1"],
    eta: float | int,
) -> Unnormalized:
    """Return kind 6, n + eta sign(grad_n(q.n)) = n + eta sign(q), with r^2 = 1 + 2 eta n.sign(q) + eta^2 |sign(q)|^2.

    `key_sign` is n.sign(q), `norm1` is |q|_1, `nonzero` is |sign(q)|^2; `extra` weighs sign(q).
    """
    return Unnormalized(c + eta * norm1, 1 + 2 * eta * key_sign + eta * eta * nonzero, 0.0, 1.0, eta)
