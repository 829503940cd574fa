"""Every recipe is complete, builds, and differs from its neighbors in what is listed, and in nothing else."""

from typing import Any

import pytest

from syn2co.core.errors import ConfigError
from syn2co.pretraining.recipes import RECIPES, recipe

RECORD = ["command", "machine", "time", "memory", "score", "source"]
ENCODERS = ("deit-s", "swin-t", "vit-s")
IMAGENET = [f"{method}-{encoder}" for method in ("moby", "mochi", "synco") for encoder in ENCODERS]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _differences(one: str, two: str) -> dict[str, tuple[Any, Any]]:
    left, right = (_flat(recipe(name).model_dump(exclude={"recipe"})) for name in (one, two))
    return {key: (left.get(key), right.get(key)) for key in left | right if left.get(key) != right.get(key)}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_config_that_names_itself(name):
    config = recipe(name)
    assert config.recipe == name
    assert RECIPES[name].__doc__ and RECIPES[name].__doc__.splitlines()[0].endswith(".")
    assert config.with_settings([]) == config, "it passes its own checks"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_lab_record(name):
    lines = (RECIPES[name].__doc__ or "").splitlines()
    record = dict(line.strip().split(":", 1) for line in lines if line.strip().split(":")[0] in RECORD)
    assert list(record) == RECORD and all(record.values())
    assert record["command"].strip().startswith("syn2co ")


def test_what_there_is():
    assert set(RECIPES) >= {*IMAGENET, *(f"{name}-released" for name in IMAGENET)}
    assert set(RECIPES) >= {"demo", "moby-cifar10", "mochi-cifar10", "synco-cifar10"}


LISTED = {
    "moby": {"optimizer.decay_positions": (False, True), "negatives.mask_groups": (True, False)},
    "mochi": {"negatives.stop": (100.0, 101.0)},
    "synco": {f"negatives.{kind}": (128, 64) for kind in ("noise", "perturbed", "adversarial")},
}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("method", LISTED)
def test_as_released_differs_from_as_intended_in_what_is_listed(method, encoder):
    expected = dict(LISTED["moby"])
    if method != "moby":
        expected |= LISTED["mochi"]
    if method == "synco":
        expected |= LISTED["synco"]
    assert _differences(f"{method}-{encoder}", f"{method}-{encoder}-released") == expected


@pytest.mark.parametrize("encoder", ENCODERS)
def test_methods_differ_in_their_negatives_alone(encoder):
    window = {"negatives.start": (0.0, 30.0), "negatives.stop": (None, 100.0)}
    mochi = {f"negatives.{kind}": (0, 128) for kind in ("interpolated", "mixup")}
    rest = {f"negatives.{kind}": (0, 128) for kind in ("extrapolated", "noise", "perturbed", "adversarial")}
    assert _differences(f"moby-{encoder}", f"mochi-{encoder}") == window | mochi
    assert _differences(f"mochi-{encoder}", f"synco-{encoder}") == rest
    assert _differences(f"moby-{encoder}", f"synco-{encoder}") == window | mochi | rest


@pytest.mark.parametrize("encoder", ENCODERS)
def test_supervised_differs_from_moby_in_its_objective_alone(encoder):
    assert _differences(f"moby-{encoder}", f"supervised-{encoder}") == {
        "training.objective": ("contrastive", "supervised"),
        "supervised.label_smoothing": (0.0, 0.1),
    }


def test_supervised_on_cifar10_differs_in_its_objective_and_has_no_heads():
    assert _differences("moby-cifar10", "supervised-cifar10") == {
        "training.objective": ("contrastive", "supervised"),
        "heads.hidden": (1024, 4096),  # the defaults: there are none
        "heads.width": (128, 256),
    }


@pytest.mark.parametrize("name", ["deit-s", "swin-t", "cifar10"])
def test_syn2co_is_synco_with_half_of_the_images_synthetic(name):
    differences = _differences(f"synco-{name}", f"syn2co-{name}")
    assert all(key.startswith("mix.ratio") for key in differences)
    assert differences["mix.ratio.start"] == (None, 0.5)
    text = RECIPES[f"syn2co-{name}"].__doc__ or ""
    assert f"--recipe syn2co-{name} --real" in text and "--synthetic" in text


def test_methods_at_equal_steps_on_cifar10():
    for other in ("mochi-cifar10", "synco-cifar10"):
        assert all(name.startswith("negatives.") for name in _differences("moby-cifar10", other))


def test_cpu_recipes_have_synthetic_negatives_for_the_whole_run():
    for name in ("demo", "mochi-cifar10", "synco-cifar10"):
        negatives = recipe(name).negatives
        assert negatives.total and negatives.start == 0 and negatives.stop is None


def test_defect_02_the_released_window_includes_epoch_100():
    from syn2co.objective import window_open

    for name, last in (("synco-deit-s", False), ("synco-deit-s-released", True)):
        negatives = recipe(name).negatives
        opened = [window_open(step, 10, negatives.start, negatives.stop or 0.0) for step in (299, 300, 999, 1000, 1010)]
        assert opened == [False, True, True, last, False]


def test_the_encoders_are_what_they_say():
    """method.md, section 4: MoCo v3's ViT-S has 12 heads and fixed positions, DeiT-S has 6."""
    import torch

    from syn2co.models.encoder import build_encoder

    expected = {"deit-s": (384, 6), "vit-s": (384, 12), "swin-t": (768, None)}
    for name, (width, heads) in expected.items():
        settings = recipe(f"moby-{name}").encoder_spec
        with torch.device("meta"):
            encoder = build_encoder(settings, seed=0)
        assert (encoder.width, encoder.image_size) == (width, 224)
        if heads:
            assert encoder.backbone.blocks[0].attn.num_heads == heads
            assert encoder.backbone.pos_embed.requires_grad == (name == "deit-s")


def test_an_unknown_recipe_is_answered_with_the_nearest():
    sentence = (
        r"--recipe synco-deits: there is no such recipe; did you mean synco-deit-s\?; `syn2co recipes` lists them"
    )
    with pytest.raises(ConfigError, match=sentence):
        recipe("synco-deits")
