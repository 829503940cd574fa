"""Batch normalization over ranks against torch's own on the global batch.

Axes: n rows of one rank, C channels.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from runs import finish, said, start_ranks
from torch import nn

from syn2co.core.errors import ConfigError
from syn2co.models.batch_norm import SyncBatchNorm, has_batch_norm, synchronize
from syn2co.runtime.distributed import session

SPLITS = {"equal": (4, 4), "unequal": (6, 2), "one row": (7, 1), "none": (8, 0)}
SHAPES = {"1d": (8, 3), "2d": (8, 3, 4, 5)}


def _inputs(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """The values, far from zero mean, and the derivative of the loss in each output."""
    draws = np.random.default_rng(0)
    return torch.from_numpy(draws.normal(5.0, 2.0, shape)), torch.from_numpy(draws.normal(size=shape))


def _pass(layer: nn.Module, values: torch.Tensor, slopes: torch.Tensor) -> dict[str, np.ndarray]:
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, -2.0, 3.0]))
        layer.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    values = values.clone().requires_grad_()
    for _ in range(2):  # twice, so that the running statistics move from their start
        out = layer(values)
    (out * slopes).sum().backward()
    found = {"out": out, "input": values.grad, "slope": layer.weight.grad, "offset": layer.bias.grad}
    found |= layer.state_dict()
    return {name: tensor.detach().numpy() for name, tensor in found.items()}


def _pass_on_a_rank(folder: str, shape: tuple[int, ...], split: tuple[int, ...]) -> None:
    from syn2co.runtime import distributed

    with session("cpu"):
        first = sum(split[: distributed.rank()])
        own = slice(first, first + split[distributed.rank()])
        values, slopes = _inputs(shape)
        found = _pass(SyncBatchNorm(3).double(), values[own], slopes[own])
        np.savez(Path(folder) / f"{distributed.rank()}.npz", **found)


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("kind", SHAPES)
def test_two_ranks_equal_batch_norm_of_the_global_batch(kind, split, tmp_path):
    reference = (nn.BatchNorm1d if kind == "1d" else nn.BatchNorm2d)(3).double()
    expected = _pass(reference, *_inputs(SHAPES[kind]))
    for process in start_ranks(2, _pass_on_a_rank, str(tmp_path), SHAPES[kind], split):
        assert finish(process) == 0
    ranks = [np.load(tmp_path / f"{rank}.npz") for rank in range(2)]
    for name in ("out", "input"):
        np.testing.assert_allclose(np.concatenate([rank[name] for rank in ranks]), expected[name], atol=1e-12)
    for name in ("slope", "offset"):  # a rank has the part of its own rows; averaging them is DDP's work
        np.testing.assert_allclose(sum(rank[name] for rank in ranks), expected[name], atol=1e-12)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        for rank in ranks:
            np.testing.assert_allclose(rank[name], expected[name], atol=1e-12)


@pytest.mark.parametrize("kind", SHAPES)
def test_one_rank_is_torchs_own(kind):
    reference = (nn.BatchNorm1d if kind == "1d" else nn.BatchNorm2d)(3).double()
    expected, found = (_pass(layer, *_inputs(SHAPES[kind])) for layer in (reference, SyncBatchNorm(3).double()))
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_evaluation_uses_the_running_statistics():
    layer = SyncBatchNorm(1)
    layer.load_state_dict({
        "weight": torch.tensor([2.0]), "bias": torch.tensor([1.0]), "running_mean": torch.tensor([3.0]),
        "running_var": torch.tensor([4.0]), "num_batches_tracked": torch.tensor(5),
    })  # fmt: skip
    assert layer.eval()(torch.tensor([[7.0]])).item() == pytest.approx(2 * (7 - 3) / 4**0.5 + 1, abs=1e-4)


def test_statistics_are_float32_under_autocast():
    layer, values = SyncBatchNorm(2), torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(values.bfloat16())
    assert out.dtype == torch.float32
    assert out.mean().abs().item() < 1e-5


def _normalize_one_row(_: str) -> None:
    from syn2co.core.errors import Syn2CoError
    from syn2co.runtime import distributed

    with session("cpu"):
        try:
            SyncBatchNorm(3)(torch.ones(1 - distributed.rank(), 3))
        except Syn2CoError as error:
            print(error)


def test_one_image_on_all_ranks_is_an_error():
    for process in start_ranks(2, _normalize_one_row, ""):
        assert finish(process) == 0
        assert "training.batch = 1: batch normalization needs at least 2 images; enlarge the batch" in said(process)


def test_synchronize_keeps_parameters_buffers_and_names():
    import timm

    for name in ("test_resnet", "test_efficientnet"):
        module = timm.create_model(name, num_classes=0).train()
        images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        before = {key: value.clone() for key, value in module.state_dict().items()}
        expected = module(images)
        trained = {key: value.clone() for key, value in module.state_dict().items()}
        module.load_state_dict(before)
        synchronize(module)
        assert has_batch_norm(module)
        assert all(isinstance(part, SyncBatchNorm) for part in module.modules() if isinstance(part, nn.BatchNorm2d))
        assert not any(type(part) is nn.BatchNorm2d for part in module.modules())
        torch.testing.assert_close(module(images), expected, atol=0, rtol=0)
        assert module.state_dict().keys() == trained.keys()
        for key, value in module.state_dict().items():
            torch.testing.assert_close(value, trained[key], atol=0, rtol=0)


def test_synchronize_refuses_what_it_does_not_know():
    class Other(nn.BatchNorm2d):
        pass

    with pytest.raises(ConfigError, match="its layer '0' is a Other, which cannot be synchronized over ranks; choose"):
        synchronize(nn.Sequential(Other(3)))


def test_a_vision_transformer_has_no_batch_norm():
    assert not has_batch_norm(nn.Sequential(nn.LayerNorm(3), nn.Sequential(nn.Linear(3, 3))))
    assert has_batch_norm(nn.Sequential(nn.Sequential(SyncBatchNorm(3))))
