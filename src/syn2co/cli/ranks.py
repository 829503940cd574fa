"""The one process that speaks for all ranks of a run."""

import os


def first_rank() -> bool:
    """Return whether this process speaks for all; the process group has been left when a command prints."""
    return os.environ.get("RANK", "0") == "0"
