"""One score with all that it depends on, and the comparison of two of them on the same test images.

Axes: M test images, R draws of the training labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from syn2co.evaluation.bootstrap import Interval


@dataclass(frozen=True, eq=False)
class Score:
    """One number with its 95 % interval and all that it depends on; in percent if `percent`, else in its own unit.

    Attributes: `data`, the name of the data set; `values`, one number per test image whose mean is the score (a share,
    not percent), or one row of them per draw; `predicted` and `labels`, the class of each test image, named and true,
    where the protocol names one.
    """

    protocol: str
    encoder: str
    data: str
    metric: str
    value: float
    low: float
    high: float
    n_test: int
    n_train: int
    seed: int
    draws: int
    setting: str
    protocol_hash: str
    data_fingerprint: str
    encoder_hash: str
    percent: bool = True
    higher_is_better: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)
    values: Float[np.ndarray, "*R M"] = field(default_factory=lambda: np.empty(0), repr=False)
    predicted: Int64[np.ndarray, " M"] | None = field(default=None, repr=False)
    labels: Int64[np.ndarray, " M"] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        unit = " %" if self.percent else ""
        return (
            f"{self.encoder}, {self.protocol} ({self.setting}): {self.metric} {self.value:.2f}{unit} "
            f"[{self.low:.2f}, {self.high:.2f}], {self.n_test} test images"
        )


class Comparison(NamedTuple):
    """Difference of two encoders in one protocol on the same test images of one data set."""

    first: Score
    second: Score
    difference: Interval
    """first - second, in points of percent or in the metric's unit."""

    @property
    def sign(self) -> str:
        """ ">" if the second is better, "<" if the first is, "~" if the test images do not tell."""
        if self.difference.low <= 0 <= self.difference.high:
            return "~"
        return "<" if (self.difference.value > 0) == self.first.higher_is_better else ">"

    @property
    def text(self) -> str:
        """One sentence: which encoder is better and by how much, or that the test images do not tell."""
        first, second, (value, low, high) = self.first, self.second, _ends(self.difference)
        where = f"{first.protocol}, {first.metric}" + (f" on {first.data}" if first.data else "")
        unit, form = (" points", ".1f") if first.percent else ("", ".2g")
        if low <= 0 <= high:
            return (
                f"{where}: {first.encoder} and {second.encoder} are not told apart ({value:+{form}} [{low:+{form}}, "
                f"{high:+{form}}]{unit})"
            )
        winner, loser = (first, second) if (value > 0) == first.higher_is_better else (second, first)
        half = (high - low) / 2
        return f"{where}: {winner.encoder} is better than {loser.encoder} by {abs(value):{form}} +- {half:{form}}{unit}"


def comparable(one: Score, two: Score) -> bool:
    """Return whether two scores are of the same test images by the same form of the same protocol."""
    return (one.protocol_hash, one.data_fingerprint) == (two.protocol_hash, two.data_fingerprint)


def number(value: float, percent: bool) -> str:
    return f"{value:.1f}" if percent else f"{value:.3g}"


def signed(difference: Interval, percent: bool) -> str:
    value, low, high = (f"{part:+.1f}" if percent else f"{part:+.2g}" for part in _ends(difference))
    return f"{value} ({low} to {high})"


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high
