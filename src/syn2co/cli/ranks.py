"""The one process that speaks for all ranks of a run."""

from syn2co.core.errors import ConfigError
from syn2co.core.launcher import launcher


def first_rank() -> bool:
    """Return whether this process speaks for all; the process group has been left when a command prints."""
    try:
        return launcher().rank == 0
    except ConfigError:  # it is to be read
        return True
