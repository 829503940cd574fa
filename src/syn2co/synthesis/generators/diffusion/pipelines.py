"""From a model folder to a pipeline that is ready to draw: which class, which scheduler, which device."""

import contextlib
import inspect
import io
import logging
import re
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from syn2co.core.errors import ConfigError
from syn2co.synthesis.generators.diffusion.model_folder import ModelFolder
from syn2co.synthesis.generators.diffusion.options import FEW_STEP, DiffusionOptions, Task

if TYPE_CHECKING:
    import torch

_STABLE: dict[Task, str] = {
    "text-to-image": "StableDiffusionPipeline",
    "image-to-image": "StableDiffusionImg2ImgPipeline",
}
_XL: dict[Task, str] = {
    "text-to-image": "StableDiffusionXLPipeline",
    "image-to-image": "StableDiffusionXLImg2ImgPipeline",
}
_LCM: dict[Task, str] = {
    "text-to-image": "LatentConsistencyModelPipeline",
    "image-to-image": "LatentConsistencyModelImg2ImgPipeline",
}
_VARIATIONS = ("StableUnCLIPImg2ImgPipeline", "StableDiffusionImageVariationPipeline")
CLASSES: dict[str, dict[Task, str]] = {
    **{name: family for family in (_STABLE, _XL, _LCM) for name in family.values()},
    **{name: {"image-variation": name} for name in _VARIATIONS},
    "DiTPipeline": {"class-conditional": "DiTPipeline"},
}
"""Class that a model was saved as -> what it can do -> the class that does it; the parts are the same."""

_NEW_WEIGHTS = "newly initialized"


def choose_task(model: ModelFolder, task: str) -> Task:
    """Return the task, which follows from the class that the model was saved as where it is auto.

    Raises:
        ConfigError: if the class cannot do the task.
    """
    able = CLASSES[model.pipeline]
    fitting: list[Task] = [
        name for name, does in able.items() if (does == model.pipeline if task == "auto" else name == task)
    ]
    if not fitting:
        raise ConfigError(
            f"task = {task}: a {model.pipeline} such as {model.name} can do {' and '.join(able)}; choose another "
            "task or model"
        )
    return fitting[0]


def load_pipeline(model: ModelFolder, task: Task, options: DiffusionOptions, device: "torch.device") -> Any:
    """Return the pipeline of a task on the device, with the sampler of the options; no network is used.

    Raises:
        ConfigError: if it cannot be loaded, or the sampler does not fit it.
    """
    diffusers = import_module("diffusers")
    name = CLASSES[model.pipeline][task]
    made = getattr(diffusers, name)
    takes = inspect.signature(made.__init__).parameters
    special: dict[str, Any] = {}
    if options.safety == "off" and "safety_checker" in takes:
        special |= {"safety_checker": None, "requires_safety_checker": False}
    if "add_watermarker" in takes:
        special["add_watermarker"] = False  # else pixels would depend on whether a further package is installed
    try:
        with quiet() as said:
            pipe = made.from_pretrained(
                model.path, dtype=_dtype(options, device), variant=options.variant, local_files_only=True, **special
            )
            _refuse_new_weights(model, said.getvalue())
            _set_sampler(pipe, options)
    except ConfigError:
        raise
    except Exception as error:  # whatever the two libraries raise of a damaged or foreign file
        reason = " ".join(str(error).replace(str(model.path), model.name).split())[:300]
        raise ConfigError(
            f"model = {model.name}: cannot be loaded as {name} ({type(error).__name__}: {reason}); a file is missing, "
            "damaged or of another version; copy or download the model again"
        ) from None
    pipe.set_progress_bar_config(disable=True)
    return _place(pipe, options, device)


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Keep the progress bars and warnings of diffusers and transformers off the terminal; yield what they would say.

    Cut prompts and flagged images, which they warn of, are counted in the manifest.
    """
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    said = io.StringIO()
    libraries = {logging.getLogger("diffusers"): of_diffusers, logging.getLogger("transformers"): of_transformers}
    before = [
        (log.handlers, log.level, log.propagate, bars.is_progress_bar_enabled()) for log, bars in libraries.items()
    ]
    for log, bars in libraries.items():
        log.handlers, log.propagate = [logging.StreamHandler(said)], False
        log.setLevel(logging.WARNING)
        bars.disable_progress_bar()
    try:
        yield said
    finally:
        for (log, bars), (handlers, level, propagate, enabled) in zip(libraries.items(), before, strict=True):
            log.handlers, log.propagate = handlers, propagate
            log.setLevel(level)
            if enabled:
                bars.enable_progress_bar()


def _refuse_new_weights(model: ModelFolder, said: str) -> None:
    """Refuse a model with tensors missing: both libraries warn and use random ones, in a safety checker too."""
    if _NEW_WEIGHTS in said:
        parts = [part for part in model.parts if re.search(rf"[/\\]{part}\b", said)]
        raise ConfigError(
            f"model = {model.name}: weights of {' and '.join(parts) or 'a part'} are missing in its files and would be "
            "random; copy or download the model again"
        )


def _dtype(options: DiffusionOptions, device: "torch.device") -> "torch.dtype":
    import torch

    name = ("float16" if device.type == "cuda" else "float32") if options.dtype == "auto" else options.dtype
    return getattr(torch, name)


def _set_sampler(pipe: Any, options: DiffusionOptions) -> None:
    """Give the pipeline the scheduler of the options, with the noise schedule that the model was trained with."""
    scheduler_name = type(pipe.scheduler).__name__
    sampler = options.sampler
    if sampler == "auto":
        sampler = "model" if scheduler_name in FEW_STEP else "ddim"
    if type(pipe).__name__ in _LCM.values() and sampler in ("ddim", "dpm++"):
        raise ConfigError(
            f"sampler = {sampler}: a {type(pipe).__name__} draws in a few steps and needs its own; set sampler to model"
        )
    if sampler != "model":
        pipe.scheduler = _scheduler(sampler, pipe.scheduler.config)
    if type(pipe).__name__ == "DiTPipeline" and not _is_deterministic(pipe.scheduler):
        raise ConfigError(
            f"sampler = {options.sampler}: {type(pipe.scheduler).__name__} draws noise at every step, which a "
            "DiTPipeline takes from no seed; set sampler to ddim or dpm++"
        )


def _scheduler(sampler: str, config: Any) -> Any:
    diffusers = import_module("diffusers")
    if sampler == "dpm++":
        return diffusers.DPMSolverMultistepScheduler.from_config(config, algorithm_type="dpmsolver++")
    made = diffusers.DDIMScheduler if sampler == "ddim" else diffusers.LCMScheduler
    # both clip x0 to [-1, 1] where the config does not say, which is for pixels and spoils latents
    return made.from_config(config, clip_sample=False)


def _is_deterministic(scheduler: Any) -> bool:
    """Whether a step draws nothing; DDIM at its default eta = 0 and ODE solvers do not."""
    if "sde" in str(scheduler.config.get("algorithm_type", "")):
        return False
    quiet_ones = ("DDIMScheduler", "DPMSolverMultistepScheduler")
    return type(scheduler).__name__ in quiet_ones or "generator" not in inspect.signature(scheduler.step).parameters


def _place(pipe: Any, options: DiffusionOptions, device: "torch.device") -> Any:
    if not options.cpu_offload:
        return pipe.to(device)
    if device.type != "cuda":
        raise ConfigError(f"cpu_offload = true: needs a CUDA GPU and the device is {device.type}; set it to false")
    pipe.enable_model_cpu_offload(device=device)
    return pipe
