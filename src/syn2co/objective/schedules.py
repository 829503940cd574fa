"""Schedules of a run: learning rate, momentum of the target, and the window of synthetic negatives.

All count global optimizer steps, so accumulation, restarts and the number of ranks change nothing.
"""

import math


def scaled_lr(lr: float | int, global_batch: int) -> float:
    """Return the learning rate of a batch, lr * global_batch / 512.

    Args:
        lr: learning rate for a batch of 512; MoBY's is 1e-3.
        global_batch: images per optimizer step, over all ranks and micro-batches.

    Returns:
        The learning rate to use.

    Source: MoBY, arXiv:2105.04553, Sec. 4.1 (linear scaling).

    Example:
        >>> scaled_lr(1e-3, 1024)
        0.002
    """
    return lr * global_batch / 512


def cosine_lr(step: int, *, total: int, warmup: int, peak: float | int, start: float | int, end: float | int) -> float:
    """Return the learning rate of optimizer step `step` of `total`.

    start + (peak - start) step / warmup                        for step < warmup
    end + (peak - end)(1 + cos(pi step / total)) / 2            after; the warm-up is not subtracted

    Args:
        step: optimizer step, from 0.
        warmup: steps of linear warm-up; 0 is none.
        peak: learning rate that the cosine starts from, already scaled (`scaled_lr`).
        start: learning rate at step 0 of the warm-up, scaled likewise.
        end: learning rate at step `total`, scaled likewise.

    Returns:
        The learning rate of the step.

    Source: MoBY, arXiv:2105.04553, and its code; the released code lags one step, this does not.

    Example:
        >>> [cosine_lr(step, total=4, warmup=0, peak=1.0, start=0.0, end=0.0) for step in (0, 2, 4)]
        [1.0, 0.5, 0.0]
    """
    if step < warmup:
        return start + (peak - start) * step / warmup
    return end + (peak - end) * (1 + math.cos(math.pi * step / total)) / 2


def ema_momentum(step: int, total: int, base: float | int = 0.99) -> float:
    """Return the momentum of the target, 1 - (1 - base)(cos(pi step / total) + 1) / 2.

    Args:
        step: optimizer step, from 0.
        total: optimizer steps of the run.
        base: momentum at step 0; it rises to 1 at step `total`.

    Returns:
        The momentum for `ema_update`, between `base` and 1.

    Source: BYOL, arXiv:2006.07733, Sec. 3.2; over optimizer steps.

    Example:
        >>> ema_momentum(0, 100), ema_momentum(100, 100)
        (0.99, 1.0)
    """
    return 1 - (1 - base) * (math.cos(math.pi * step / total) + 1) / 2


def window_open(step: int, steps_per_epoch: int, start: float | int, stop: float | int) -> bool:
    """Return whether synthetic negatives are in the loss: start <= epoch < stop with epoch = step / steps_per_epoch.

    Args:
        step: global optimizer step, from 0, whatever the ranks, the accumulation and the restarts.
        start: first epoch of the window, a real number.
        stop: end of the window in epochs, itself outside; infinity for the whole run.

    Returns:
        True within the window.

    Source: Syn2Co, arXiv:2509.02029 (30 to 100 of 300); the released code also includes epoch `stop`.

    Example:
        >>> [window_open(step, 10, 30, 100) for step in (299, 300, 999, 1000)]
        [False, True, True, False]
    """
    return start <= step / steps_per_epoch < stop


def first_open_step(total: int, steps_per_epoch: int, start: float | int, stop: float | int) -> int | None:
    """Return the first of `total` steps whose window is open, None if it never opens.

    Args:
        total: optimizer steps of the run.
        start: first epoch of the window, as in `window_open`.
        stop: end of the window in epochs, as there.

    Returns:
        The step, from 0. None means a run without synthetic negatives: `pretrain` refuses it.

    Example:
        >>> first_open_step(3000, 10, 30, 100), first_open_step(300, 10, 30, 100)
        (300, None)
    """
    guess = max(0, math.floor(start * steps_per_epoch))
    steps = range(guess, min(total, guess + 2))  # the product may round to either side of the quotient
    return next((step for step in steps if window_open(step, steps_per_epoch, start, stop)), None)
