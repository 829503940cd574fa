"""Numbers and strengths of synthetic negatives, those of the papers by name; without torch, so recipes are listed fast.

Example:
    >>> dict(zip(KINDS, PRESETS["as-released"]))["noise"]
    64
    >>> PRESETS["as-intended"].total
    768
"""

from typing import NamedTuple

KINDS = ("interpolated", "extrapolated", "mixup", "noise", "perturbed", "adversarial")
"""Names of the six kinds of synthetic negative, in the order of `NegativeCounts`; KINDS[0] is kind 1 of the papers."""


class NegativeCounts(NamedTuple):
    """Numbers of synthetic negatives per query, one for each kind; any of them may be zero.

    Example:
        >>> NegativeCounts(interpolated=128, mixup=128).total
        256
    """

    interpolated: int = 0
    """Kind 1: a q + (1 - a) n, a ~ U(0, 0.5)."""
    extrapolated: int = 0
    """Kind 2: q + b (n - q), b ~ U(1, 1.5)."""
    mixup: int = 0
    """Kind 3: g n + (1 - g) n', g ~ U(0, 1)."""
    noise: int = 0
    """Kind 4: n + e, e ~ N(0, sigma^2 I)."""
    perturbed: int = 0
    """Kind 5: n + delta q, a step along the gradient of q.n."""
    adversarial: int = 0
    """Kind 6: n + eta sign(q), a step along the sign of that gradient."""

    @property
    def total(self) -> int:
        """Return S, the number of synthetic negatives per query."""
        return sum(self)


class NegativeStrengths(NamedTuple):
    """Hardness of the synthetic negatives of a query; the defaults are those of SynCo-v2 (arXiv:2509.02024).

    Example:
        >>> NegativeStrengths(hardest=128).sigma
        0.1
    """

    hardest: int = 256
    """H, the hardest keys of a query, which its negatives are built from; from 1 to K."""
    sigma: float | int = 0.1
    """Standard deviation of the noise of kind 4, per coordinate; SynCo's first version has 0.01."""
    delta: float | int = 0.01
    """Step of kind 5 along the gradient."""
    eta: float | int = 0.01
    """Step of kind 6 along the sign of the gradient."""


PAPERS = NegativeStrengths()
"""Strengths of SynCo-v2, the default of `contrastive_loss`."""


PRESETS = {
    "none": NegativeCounts(),  # plain MoBY
    "mochi": NegativeCounts(interpolated=128, mixup=128),
    "as-released": NegativeCounts(128, 128, 128, 64, 64, 64),
    "as-intended": NegativeCounts(128, 128, 128, 128, 128, 128),
}
"""Counts per query by name; "as-released" is what the released code runs, "as-intended" what its configuration asks."""
