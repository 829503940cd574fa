"""Refusal of ranks that are unlike: other software, another device, other settings or inputs than rank 0."""

from collections.abc import Callable, Mapping

import torch

from syn2co.core.errors import ConfigError
from syn2co.core.versions import package_versions, python_version, source_hash
from syn2co.runtime import distributed

SAME_COMMAND = "start all ranks by the same command"
SAME_MACHINES = "install the same versions on all machines, and give all of them the same device"


def software(device: torch.device) -> dict[str, str]:
    """Return what this process computes with, by the names that an error uses: versions, own files, kind of device."""
    versions = package_versions("torch", "torchvision", "timm", "numpy", "cv2", "PIL")
    return {"Python": python_version(), **versions, "files of syn2co": source_hash(), "device": device.type}


def refuse_unlike_software(device: torch.device) -> None:
    """Refuse ranks with other software or another kind of device than rank 0; all ranks call this together.

    Raises:
        ConfigError: on every rank, naming the first difference.
    """
    refuse_unlike(lambda: software(device), SAME_MACHINES)


def refuse_unlike(values: Callable[[], Mapping[str, object]], hint: str = SAME_COMMAND) -> None:
    """Refuse ranks that hold other values than rank 0; all ranks call this together.

    Args:
        values: returns them by the names that the error uses; each has a text that tells it apart.
        hint: what to do.

    Raises:
        ConfigError: on every rank, naming the first difference.
    """
    if not distributed.active():
        return
    everyone = distributed.all_gather_objects({name: str(value) for name, value in values().items()})
    for rank, others in enumerate(everyone):
        for name in dict.fromkeys([*everyone[0], *others]):
            mine, first = (have.get(name, "none") for have in (others, everyone[0]))
            if mine != first:
                raise ConfigError(f"rank {rank}: has {name} {mine}, and rank 0 has {first}; {hint}")
