"""CPUs that this process may use, which may be fewer than the machine has."""

import os

from syn2co.core.errors import ConfigError
from syn2co.core.launcher import launcher


def available_cpus() -> int:
    """Return the number of CPUs by affinity and cgroup limits, as in a container or a job of SLURM; at least 1.

    LOKY_MAX_CPU_COUNT lowers it further.

    Raises:
        ConfigError: if that is no whole number.

    Example:
        >>> available_cpus() >= 1
        True
    """
    from joblib import cpu_count  # comes with scikit-learn

    try:
        return cpu_count()
    except ValueError:
        limit = os.environ["LOKY_MAX_CPU_COUNT"]
        raise ConfigError(f"LOKY_MAX_CPU_COUNT = {limit}: must be a whole number; correct or unset it") from None


def cpus_of_rank() -> int:
    """Return the share of this rank, of those that a launcher started on this node; at least 1.

    Raises:
        ConfigError: if a launcher's variable is no whole number.

    Example:
        >>> cpus_of_rank() <= available_cpus()
        True
    """
    return max(1, available_cpus() // launcher().local_size)
