"""The device that a generator is opened with."""

from collections.abc import Callable

import pytest
import torch

from syn2co.runtime.device import choose_device
from syn2co.synthesis.generation.generator_factory import GeneratorFactory, device_of, open_generator_for
from syn2co.synthesis.generators.registry import load_generator
from syn2co.synthesis.sets.recipe import resolve
from syn2co.synthesis.sets.settings import SynthesisSettings


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_rank_opens_its_generator_on_its_own_gpu(
    device: str, launched: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    launched(LOCAL_RANK=3, LOCAL_WORLD_SIZE=8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    chosen: list[torch.device] = []

    def opened(factory: GeneratorFactory, recipe: object) -> None:
        chosen.append(choose_device(factory.context.device))

    monkeypatch.setattr(GeneratorFactory, "open", opened)
    settings = SynthesisSettings.parse({"generator": "flow", "work": {"device": device}})
    recipe = resolve(settings, load_generator("flow"), None)
    open_generator_for(None, recipe, None, progress=False)
    assert chosen == [torch.device("cuda", 3)] and device_of(recipe) == "cuda:3"
