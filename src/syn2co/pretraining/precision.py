"""The precision that a run computes in: the one that it asks for, or float32 where bfloat16 would only be emulated."""

import torch

from syn2co.core.progress import note
from syn2co.pretraining.config import Config
from syn2co.runtime import distributed
from syn2co.runtime.checkpoint import Checkpoint
from syn2co.runtime.device import emulates_bfloat16


def computing_in(config: Config, precision: str) -> Config:
    """Return the config with another precision; its hash is no longer that of the run."""
    training = config.training.model_copy(update={"precision": precision})
    return config.model_copy(update={"training": training})


def as_computed(config: Config, device: torch.device) -> Config:
    """Return the config with the precision in which a new run of it computes on a device, in one process."""
    return computing_in(config, "float32") if _is_emulated(config, device) else config


def _is_emulated(config: Config, device: torch.device) -> bool:
    asked = config.training.precision == "bfloat16" and not config.machine.emulate_bfloat16
    return asked and emulates_bfloat16(device.type)


def run_precision(config: Config, checkpoint: Checkpoint | None, device: torch.device) -> str:
    """Return the precision of a run; all ranks call this together.

    A new run computes in float32 in place of bfloat16 if one of its ranks would only emulate that. A run that has begun
    keeps its precision, whatever machine it resumes on.
    """
    asked, emulated = config.training.precision, bool(distributed.largest(int(_is_emulated(config, device))))
    first = "float32" if emulated else asked
    # Before it was recorded, runs computed in what they asked for.
    precision = first if checkpoint is None else checkpoint.state.get("precision", asked)
    line = _line(asked, precision, emulated, begun=checkpoint is not None)
    if line and distributed.is_main():
        note(f"training.precision = {asked}: {line}")
    return precision


def _line(asked: str, precision: str, emulated: bool, *, begun: bool) -> str:
    """Return what there is to say of a precision."""
    if emulated and precision == asked:
        return "is only emulated by this device, slower than float32; the run began in it and keeps it"
    if precision == asked:
        return ""
    if begun:
        return f"the run began in {precision}, for a device that only emulates {asked}, and keeps it"
    return (
        f"this device only emulates it, so the run computes in {precision}, which is faster "
        "(machine.emulate_bfloat16=true computes in it all the same)"
    )
