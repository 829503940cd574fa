"""Coverage: the distinct images that a run has seen by a step, replayed from the mixer, so restarts change nothing."""

import numpy as np

from syn2co.data.mixing import Mixer


class Coverage:
    """Shares of the distinct real and synthetic images that steps 0 .. s have drawn, for s in growing order."""

    def __init__(self, mixer: Mixer, *, batch: int, steps_per_epoch: int) -> None:
        self.mixer, self.batch, self.per_epoch = mixer, batch, steps_per_epoch
        self._pools = {name: pool for name in ("real", "synthetic") if len(pool := getattr(mixer, name))}
        self._seen = np.zeros(1 + max(int(pool.max()) for pool in self._pools.values()), bool)
        self._step, self._epoch, self._order = 0, -1, np.empty(0, np.int64)

    def at(self, step: int) -> dict[str, float]:
        """Return {"coverage/real": share, "coverage/synthetic": share} after `step` optimizer steps."""
        shares = self._shares()
        while self._step < step and min(shares.values()) < 1:
            epoch = self._step // self.per_epoch
            if epoch != self._epoch:
                self._epoch, self._order = epoch, self.mixer.order(epoch)
            stop = min(step, (epoch + 1) * self.per_epoch)
            first, last = (self.batch * (number - epoch * self.per_epoch) for number in (self._step, stop))
            self._seen[self.mixer.view_images(epoch, self._order[first:last])] = True
            self._step = stop
            shares = self._shares()
        return shares

    def _shares(self) -> dict[str, float]:
        return {f"coverage/{name}": float(self._seen[pool].mean()) for name, pool in self._pools.items()}
