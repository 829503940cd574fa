"""Abilities of saved pipelines: the tasks that a class of diffusers can do, and the class that does each."""

import inspect
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from syn2co.core.errors import ConfigError
from syn2co.synthesis.generators.diffusion.options import Task

LCM = ("LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline")
VARYING: tuple[Task, ...] = ("image-to-image", "image-variation")
"""Tasks that draw from real images."""
_OWN: dict[str, dict[Task, str]] = {
    **{
        name: {"text-to-image": f"{family}Pipeline", "image-to-image": f"{family}Img2ImgPipeline"}
        for family in ("StableDiffusion", "StableDiffusionXL", "LatentConsistencyModel")
        for name in (f"{family}Pipeline", f"{family}Img2ImgPipeline")
    },
    **{
        name: {"image-variation": name}
        for name in ("StableUnCLIPImg2ImgPipeline", "StableDiffusionImageVariationPipeline")
    },
    "DiTPipeline": {"class-conditional": "DiTPipeline"},
    **{name: {"unconditional": "DDPMPipeline"} for name in ("DDPMPipeline", "DDIMPipeline")},
}
"""Classes that no auto pipeline opens, and the commonest, so that a plan of these imports no diffusers (6 s)."""


def abilities(pipeline: str, model: str) -> Mapping[Task, str]:
    """Return the class that does each task of a `model` that was saved as the class `pipeline`; the parts are the same.

    Raises:
        ConfigError: if neither diffusers' auto pipelines nor this module know it.
    """
    able = _OWN.get(pipeline) or _of_auto(pipeline)
    if not able:
        raise ConfigError(
            f"model = {model}: is a {pipeline}, which diffusers' auto pipelines open neither from text nor "
            "from text and an image; write a generator around it (docs/how-to/diffusion.md)"
        )
    return able


def choose_task(pipeline: str, task: str, model: str) -> Task:
    """Return the task, which follows from the class that the model was saved as where it is auto.

    Raises:
        ConfigError: if the class cannot do the task.
    """
    able = abilities(pipeline, model)
    fitting: list[Task] = [name for name in able if task in ("auto", name)]
    same: list[Task] = [name for name in fitting if task == "auto" and able[name] == pipeline]
    if fitting:
        return (same or fitting)[0]
    raise ConfigError(
        f"task = {task}: a {pipeline} such as {model} can do {' and '.join(able)}; choose another task or model"
    )


@cache
def _of_auto(pipeline: str) -> dict[Task, str]:
    """Return what the auto pipelines of diffusers make of a class: one of the text-to-image or image-to-image family.

    Left out are families that need a control image, and editing models, which take no strength.
    """
    auto_pipeline: Any = import_module("diffusers.pipelines.auto_pipeline")
    mappings: dict[Task, dict[str, Any]] = {
        "text-to-image": auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
        "image-to-image": {
            family: made
            for family, made in auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING.items()
            if "strength" in inspect.signature(made.__call__).parameters
        },
    }
    families = [
        family
        for mapping in mappings.values()
        for family, made in mapping.items()
        if made.__name__ == pipeline and "control" not in family
    ]
    return {
        task: mapping[name].__name__ for name in families[:1] for task, mapping in mappings.items() if name in mapping
    }
