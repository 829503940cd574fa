"""Recipes: named complete configs. A recipe is a function; its docstring says what it is for, where its numbers come
from, and what it was seen to do. `syn2co recipes` lists them.

"As intended" follows the papers and the authors' configuration files; "-released" follows what their code runs:
64 instead of 128 for each of kinds 4-6, a window that includes epoch 100, no group mask, and weight decay on position
embeddings, relative-position tables and class tokens.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from syn2co.core.errors import ConfigError
from syn2co.core.hints import nearest
from syn2co.data.settings import MixSettings
from syn2co.objective.counts import PRESETS
from syn2co.pretraining.config import Config, load_config

AUTO = "auto"
"""Recipe whose values are chosen from the images and the machine when a run begins: `pretraining.auto`."""
INTENDED, RELEASED, MOCHI = (PRESETS[name]._asdict() for name in ("as-intended", "as-released", "mochi"))
WINDOW = {"start": 30.0, "stop": 100.0}
ENCODERS: dict[str, dict[str, Any]] = {
    "deit-s": {"name": "deit_small_patch16_224"},
    "swin-t": {"name": "swin_tiny_patch4_window7_224"},
    "vit-s": {"name": "vit_small_patch16_224", "options": {"num_heads": 12}, "init": "moco_v3"},
}
HALF = MixSettings.parse({"ratio": 0.5})  # ours: the paper does not say which ratios it ran
PAPERS = {"moby": "arXiv:2105.04553", "mochi": "arXiv:2010.01028 on MoBY", "synco": "arXiv:2509.02024, 2509.02029"}

LINEAR = {  # published, ImageNet-1k, linear probe, top-1, 300 epochs; docs/results says where ours stand
    ("moby", "deit-s"): "72.8 % (MoBY, official; a rerun by SynCo-v2's authors gave 72.3)",
    ("moby", "swin-t"): "75.3 % (MoBY, official; a rerun by SynCo-v2's authors gave 74.7)",
    ("synco", "deit-s"): "73.1 % (SynCo-v2)",
    ("synco", "swin-t"): "75.4 % (SynCo-v2)",
}
CIFAR10_KNN = {"moby": "59.0 % [58.0, 59.9]", "synco": "59.4 % [58.4, 60.3]"}
CIFAR10_MINUTES = {"moby": 45, "synco": 48}
NEGATIVES_ALWAYS = "; synthetic negatives for the whole run"
TWO_CORES = "two cores of an AMD EPYC, no GPU"


def _record(summary: str, *, command: str, machine: str, time: str, memory: str, score: str, source: str) -> str:
    """Return the docstring of a recipe: its summary and its lab record."""
    lines = {"command": command, "machine": machine, "time": time, "memory": memory, "score": score, "source": source}
    return summary + "\n\n" + "".join(f"{name + ':':9} {text}\n" for name, text in lines.items())


def _imagenet_record(method: str, encoder: str, name: str, how: str) -> str:
    return _record(
        f"{PAPERS[method]}, {ENCODERS[encoder]['name']}, ImageNet, 300 epochs, batch 512, {how}.",
        command=f"syn2co pretrain --recipe {name} --real imagenet/train --out runs/{name}",
        machine="GPUs; not run by us to its end",
        time="not measured by us",
        memory="not measured by us",
        score=f"linear {LINEAR[method, encoder]}" if (method, encoder) in LINEAR else "none published for this encoder",
        source=PAPERS[method],
    )


def _cifar10_record(method: str) -> str:
    name = f"{method}-cifar10"
    measured = method in CIFAR10_KNN
    minutes = f"{CIFAR10_MINUTES[method]} minutes by its speed over 80 steps" if measured else "not measured"
    return _record(
        f"{PAPERS[method]} for 32 px images on a CPU (CIFAR-10){'' if method == 'moby' else NEGATIVES_ALWAYS}.",
        command=f"syn2co pretrain --recipe {name} --real torchvision:CIFAR10 --out runs/{name}",
        machine=TWO_CORES,
        time=minutes,
        memory="1.3 GB" if measured else "not measured",
        score=f"k-NN {CIFAR10_KNN[method]} on CIFAR-10's test images, one seed" if measured else "not measured",
        source=f"{PAPERS[method]}; encoder and schedule are ours",
    )


def _syn2co_record(encoder: str) -> str:
    name = f"syn2co-{encoder}"
    return _record(
        "arXiv:2509.02029: synthetic negatives, half of each epoch synthetic images; ImageNet-100 and its clone.\n\n"
        f"As synco-{encoder} but for mix.ratio = 0.5 (ours: the paper names no ratio). An epoch is as long as one of "
        "the real\nimages alone, so all ratios take equal steps, 0 (real only) and 1 (synthetic only) too. For equal "
        "distinct images set\nmix.max_real and mix.max_synthetic: docs/concepts/mixing.md.",
        command=f"syn2co generate --generator diffusion --classes imagenet-100.txt --set per_subject=1300 --size 256 "
        "--set options.model=stable-diffusion-v1-5/stable-diffusion-v1-5 --out clone; "
        f"syn2co pretrain --recipe {name} --real imagenet-100/train --synthetic clone --out runs/half",
        machine="GPUs; not run by us",
        time="not measured by us",
        memory="not measured by us",
        score="none published that can be compared: ratios and generator are not known",
        source="arXiv:2509.02029",
    )


def _supervised_record(encoder: str) -> str:
    name, contrastive = f"supervised-{encoder}", f"synco-{encoder}"
    return _record(
        f"Cross-entropy with labels, {ENCODERS[encoder]['name']}, ImageNet: the reference of {contrastive}.\n\n"
        f"Encoder, data, both views, steps, optimizer and precision are those of {contrastive}; label smoothing is 0.1 "
        "as in DeiT.\nThe views are those of contrastive training, so it is no attempt at the best supervised score.",
        command=f"syn2co pretrain --recipe {name} --real imagenet/train --out runs/{name}",
        machine="GPUs; not run by us",
        time="not measured by us",
        memory="not measured by us",
        score="none published with these views",
        source="label smoothing: arXiv:2012.12877; the rest as the contrastive recipe",
    )


SUPERVISED_CIFAR10 = _record(
    "Cross-entropy with labels for 32 px images on a CPU (CIFAR-10): the reference of synco-cifar10.\n\n"
    "Encoder, data, both views, steps, optimizer and precision are those of synco-cifar10; labels are not smoothed.",
    command="syn2co pretrain --recipe supervised-cifar10 --real torchvision:CIFAR10 --out runs/supervised-cifar10",
    machine=TWO_CORES,
    time="5,000 steps took 74 minutes on one thread of a busy machine; 250 images/s at their end",
    memory="1.3 GB",
    score="k-NN 75.0 % [74.1, 75.9], linear 76.0 % after 5,000 steps on CIFAR-10's test images, one seed",
    source="ours",
)
SYN2CO_CIFAR10 = _record(
    "synco-cifar10 with half of each epoch synthetic images, for 32 px on a CPU.",
    command="syn2co pretrain --recipe syn2co-cifar10 --real torchvision:CIFAR10 --synthetic procedural:mix:50000 "
    "--out runs/half",
    machine=TWO_CORES,
    time="not measured to its end",
    memory="not measured",
    score="not measured to its end; 900 steps: docs/results/cifar10-synthetic.md",
    source="arXiv:2509.02029; encoder, schedule, generator and ratio are ours",
)


def _imagenet(method: str, encoder: str, released: bool) -> Config:
    counts = {"moby": {}, "mochi": MOCHI, "synco": RELEASED if released else INTENDED}[method]
    window = {"start": 30.0, "stop": 101.0} if released else WINDOW
    negatives = {**counts, **(window if counts else {}), "mask_groups": not released}
    return Config.parse(
        {
            "encoder": ENCODERS[encoder],
            "negatives": negatives,
            "optimizer": {"decay_positions": released},
            "training": {"precision": "bfloat16"},
        }
    )


def _syn2co(encoder: str) -> Config:
    base = _imagenet("synco", encoder, released=False)
    return base.model_copy(update={"mix": HALF})


def _small_vit(patch: int, width: int, depth: int, heads: int) -> dict[str, Any]:
    options = {"patch_size": patch, "embed_dim": width, "depth": depth, "num_heads": heads}
    return {"name": "vit_tiny_patch16_224", "options": options, "drop_path": 0.05}


def _small_pvt() -> dict[str, Any]:
    """Return a pyramid vision transformer (PVT v2, arXiv:2106.13797) of three stages: 8x8, 4x4 and 2x2 tokens at 32 px.

    Its overlapping patches learn faster from little data than a plain ViT of the same cost.
    """
    stages = {"embed_dims": [64, 128, 256], "depths": [2, 2, 2], "num_heads": [1, 2, 4]}
    options = {**stages, "sr_ratios": [2, 1, 1], "mlp_ratios": [4, 4, 4]}
    return {"name": "pvt_v2_b0", "options": options, "drop_path": 0.05}


def _small(encoder: dict[str, Any], **groups: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the recipes for 32 px on a CPU share."""
    views = {"size": 32, "crop_scale": [0.2, 1.0], "blur_sigma": [0.1, 1.0], "blur": [0.5, 0.1]}
    return {
        "encoder": encoder,
        "views": views,
        "heads": {"hidden": 1024, "width": 128},
        "machine": {"save_minutes": 2.0, "log_steps": 20},
        **groups,
    }


def _cifar10(method: str) -> Config:
    counts = {"moby": {}, "mochi": MOCHI, "synco": RELEASED}[method]
    return Config.parse(
        _small(
            _small_pvt(),
            negatives=counts,
            optimizer={"base_lr": 3e-3, "warmup_epochs": 1.0},
            training={"epochs": 15.0, "batch": 128, "precision": "bfloat16"},
        )
    )


def _supervised(encoder: str) -> Config:
    return Config.parse(
        {
            "encoder": ENCODERS[encoder],
            "training": {"precision": "bfloat16", "objective": "supervised"},
            "supervised": {"label_smoothing": 0.1},
        }
    )


def _supervised_cifar10() -> Config:
    base, heads = _cifar10("moby"), Config().heads  # not used, so left as they are by default
    training = base.training.model_copy(update={"objective": "supervised"})
    return base.model_copy(update={"heads": heads, "training": training})


def _syn2co_cifar10() -> Config:
    return _cifar10("synco").model_copy(update={"mix": HALF})


def demo() -> Config:
    """Patches of 16 photographs, 32 px, all six kinds for the whole run; minutes on two CPU cores.

    Color is part of what tells these photographs apart, so colors are jittered little and never inverted.

    command:  syn2co demo --pretrain-only
    machine:  two cores of an AMD EPYC, no GPU
    time:     4.4 minutes with scores and pictures
    memory:   1.1 GB
    score:    k-NN 81.7 % [79.3, 84.1] on patches of the other 40 % of each photograph; random init 67.7 %
    source:   ours
    """
    small = _small(
        _small_vit(patch=8, width=192, depth=4, heads=3),
        data={"real": ["builtin:photos:train"]},
        queue={"size": 1024},
        negatives={**RELEASED, "hardest": 128},
        optimizer={"base_lr": 4e-3, "warmup_epochs": 0.5},
        training={"epochs": 3.75, "batch": 64, "precision": "bfloat16"},
    )
    mild = {"color_jitter": [0.3, 0.3, 0.1, 0.03], "grayscale": 0.05, "solarize": [0.0, 0.0]}
    return Config.parse({**small, "views": {**small["views"], **mild}})


def _recipes() -> dict[str, Callable[[], Config]]:
    registry: dict[str, Callable[[], Config]] = {"demo": demo}
    for method in ("moby", "mochi", "synco"):
        registry[f"{method}-cifar10"] = _named(
            lambda method=method: _cifar10(method),
            _cifar10_record(method),
        )
        for encoder in ENCODERS:
            for released in (False, True):
                name = f"{method}-{encoder}" + ("-released" if released else "")
                registry[name] = _named(
                    lambda method=method, encoder=encoder, released=released: _imagenet(method, encoder, released),
                    _imagenet_record(method, encoder, name, "as released" if released else "as intended"),
                )
    for encoder in ("deit-s", "swin-t"):
        registry[f"syn2co-{encoder}"] = _named(lambda encoder=encoder: _syn2co(encoder), _syn2co_record(encoder))
    for encoder in ENCODERS:
        registry[f"supervised-{encoder}"] = _named(
            lambda encoder=encoder: _supervised(encoder), _supervised_record(encoder)
        )
    registry["supervised-cifar10"] = _named(_supervised_cifar10, SUPERVISED_CIFAR10)
    registry["syn2co-cifar10"] = _named(_syn2co_cifar10, SYN2CO_CIFAR10)
    return registry


def _named(make: Callable[[], Config], summary: str) -> Callable[[], Config]:
    make.__doc__ = summary
    return make


RECIPES: dict[str, Callable[[], Config]] = _recipes()


def recipe(name: str) -> Config:
    """Return the complete config of a recipe.

    Args:
        name: one of `recipes()`, such as "synco-deit-s".

    Returns:
        The config; change it with `Config.with_settings`.

    Raises:
        ConfigError: if there is no recipe of that name; with the nearest one.

    Example:
        >>> recipe("synco-deit-s").negatives.total, recipe("synco-deit-s-released").negatives.total
        (768, 576)
    """
    if name == AUTO:
        raise ConfigError(
            "--recipe auto: is chosen from images, by `syn2co pretrain` alone; name another recipe, or give the "
            "config.json of such a run with --config"
        )
    if name not in RECIPES:
        raise ConfigError(
            f"--recipe {name}: there is no such recipe{nearest(name, RECIPES)}; `syn2co recipes` lists them"
        )
    return RECIPES[name]().model_copy(update={"recipe": name})


def recipes() -> dict[str, str]:
    """Return the first line of the description of each recipe, by its name.

    Returns:
        A mapping in the order of `syn2co recipes`, such as {"demo": "Patches of 16 photographs, ..."}.

    Example:
        >>> "synco-deit-s" in recipes()
        True
    """
    return {name: next(iter((make.__doc__ or "").splitlines()), "") for name, make in RECIPES.items()}


def as_config(config: Config | str | Path) -> Config:
    """Return a config as it is, the recipe of a name, or the config in a JSON file.

    Raises:
        ConfigError: if there is no such recipe or file, or it holds no config.
    """
    if isinstance(config, Config):
        return config
    is_file = isinstance(config, Path) or (config not in RECIPES and config.endswith(".json"))
    return load_config(config) if is_file else recipe(str(config))
