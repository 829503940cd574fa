"""Devices, workers, settings that are put back, and the lock of a run folder."""

import os
import signal
from pathlib import Path

import pytest
import torch

from syn2co.core.errors import ConfigError
from syn2co.core.locks import only_run_in
from syn2co.runtime.determinism import deterministic, differences
from syn2co.runtime.device import choose_device, choose_workers
from syn2co.runtime.settings import MachineSettings
from syn2co.runtime.signals import Interrupts

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "message"), [
    ("gpu", r"machine.device = gpu: must be auto, cpu, cuda, cuda:N or mps"),
    ("cuda", r"machine.device = cuda: torch sees no CUDA GPU; use cpu or install a CUDA build of torch"),
    ("mps", r"machine.device = mps: torch sees no Apple GPU; use cpu"),
])  # fmt: skip
def test_a_device_that_is_not_there(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=message):
        choose_device(name)
    assert choose_device("auto") == CPU


def test_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert choose_workers(MachineSettings(workers=3), CPU, cached=True) == 3
    assert choose_workers(MachineSettings(), CPU, cached=True) == 0
    assert choose_workers(MachineSettings(), CPU, cached=False) == 4
    assert choose_workers(MachineSettings(), torch.device("cuda"), cached=True) == 7


def test_deterministic_puts_everything_back() -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with deterministic(MachineSettings(threads=2)):
        assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (2, True)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_differences_names_what_changed() -> None:
    assert differences({"torch": "1", "threads": 2}, {"torch": "1", "threads": 4}) == ["threads 2 -> 4"]


def test_signals_are_remembered_and_a_second_ctrl_c_acts_at_once() -> None:
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.received == signal.SIGTERM
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = pytest.raises(ConfigError, match=r"--out run: cannot be written \(.*\); choose another folder")
    with refused, only_run_in(tmp_path / "file" / "run"):
        pass


def test_defect_12_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    refused = pytest.raises(ConfigError, match=r"--out run: another run is writing to this folder")
    with only_run_in(tmp_path / "run"), refused, only_run_in(tmp_path / "run"):
        pass
    with only_run_in(tmp_path / "run"):
        pass
