"""The memory of past keys that queries are contrasted with, first in first out, any size with any batch.

Axes: B keys of a global (micro-)batch, K keys in the queue, D embedding width.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from syn2co.core import keyed_rng
from syn2co.core.errors import CheckpointError


class Queue:
    """Queue of K keys of unit length, each with its group (-1: nobody's), and the slot that is written next.

    Attributes: `keys` [K, D]; `groups` [K]; `pointer`, the slot from 0 to K - 1.

    Source: MoCo, arXiv:1911.05722, Sec. 3.2; K need not be a multiple of the batch here.

    Example:
        >>> queue = Queue.start(4, 8, seed=0, view=2)
        >>> queue.enqueue(unit_rows(torch.randn(3, 8)), torch.arange(3))
        >>> queue.groups.tolist(), queue.pointer
        ([0, 1, 2, -1], 3)
    """

    def __init__(self, keys: Float[Tensor, "K D"], groups: Int64[Tensor, " K"], pointer: int = 0) -> None:
        self.keys = keys
        self.groups = groups
        self.pointer = pointer

    @classmethod
    def start(
        cls,
        size: int,
        width: int,
        *,
        seed: int,
        view: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "Queue":
        """Return a queue of random unit vectors that depend on (seed, view) alone, all in group -1.

        Args:
            size: K, at least 1; the papers use 4096.
            width: D, the embedding width.
            view: 1 or 2, the view whose keys the queue will hold.
            dtype: that of queries and keys, float32 or float64.

        Raises:
            ValueError: if `size` is below 1.
        """
        if size < 1:
            raise ValueError(f"size = {size}: a queue has at least 1 slot; the papers use 4096")
        # Drawn and normalized in float64 for every dtype: float32 queues start from the same vectors, rounded.
        keys = keyed_rng.generator("queue", seed, view).standard_normal((size, width))
        keys /= np.linalg.norm(keys, axis=1, keepdims=True)
        groups = torch.full((size,), -1, dtype=torch.int64, device=device)
        return cls(torch.from_numpy(keys).to(device, dtype), groups)

    @torch.no_grad()
    def enqueue(self, keys: Float[Tensor, "B D"], groups: Int64[Tensor, " B"]) -> None:
        """Write the keys over the oldest ones, in place; of more keys than slots the last ones stay.

        Args:
            keys: those of all ranks in global order, at unit length; call this after the loss.
            groups: group of each key's image.
        """
        size, batch = len(self.keys), len(keys)
        first = max(0, batch - size)
        start = (self.pointer + first) % size
        end = min(size - start, batch - first)  # rows up to the last slot; the others begin again at the first one
        for stored, rows in ((self.keys, keys[first:]), (self.groups, groups[first:])):
            stored[start : start + end] = rows[:end]
            stored[: len(rows) - end] = rows[end:]
        self.pointer = (self.pointer + batch) % size

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that a resume needs, as plain tensors that share the queue's memory."""
        return {"keys": self.keys, "groups": self.groups, "pointer": torch.tensor(self.pointer)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over a saved state, exactly, on the queue's own device and dtype.

        Raises:
            CheckpointError: if the saved queue has another size or width, or groups or a pointer that no queue has.
        """
        if state["keys"].shape != self.keys.shape:
            saved, wanted = tuple(state["keys"].shape), tuple(self.keys.shape)
            raise CheckpointError(
                f"queue of shape {saved} in the checkpoint: must be {wanted}; use the saved run's queue.size and width"
            )
        groups, pointer = state["groups"], state["pointer"]
        kinds = state["keys"].is_floating_point(), groups.dtype, pointer.dtype
        if kinds != (True, torch.int64, torch.int64) or groups.shape != self.groups.shape or pointer.shape:
            raise CheckpointError("queue: its keys, groups or pointer are of another kind in the checkpoint")
        if not 0 <= int(pointer) < len(groups):
            raise CheckpointError(f"queue: its pointer {int(pointer)} is no slot of {len(groups)} in the checkpoint")
        self.keys.copy_(state["keys"])
        self.groups.copy_(groups)
        self.pointer = int(pointer)
