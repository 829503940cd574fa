"""Depthwise convolutions of small maps: gradients against float64, and runs that began without them."""

import pytest
import torch
from runs import KernelRuns, assert_same_tensors
from torch import nn

from syn2co.models.depthwise import use_padded_depthwise, use_plain_depthwise
from syn2co.pretraining import step
from syn2co.runtime.device import emulates_bfloat16

PYRAMID = (
    'encoder={"name":"pvt_v2_b0","options":{"embed_dims":[8,16,16],"depths":[1,1,1],"num_heads":[1,2,2],'
    '"sr_ratios":[2,1,1],"mlp_ratios":[2,2,2]}}',
    "training.precision=bfloat16", "machine.emulate_bfloat16=true", "training.steps=3", "negatives.start=0",
)  # fmt: skip
"""Three stages with maps of 4 x 4, 2 x 2 and 1 x 1."""


def gradients(layer: nn.Module, maps: torch.Tensor, wanted: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the output, and the gradients of the maps and of each parameter, under autocast unless in float64."""
    maps = maps.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=maps.dtype != torch.float64):
        output = layer(maps)
    output.backward(wanted.to(output.dtype))
    assert maps.grad is not None
    of_parameters = {name: parameter.grad for name, parameter in layer.named_parameters()}
    layer.zero_grad()
    return {"output": output.detach(), "maps": maps.grad, **of_parameters}  # type: ignore[dict-item]


@pytest.mark.skipif(emulates_bfloat16("cpu"), reason="torch's own kernels round each sum to bfloat16, oneDNN's do not")
@pytest.mark.parametrize("height, width, bias", [(1, 1, True), (2, 2, True), (2, 5, False), (4, 1, True)])
def test_gradients_are_those_of_float64(height, width, bias):
    random = torch.Generator().manual_seed(0)
    maps, wanted = (torch.randn(8, 32, height, width, generator=random).bfloat16().float() for _ in range(2))
    layer = nn.Conv2d(32, 32, 3, 1, 1, groups=32, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(32, 1, 3, 3, generator=random).bfloat16())
    plain, exact = gradients(layer, maps, wanted), gradients(layer.double(), maps.double(), wanted.double())
    layer.float()
    use_padded_depthwise(layer)
    padded = gradients(layer, maps, wanted)
    for name in plain.keys() - {"weight"}:
        assert torch.equal(padded[name], plain[name]), name
    assert padded["weight"].dtype == torch.float32
    torch.testing.assert_close(padded["weight"].double(), exact["weight"], rtol=2**-8, atol=1e-6)


def test_small_maps_are_padded_in_training_under_autocast_alone(monkeypatch):
    taken = list[int]()
    padded = torch.nn.grad.conv2d_weight
    monkeypatch.setattr(
        "syn2co.models.depthwise.conv2d_weight", lambda *a, **named: taken.append(1) or padded(*a, **named)
    )
    layer = nn.Conv2d(4, 4, 3, 1, 1, groups=4)
    use_padded_depthwise(layer)
    gradients(layer, torch.ones(2, 4, 3, 3), torch.ones(2, 4, 3, 3))
    gradients(layer.eval(), torch.ones(2, 4, 2, 2), torch.ones(2, 4, 2, 2))
    layer.train()(torch.ones(2, 4, 2, 2)).sum().backward()
    assert not taken
    gradients(layer, torch.ones(2, 4, 2, 2), torch.ones(2, 4, 2, 2))
    assert taken


def test_only_depthwise_convolutions_of_3_x_3_are_changed_and_can_be_changed_back():
    layers = {
        "depthwise": nn.Conv2d(4, 4, 3, 1, 1, groups=4),
        "dense": nn.Conv2d(4, 4, 3, 1, 1),
        "of two strides": nn.Conv2d(4, 4, 3, 2, 1, groups=4),
        "of 5 x 5": nn.Conv2d(4, 4, 5, 1, 2, groups=4),
        "dilated": nn.Conv2d(4, 4, 3, 1, 1, dilation=2, groups=4),
        "of one channel": nn.Conv2d(1, 1, 3, 1, 1),
        "circular": nn.Conv2d(4, 4, 3, 1, 1, groups=4, padding_mode="circular"),
    }
    module = nn.ModuleDict(layers)
    names = list(module.state_dict())
    use_padded_depthwise(module)
    assert [name for name, layer in layers.items() if type(layer) is not nn.Conv2d] == ["depthwise"]
    assert list(module.state_dict()) == names
    use_plain_depthwise(module)
    assert type(layers["depthwise"]) is nn.Conv2d


def test_a_run_in_bfloat16_resumes_bit_for_bit_also_one_from_before_the_padding(tiny, tmp_path, monkeypatch):
    padded = torch.nn.grad.conv2d_weight
    # So small a run may round to equal bits: here every padded gradient is another one.
    monkeypatch.setattr("syn2co.models.depthwise.conv2d_weight", lambda *a, **named: 2 * padded(*a, **named))
    runs = KernelRuns(tiny(*PYRAMID), tmp_path, monkeypatch)
    runs.stop("padded")
    assert_same_tensors(runs.run("padded"), runs.run("whole"))
    runs.check_former("padded_depthwise", step, "use_padded_depthwise")
