"""One micro-batch of views."""

from typing import NamedTuple

from jaxtyping import Bool, Int64, UInt8
from torch import Tensor


class Batch(NamedTuple):
    """This rank's part of one micro-batch: both views, and who the images are."""

    views: UInt8[Tensor, "2 B S S 3"]
    indices: Int64[Tensor, " B"]
    groups: Int64[Tensor, " B"]
    sample_ids: Int64[Tensor, " B"]
    """Key of all randomness of a row: the index, or another number if the image came before in the same epoch."""
    synthetic: Bool[Tensor, "2 B"]
    """True for views of synthetic images."""

    @property
    def synthetic_rows(self) -> Bool[Tensor, " B"]:
        """True for rows that have a synthetic view."""
        return self.synthetic.any(0)
