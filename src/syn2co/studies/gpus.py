"""GPUs of this machine for several cells at a time: each has its own, in turn."""

import os
from collections.abc import Sequence

import torch

VISIBLE = "CUDA_VISIBLE_DEVICES"


def seen_gpus() -> tuple[str, ...]:
    """Return the CUDA GPUs that this process sees, by the names that CUDA_VISIBLE_DEVICES takes."""
    named = tuple(filter(None, map(str.strip, os.environ.get(VISIBLE, "").split(","))))
    count = torch.cuda.device_count()
    return named[:count] or tuple(map(str, range(count)))


def gpus_of(slot: int, gpus: Sequence[str], device: str, each: int = 1) -> dict[str, str]:
    """Return what the environment of a cell's process says of GPUs; nothing if there are none.

    Args:
        slot: place of the cell among those that run at a time, from 0.
        gpus: all that cells may take.
        device: `machine.device` of the cell; one that names a GPU, or no CUDA, sees them all.
        each: GPUs of a cell.
    """
    if not gpus:
        return {}
    turn = (gpus[(slot * each + number) % len(gpus)] for number in range(each))
    return {VISIBLE: ",".join(dict.fromkeys(turn) if device in ("auto", "cuda") else gpus)}
