"""Variables by which torchrun and other launchers number their processes: read here alone, complete or not at all."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from syn2co.core.errors import ConfigError

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Launcher:
    """Place of this process among those that a launcher has started; by default it is alone."""

    rank: int = 0
    size: int = 1
    """Processes of the launcher on all nodes."""
    local_rank: int = 0
    local_size: int = 1
    """Processes on this node."""
    torchrun: bool = False
    """Whether the parent is torchrun, without which nobody would end this process."""
    address: tuple[str, int] = ("", 0)
    """Host and port at which the processes meet."""


def launcher(environment: Mapping[str, str] | None = None) -> Launcher:
    """Return the place of this process as the environment tells it.

    RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT count together: some of them alone are left-overs of another program.

    Args:
        environment: variables; None is those of this process.

    Raises:
        ConfigError: if a variable is no whole number, the rank is not below the size, or the port is none.

    Example:
        >>> launcher({"RANK": "3"}).rank
        0
        >>> launcher({"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "node-1", "MASTER_PORT": "29500"}).rank
        3
    """
    environment = os.environ if environment is None else environment
    if not all(environment.get(name) for name in _NEEDED):
        return Launcher()
    rank, size = (_whole_number(environment, name) for name in ("RANK", "WORLD_SIZE"))
    port = _whole_number(environment, "MASTER_PORT")
    if not 0 < port < 1 << 16:
        raise ConfigError(
            f"MASTER_PORT = {environment['MASTER_PORT']}: must be between 1 and 65535; choose a free port"
        )
    local_rank = _whole_number(environment, "LOCAL_RANK")
    local_size = max(1, _whole_number(environment, "LOCAL_WORLD_SIZE", 1))
    if rank >= size:
        raise ConfigError(f"RANK = {rank}: must be below WORLD_SIZE = {size}; start with torchrun, or unset both")
    address = (environment["MASTER_ADDR"], port)
    return Launcher(rank, size, local_rank, local_size, "TORCHELASTIC_RUN_ID" in environment, address)


def _whole_number(environment: Mapping[str, str], name: str, default: int = 0) -> int:
    text = environment.get(name, str(default))
    if not (text.isascii() and text.isdecimal()):
        raise ConfigError(f"{name} = {text}: must be a whole number; start with torchrun, or unset the variable")
    return int(text)
