"""All that was measured, before anything is said about it.

Axis letters: N images, D features.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from syn2co.audits.duplicates import Duplicates
from syn2co.audits.feature_space import FeatureSpace
from syn2co.audits.fidelity import Fidelity, Memorization
from syn2co.audits.health import Health
from syn2co.audits.image_sets import AuditedSet
from syn2co.audits.scan import ImageStatistics
from syn2co.audits.separability import Auc
from syn2co.images.near_copies import CopySearch


@dataclass(frozen=True)
class SyntheticStatistics:
    """Statistics of the synthetic images in a feature space that need no other images."""

    rows: Int64[np.ndarray, " N"]
    vendi: float
    nearest: float


@dataclass(frozen=True)
class RealComparison:
    """Synthetic against real images in a space of features."""

    real_rows: Int64[np.ndarray, " N"]
    """The real images that were looked at; the first `equal` of them stand against as many synthetic ones."""
    equal: int
    fidelity: Fidelity
    yardstick: Fidelity
    """The same of other real images: what a perfect generator would reach. As many if there are, else halves."""
    vendi: float
    nearest: float
    """Vendi score and mean nearest distance of the real images."""
    memorization: Memorization
    of_nearest: tuple[bool, ...]
    """For each synthetic image: its nearest real one is the image that it was ordered to be a variation of."""
    auc: Auc
    traces: Auc
    trace_size: int


@dataclass(frozen=True)
class NearAgainst:
    """Nearness of synthetic images to single evaluation images, and the features in which it was measured."""

    memorization: Memorization
    words: str
    space: dict[str, Any]


@dataclass(frozen=True)
class Results:
    """The numbers of one audit; what needs real or evaluation images is None without them."""

    synthetic: AuditedSet
    real: AuditedSet | None
    against: AuditedSet | None
    scans: dict[str, ImageStatistics]
    health: Health
    duplicates: Duplicates
    real_duplicates: Duplicates | None
    leaks: CopySearch | None
    leaked_sources: tuple[tuple[int, int], ...]
    """Synthetic images that the manifest calls variations of an evaluation image, and that image."""
    learned_from_against: bool
    """Whether the recipe says that the generator learned from the evaluation images."""
    near_against: NearAgainst | None
    """Nearness of synthetic images to single evaluation images."""
    taken: CopySearch | None
    """Copies of training images."""
    ordered: int
    """Copies of training images that were ordered: variations of just that image, not counted in `taken`."""
    space: FeatureSpace | None
    """Features, the synthetic ones first; None if there are too few images."""
    alone: SyntheticStatistics | None
    compared: RealComparison | None
    seed: int
    max_images: int

    @property
    def leaked(self) -> frozenset[int]:
        """Synthetic images that are evaluation images, or variations of one by their manifest."""
        copies = () if self.leaks is None else self.leaks.copies
        return frozenset([copy.first for copy in copies] + [index for index, _ in self.leaked_sources])

    @property
    def sides(self) -> list[AuditedSet]:
        return [side for side in (self.synthetic, self.real, self.against) if side is not None]

    def points(self) -> tuple[Float64[np.ndarray, "N D"], Float64[np.ndarray, "N D"]]:
        """Return the features of synthetic and real images in equal numbers."""
        assert self.space is not None and self.compared is not None
        count = self.compared.equal
        return self.space.parts[0][:count], self.space.parts[1][:count]
