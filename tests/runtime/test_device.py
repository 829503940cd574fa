"""Devices, and processes that load images."""

from collections.abc import Callable

import pytest
import torch

from syn2co.core.errors import ConfigError
from syn2co.runtime.device import choose_device, choose_workers
from syn2co.runtime.settings import MachineSettings

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


def test_workers(launched: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syn2co.core.cpus.available_cpus", lambda: 32)
    launched(LOCAL_WORLD_SIZE=4)
    assert choose_workers(MachineSettings(workers=3), CPU, cached=True) == 3
    assert choose_workers(MachineSettings(), CPU, cached=True) == 0
    assert choose_workers(MachineSettings(), CPU, cached=False) == 4
    assert choose_workers(MachineSettings(), torch.device("cuda"), cached=True) == 7


@pytest.fixture
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)


@pytest.mark.usefixtures("eight_gpus")
def test_a_rank_has_the_gpu_of_its_number(launched: Callable[..., None]) -> None:
    launched(LOCAL_RANK=3, LOCAL_WORLD_SIZE=8)
    assert choose_device("auto") == torch.device("cuda", 3)
    with pytest.raises(ConfigError, match="cuda:3: would give every rank the same GPU; use cuda"):
        choose_device("cuda:3")


@pytest.mark.usefixtures("eight_gpus")
def test_the_one_gpu_that_a_launcher_shows_is_the_rank_s_own(
    launched: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    launched(LOCAL_RANK=1, LOCAL_WORLD_SIZE=2)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert choose_device("cuda") == torch.device("cuda", 0)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "torchrun shows all of its ranks the same GPUs")
    with pytest.raises(ConfigError, match="GPU 1 is asked for and torch sees 1"):
        choose_device("cuda")
