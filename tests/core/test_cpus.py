"""CPUs that a process may use: by affinity, and shared by the ranks of a node."""

import os
from collections.abc import Callable

import pytest

from syn2co.core.cpus import available_cpus, cpus_of_rank
from syn2co.core.errors import ConfigError


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_only_the_cpus_of_the_affinity_count() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert available_cpus() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert available_cpus() <= len(allowed)


def test_ranks_of_a_node_share_them_and_each_has_one(
    launched: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syn2co.core.cpus.available_cpus", lambda: 12)
    assert cpus_of_rank() == 12
    launched(LOCAL_WORLD_SIZE=5)
    assert cpus_of_rank() == 2
    launched(LOCAL_WORLD_SIZE=64)
    assert cpus_of_rank() == 1


def test_a_limit_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "two")
    with pytest.raises(ConfigError, match=r"^LOKY_MAX_CPU_COUNT = two: must be a whole number; correct or unset it$"):
        available_cpus()
