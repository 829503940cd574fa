"""Opens the diffusion generator: finds and loads the model, and puts the parts together.

Axis letters: B images of a batch, H height, W width in pixels.
"""

import inspect
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from jaxtyping import Float

from syn2co.core.errors import ConfigError
from syn2co.synthesis.generators.diffusion.drawing import Image, Sample, draw
from syn2co.synthesis.generators.diffusion.inputs import Inputs, Labels, Prompts, VariedImages
from syn2co.synthesis.generators.diffusion.model_folder import ModelFolder, files_hash, find_model, is_hub_id
from syn2co.synthesis.generators.diffusion.options import DiffusionOptions, Task, steps_of, too_few_steps
from syn2co.synthesis.generators.diffusion.pipelines import CLASSES, choose_task, load_pipeline, quiet
from syn2co.synthesis.sets.job import Job
from syn2co.synthesis.sets.spec import Context, Generator

BATCH = 8
"""Images at a time, where `work.batch` does not say."""
_PACKAGES = ("torch", "diffusers", "transformers")


def code(options: DiffusionOptions) -> str | None:
    """Return the hash of the files of a model folder, for the recipe's hash; None of a hub id, known by its revision.

    Raises:
        ConfigError: if the model is neither a folder nor a hub id, or the folder is no complete model.
    """
    if is_hub_id(options.model):
        return None
    model = find_model(options.model, revision=options.revision, variant=options.variant, supported=CLASSES)
    return files_hash(model, options.variant)


def open_generator(options: DiffusionOptions, context: Context) -> Generator:
    """Return a generator that draws with a diffusion model; images repeat within 1/255 on one kind of machine.

    Raises:
        ConfigError: if a package, the model or one of its files is missing, or the settings do not fit it.
    """
    _require_packages()
    from syn2co.runtime.device import choose_device

    model = find_model(options.model, revision=options.revision, variant=options.variant, supported=CLASSES)
    task = choose_task(model, options.task)
    if task in ("image-to-image", "image-variation") and context.real is None:
        raise ConfigError(f"task = {task}: varies real images and was given none; give them with --real")
    pipe = load_pipeline(model, task, options, choose_device(context.device))
    resolution = _resolution(pipe, task, options, context.size)
    scheduler = type(pipe.scheduler).__name__
    steps = steps_of(options, scheduler, _parameters(pipe)["num_inference_steps"].default)
    if task == "image-to-image" and int(steps * options.strength) < 1:
        raise ConfigError(too_few_steps(steps, options.strength))
    prompts = _prompts(pipe, options)
    inputs: list[Inputs] = [] if prompts is None else [prompts]
    if task == "class-conditional":
        inputs.append(Labels(model.index.get("id2label") or {}))
    elif context.real is not None and task != "text-to-image":
        inputs.append(VariedImages(context.real, resolution))
    return Generator(
        make=partial(
            draw,
            sample=_sampler(pipe, inputs, _call(pipe, options, steps, resolution)),
            finish=partial(_store, size=context.size),
            notes=partial(_notes, prompts),
            max_attempts=options.max_attempts,
            checker=options.safety if "safety_checker" in model.parts else "none",
        ),
        metadata={
            **_model_metadata(model, options),
            "task": task,
            "guidance": options.guidance,
            "steps": steps,
            "sampler": scheduler,
            "resolution": resolution,
            **({"strength": options.strength} if task == "image-to-image" else {}),
            **({"negative_prompt": options.negative_prompt} if options.negative_prompt is not None else {}),
            "dtype": str(pipe.dtype).removeprefix("torch."),
        },
        exact=False,
        labels_used=task == "class-conditional",
        batch=BATCH,
    )


def _require_packages() -> None:
    try:
        import diffusers  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"generator = diffusion: needs the packages diffusers and transformers ({error}); "
            'run `pip install "syn2co[diffusion]"`'
        ) from None


def _parameters(pipe: Any) -> Any:
    return inspect.signature(pipe.__call__).parameters


def _resolution(pipe: Any, task: Task, options: DiffusionOptions, size: int) -> int:
    """Return the side in pixels that the pipeline draws at.

    Raises:
        ConfigError: if a class-conditional model is to draw at another one, or images are to be stored larger.
    """
    network = pipe.transformer if task == "class-conditional" else pipe.unet
    native = network.config.sample_size * 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    if task == "class-conditional" and options.resolution not in (None, native):
        raise ConfigError(f"resolution = {options.resolution}: this model draws at {native} pixels only; leave it null")
    resolution = options.resolution or native
    if size > resolution:
        raise ConfigError(
            f"size = {size}: must be at most the {resolution} pixels that the model draws at; lower it, or raise "
            "resolution if the model can draw larger"
        )
    return resolution


def _prompts(pipe: Any, options: DiffusionOptions) -> Prompts | None:
    """Return the prompts of a pipeline that reads any, or None."""
    parameters = _parameters(pipe)
    if options.negative_prompt is not None and "negative_prompt" not in parameters:
        raise ConfigError(f"negative_prompt: a {type(pipe).__name__} takes none; leave it null")
    if "prompt" not in parameters:
        return None
    tokenizers = [getattr(pipe, name, None) for name in ("tokenizer", "tokenizer_2")]
    with quiet():
        return Prompts(
            [one for one in tokenizers if one is not None], options.negative_prompt, needed="image" not in parameters
        )


def _call(pipe: Any, options: DiffusionOptions, steps: int, resolution: int) -> dict[str, Any]:
    """Return the arguments that all images share."""
    wanted = {"height": resolution, "width": resolution, "strength": options.strength}
    return {
        "num_inference_steps": steps,
        "guidance_scale": options.guidance,
        "output_type": "np",
        **{name: value for name, value in wanted.items() if name in _parameters(pipe)},
    }


def _sampler(pipe: Any, inputs: Sequence[Inputs], call: dict[str, Any]) -> Sample:
    """Return one call of the pipeline; each image has a generator of its own, on the CPU whatever the device."""
    import torch

    def sample(jobs: Sequence[Job], seeds: Sequence[int]) -> tuple[Float[np.ndarray, "B H W 3"], Sequence[bool]]:
        arguments: dict[str, Any] = dict(call)
        for part in inputs:
            arguments |= part(jobs)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        with quiet():
            made = pipe(generator=generators, **arguments)
        flags = getattr(made, "nsfw_content_detected", None) or [False] * len(jobs)
        return np.asarray(made.images), flags

    return sample


def _store(image: Image, size: int) -> Image:
    from syn2co.images.resize import resize

    return image if image.shape[:2] == (size, size) else resize(image, size, size)


def _notes(prompts: Prompts | None, job: Job) -> dict[str, Any]:
    if prompts is None or job.prompt is None:
        return {}
    with quiet():
        return {"prompt_cut": prompts.is_cut(job.prompt)}


def _model_metadata(model: ModelFolder, options: DiffusionOptions) -> dict[str, Any]:
    return {
        "generator": "diffusion",
        "model": model.name,
        "model_hash": files_hash(model, options.variant),
        "revision": model.revision,
        "license": options.license or model.license,
        "versions": {package: version(package) for package in _PACKAGES},
    }
