"""Deterministic kernels are put back, and what changed between two machines is named."""

import pytest
import torch

from syn2co.runtime.determinism import deterministic, differences
from syn2co.runtime.settings import MachineSettings


def test_deterministic_puts_everything_back() -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with deterministic(MachineSettings(threads=2)):
        assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (2, True)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_threads_by_default_are_no_more_than_the_cpus_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syn2co.runtime.determinism.available_cpus", lambda: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with deterministic(MachineSettings()):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 3
        monkeypatch.setattr("syn2co.runtime.determinism.available_cpus", lambda: 64)
        with deterministic(MachineSettings()):
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_differences_names_what_changed() -> None:
    assert differences({"torch": "1", "threads": 2}, {"torch": "1", "threads": 4}) == ["threads 2 -> 4"]
