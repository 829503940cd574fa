"""What changes over a run: learning rate, momentum of the target, and when synthetic negatives join the loss.

All count global optimizer steps, so accumulation, restarts and the number of ranks change nothing.
"""

import math


def scaled_lr(lr: float | int, global_batch: int) -> float:
    """Return lr * global_batch / 512. Source: MoBY, arXiv:2105.04553, Sec. 4.1 (linear scaling)."""
    return lr * global_batch / 512


def cosine_lr(step: int, *, total: int, warmup: int, peak: float | int, start: float | int, end: float | int) -> float:
    """Return the learning rate of optimizer step `step` of `total`.

    start + (peak - start) step / warmup                        for step < warmup
    end + (peak - end)(1 + cos(pi step / total)) / 2            after; the warm-up is not subtracted
    Source: MoBY, arXiv:2105.04553, and its code; the released code lags one step, this does not.
    """
    if step < warmup:
        return start + (peak - start) * step / warmup
    return end + (peak - end) * (1 + math.cos(math.pi * step / total)) / 2


def ema_momentum(step: int, total: int, base: float | int = 0.99) -> float:
    """Return 1 - (1 - base)(cos(pi step / total) + 1) / 2: from `base` at step 0 to 1 at the end.

    Source: BYOL, arXiv:2006.07733, Sec. 3.2; over optimizer steps.
    """
    return 1 - (1 - base) * (math.cos(math.pi * step / total) + 1) / 2


def window_open(step: int, steps_per_epoch: int, start: float | int, stop: float | int) -> bool:
    """Return whether synthetic negatives are in the loss: start <= epoch < stop with epoch = step / steps_per_epoch.

    Source: Syn2Co, arXiv:2509.02029 (30 to 100 of 300); the released code also includes epoch `stop`.
    """
    return start <= step / steps_per_epoch < stop


def first_open_step(total: int, steps_per_epoch: int, start: float | int, stop: float | int) -> int | None:
    """Return the first of `total` steps whose window is open, None if it never opens."""
    guess = max(0, math.floor(start * steps_per_epoch))
    steps = range(guess, min(total, guess + 2))  # the product may round to either side of the quotient
    return next((step for step in steps if window_open(step, steps_per_epoch, start, stop)), None)
