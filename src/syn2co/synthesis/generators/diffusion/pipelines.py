"""From a model folder to a pipeline that is ready to draw: which class, which scheduler, which device."""

import contextlib
import inspect
import io
import logging
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syn2co.core.errors import ConfigError
from syn2co.synthesis.generators.diffusion.abilities import LCM, abilities
from syn2co.synthesis.generators.diffusion.model_folder import ModelFolder
from syn2co.synthesis.generators.diffusion.options import FEW_STEP, DiffusionOptions, Task

if TYPE_CHECKING:
    import torch

_NEW_WEIGHTS, _FOREIGN_WEIGHTS = "newly initialized", "unexpected keys"
"""Words of the warnings with which diffusers and transformers pass over tensors."""


def load_pipeline(model: ModelFolder, task: Task, options: DiffusionOptions, device: "torch.device") -> Any:
    """Return the pipeline of a task on the device, with the sampler of the options; no network is used.

    Raises:
        ConfigError: if it cannot be loaded, or the sampler or the LoRA weights do not fit it.
    """
    diffusers = import_module("diffusers")
    name = abilities(model.pipeline, model.name)[task]
    made = getattr(diffusers, name)
    takes = inspect.signature(made.__init__).parameters
    special: dict[str, Any] = {"dtype": _dtype(model, options, device), "local_files_only": True}
    if options.safety == "off" and "safety_checker" in takes:
        special |= {"safety_checker": None, "requires_safety_checker": False}
    if "add_watermarker" in takes:
        special["add_watermarker"] = False  # else pixels would depend on whether a further package is installed
    try:
        with quiet() as said:
            if model.file is None:
                pipe = made.from_pretrained(model.path, variant=options.variant, **special)
            else:
                pipe = made.from_single_file(str(model.file), config=str(model.path), **special)
            _refuse_new_weights(model, said.getvalue())
            if model.lora is not None:
                _merge_lora(pipe, model.lora, options.lora_scale)
            _set_sampler(pipe, options)
            if name == "DiTPipeline":
                _use_null_class(pipe.transformer, guided=options.guidance > 1)
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


def _merge_lora(pipe: Any, lora: Path, scale: float) -> None:
    """Add the LoRA weights to those of the model.

    Raises:
        ConfigError: if the pipeline takes none, the package peft is missing, or they are of another model.
    """
    if not hasattr(pipe, "load_lora_weights"):
        raise ConfigError(f"lora = {lora.name}: a {type(pipe).__name__} takes no LoRA weights; leave it null")
    if find_spec("peft") is None:
        raise ConfigError(f"lora = {lora.name}: needs the package peft; run `pip install peft`")
    try:
        with quiet() as said:
            pipe.load_lora_weights(str(lora.parent), weight_name=lora.name, local_files_only=True)
        if not pipe.get_list_adapters() or _FOREIGN_WEIGHTS in said.getvalue():
            raise ValueError("some or all of its weights are of no layer of the model")
        pipe.fuse_lora(lora_scale=scale)
        pipe.unload_lora_weights()
    except Exception as error:  # peft and diffusers raise whatever a foreign file makes them
        raise ConfigError(
            f"lora = {lora.name}: does not fit a {type(pipe).__name__} ({' '.join(str(error).split())[:200]}); give "
            "LoRA weights of this model"
        ) from None


def _use_null_class(transformer: Any, *, guided: bool) -> None:
    """Let guidance use the null class of a model that has other than 1000 classes; DiTPipeline writes 1000 for it."""
    classes = transformer.config.num_embeds_ada_norm
    if not guided or classes == 1000:
        return

    def with_null_class(_: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        labels = arguments[0].clone()
        labels[len(labels) // 2 :] = classes  # the second half of a guided batch
        return labels, *arguments[1:]

    for block in transformer.transformer_blocks:
        block.norm1.emb.class_embedder.register_forward_pre_hook(with_null_class)


def _dtype(model: ModelFolder, options: DiffusionOptions, device: "torch.device") -> "torch.dtype":
    """Return the precision; text encoders of transformers (T5, Gemma) overflow in float16."""
    import torch

    on_gpu = "bfloat16" if {"transformer", "text_encoder"} <= set(model.parts) else "float16"
    name = (on_gpu if device.type == "cuda" else "float32") if options.dtype == "auto" else options.dtype
    return getattr(torch, name)


def _set_sampler(pipe: Any, options: DiffusionOptions) -> None:
    """Give the pipeline the scheduler of the options, with the noise schedule that the model was trained with."""
    scheduler_name = type(pipe.scheduler).__name__
    exchangeable = _is_exchangeable(pipe.scheduler)
    sampler = options.sampler
    if sampler == "auto":
        sampler = "ddim" if exchangeable and scheduler_name not in FEW_STEP else "model"
    if type(pipe).__name__ in LCM and sampler in ("ddim", "dpm++"):
        raise ConfigError(
            f"sampler = {sampler}: a {type(pipe).__name__} draws in a few steps and needs its own; set sampler to model"
        )
    if sampler != "model" and not exchangeable:
        raise ConfigError(
            f"sampler = {sampler}: the {scheduler_name} of this model has another noise schedule, such as that of flow "
            "matching; set sampler to model"
        )
    if sampler != "model":
        pipe.scheduler = _scheduler(sampler, pipe)
    if type(pipe).__name__ == "DiTPipeline" and not _is_deterministic(pipe.scheduler):
        raise ConfigError(
            f"sampler = {options.sampler}: {type(pipe.scheduler).__name__} draws noise at every step, which a "
            "DiTPipeline takes from no seed; set sampler to ddim or dpm++"
        )


def _is_exchangeable(scheduler: Any) -> bool:
    """Return whether another scheduler can take over the noise schedule: a diffusion model's, not of flow matching."""
    config = scheduler.config
    flows = config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction"
    return not flows and "DDIMScheduler" in {made.__name__ for made in scheduler.compatibles}


def _scheduler(sampler: str, pipe: Any) -> Any:
    diffusers, config = import_module("diffusers"), pipe.scheduler.config
    if sampler == "dpm++":
        return diffusers.DPMSolverMultistepScheduler.from_config(config, algorithm_type="dpmsolver++")
    made = diffusers.DDIMScheduler if sampler == "ddim" else diffusers.LCMScheduler
    # both clip x0 to [-1, 1] where the config does not say, which is for pixels and spoils latents
    return made.from_config(config, **({"clip_sample": False} if hasattr(pipe, "vae") else {}))


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
