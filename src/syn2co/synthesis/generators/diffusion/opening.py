"""Opens the diffusion generator: finds and loads the model, and puts the parts together.

Axis letters: B images of a batch, H height, W width in pixels.
"""

import inspect
import re
from collections.abc import Collection, Sequence
from functools import partial
from importlib.metadata import version
from multiprocessing import parent_process
from typing import Any

import numpy as np
from jaxtyping import Float

from syn2co.core.errors import ConfigError
from syn2co.core.progress import note
from syn2co.synthesis.generators.diffusion.abilities import VARYING, abilities, choose_task
from syn2co.synthesis.generators.diffusion.drawing import Image, Sample, draw
from syn2co.synthesis.generators.diffusion.inputs import Inputs, Labels, Prompts, VariedImages, unconditional
from syn2co.synthesis.generators.diffusion.model_folder import (
    ModelFolder,
    files_hash,
    find_model,
    hash_of,
    is_hub_id,
    own_files,
)
from syn2co.synthesis.generators.diffusion.options import DiffusionOptions, Task, steps_of, too_few_steps
from syn2co.synthesis.generators.diffusion.pipelines import load_pipeline, quiet
from syn2co.synthesis.sets.job import Job
from syn2co.synthesis.sets.spec import Context, Generator
from syn2co.synthesis.sets.text_lists import digest_of

BATCH = 8
"""Images at a time, where `work.batch` does not say."""
_PACKAGES = ("torch", "diffusers", "transformers")
_FEW_STEP_NAME = re.compile(r"turbo|lightning|schnell|hyper-?sd|lcm|tcd|distill|sprint|\b\d-?steps?", re.IGNORECASE)
_MOST_FEW_STEPS, _MOST_FEW_GUIDANCE = 8, 1.0


def code(options: DiffusionOptions) -> str | None:
    """Return the hash of the files of a model, for the recipe's hash; None of a hub id, known by its revision.

    Raises:
        ConfigError: if the model is neither a folder nor a hub id nor a file, or it is incomplete.
    """
    files = own_files(options)
    where = options.base if "file" in files else options.model
    if where is not None and not is_hub_id(where):
        return files_hash(find_model(options), options.variant)
    if not files:
        return None
    return digest_of([where or "", options.revision or "", hash_of(list(files.items()))])


def check_subjects(options: DiffusionOptions, subjects: Collection[str]) -> None:
    """Refuse subjects that the model cannot draw, as far as they are known before it is loaded.

    Args:
        options: of the generator.
        subjects: those of classes, captions and vary that are given.

    Raises:
        ConfigError: naming the setting to change.
    """
    task, able = options.task, {}
    if not is_hub_id(options.model) and not own_files(options).get("file"):
        model = find_model(options)
        task, able = choose_task(model.pipeline, task, model.name), abilities(model.pipeline, model.name)
    if task == "unconditional" and subjects:
        raise ConfigError(
            f"{min(subjects)}: the model draws nothing in particular; give none, and the number by --count"
        )
    if task != "unconditional" and not subjects:
        raise ConfigError(
            "classes: the diffusion generator must be told what to show and no class names were given; "
            "give classes, captions, or vary = true with real images; options.task=unconditional is for a model that "
            "needs none"
        )
    if "vary" in subjects and able and task not in VARYING:
        other = "set options.task=image-to-image" if "image-to-image" in able else "give a model that varies images"
        raise ConfigError(f"vary = true: the task of this model is {task}, which reads no images; {other}")
    if task in VARYING and "vary" not in subjects:
        raise ConfigError(f"task = {task}: varies real images; give vary = true with real images")
    if task == "class-conditional" and "classes" not in subjects:
        raise ConfigError("task = class-conditional: draws by class; give classes")


def open_generator(options: DiffusionOptions, context: Context) -> Generator:
    """Return a generator that draws with a diffusion model; images repeat within 1/255 on one kind of machine.

    Raises:
        ConfigError: if a package, the model or one of its files is missing, or the settings do not fit it.
    """
    _require_packages()
    from syn2co.runtime.device import choose_device

    model = find_model(options)
    task = choose_task(model.pipeline, options.task, model.name)
    if task in VARYING and context.real is None:
        raise ConfigError(f"task = {task}: varies real images and was given none; give them with --real")
    pipe = load_pipeline(model, task, options, choose_device(context.device))
    resolution = _resolution(pipe, task, options, context.size)
    steps = steps_of(options, type(pipe.scheduler).__name__, _parameters(pipe)["num_inference_steps"].default)
    if task == "image-to-image" and int(steps * options.strength) < 1:
        raise ConfigError(too_few_steps(steps, options.strength))
    prompts = _prompts(pipe, options)
    labels = Labels(model.index.get("id2label") or {}) if task == "class-conditional" else None
    inputs: list[Inputs] = [part for part in (prompts, labels) if part is not None]
    if task == "unconditional":
        inputs.append(unconditional)
    elif context.real is not None and task in VARYING:
        inputs.append(VariedImages(context.real, resolution))
    _note_few_steps(model, options, steps, guided=_takes(pipe, "guidance_scale"))
    has_checker = "safety_checker" in model.parts and model.file is None
    return Generator(
        make=partial(
            draw,
            sample=_sampler(pipe, inputs, _call(pipe, options, steps, resolution), resolution),
            finish=partial(_store, size=context.size),
            notes=partial(_notes, prompts),
            max_attempts=options.max_attempts,
            checker=options.safety if has_checker else "none",
        ),
        metadata={**_model_metadata(model, options), **_sampling_metadata(pipe, options, task, steps, resolution)},
        exact=False,
        labels_used=task == "class-conditional",
        batch=BATCH,
        check=None if labels is None else labels,
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


def _takes(pipe: Any, name: str) -> bool:
    return name in _parameters(pipe)


def _note_few_steps(model: ModelFolder, options: DiffusionOptions, steps: int, *, guided: bool) -> None:
    """Say once if a model that was distilled to a few steps is drawn with settings of one that was not."""
    name = f"{model.name} {'' if model.lora is None else model.lora.name}".strip()
    distilled = _FEW_STEP_NAME.search(f"{name} {model.pipeline}") is not None
    fits = steps <= _MOST_FEW_STEPS and (options.guidance <= _MOST_FEW_GUIDANCE or not guided)
    if distilled and not fits and parent_process() is None and "LatentConsistency" not in model.pipeline:
        note(
            f"model = {name}: was distilled to a few steps by its name, and draws here with guidance = "
            f"{options.guidance:g} in {steps} steps; its card names the settings, often options.sampler=model "
            "options.steps=4 options.guidance=0"
        )


def _resolution(pipe: Any, task: Task, options: DiffusionOptions, size: int) -> int:
    """Return the side in pixels that the pipeline draws at.

    Raises:
        ConfigError: if it is not known, the model draws at one side only and this is another, or images are to be
            stored larger.
    """
    native = _native_side(pipe)
    fixed = not (_takes(pipe, "height") or _takes(pipe, "image"))
    if fixed and options.resolution not in (None, native):
        raise ConfigError(f"resolution = {options.resolution}: this model draws at {native} pixels only; leave it null")
    resolution = options.resolution or native
    if resolution is None:
        raise ConfigError("resolution: the model does not say the side that it draws at; set it, such as to 1024")
    if size > resolution:
        raise ConfigError(
            f"size = {size}: must be at most the {resolution} pixels that the model draws at; lower it, or raise "
            "resolution if the model can draw larger"
        )
    return resolution


def _native_side(pipe: Any) -> int | None:
    """Return the side in pixels that a model was trained for, None if it does not say."""
    network = getattr(pipe, "unet", None) or pipe.transformer
    side = network.config.get("sample_size") or getattr(pipe, "default_sample_size", None)
    if side is None:
        return None
    if not hasattr(pipe, "vae"):  # the model draws pixels
        return int(np.max(side))
    factor = getattr(pipe, "vae_scale_factor", None) or 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    return int(np.max(side)) * factor


def _prompts(pipe: Any, options: DiffusionOptions) -> Prompts | None:
    """Return the prompts of a pipeline that reads any, or None."""
    from transformers import PreTrainedTokenizerBase

    parameters = _parameters(pipe)
    if options.negative_prompt is not None and "negative_prompt" not in parameters:
        raise ConfigError(f"negative_prompt: a {type(pipe).__name__} takes none; leave it null")
    if "prompt" not in parameters:
        return None
    longest = parameters["max_sequence_length"].default if "max_sequence_length" in parameters else None
    tokenizers = [part for part in pipe.components.values() if isinstance(part, PreTrainedTokenizerBase)]
    with quiet():
        return Prompts(tokenizers, options.negative_prompt, needed="image" not in parameters, longest=longest)


def _call(pipe: Any, options: DiffusionOptions, steps: int, resolution: int) -> dict[str, Any]:
    """Return the arguments that all images share, as far as the pipeline takes them."""
    wanted = {
        "height": resolution,
        "width": resolution,
        "strength": options.strength,
        "guidance_scale": options.guidance,
        "use_resolution_binning": False,  # else it draws at a side of its list and resizes
        "clean_caption": False,  # needs two further packages, on which images would depend
    }
    if options.negative_prompt is not None:
        wanted["true_cfg_scale"] = options.guidance  # of Flux and Qwen, whose guidance_scale reads no negative prompt
    return {
        "num_inference_steps": steps,
        "output_type": "np",
        **{name: value for name, value in wanted.items() if _takes(pipe, name)},
    }


def _sampler(pipe: Any, inputs: Sequence[Inputs], call: dict[str, Any], resolution: int) -> Sample:
    """Return one call of the pipeline; each image has a generator of its own, on the CPU whatever the device."""
    import torch

    def sample(jobs: Sequence[Job], seeds: Sequence[int]) -> tuple[Float[np.ndarray, "B H W 3"], Sequence[bool]]:
        arguments: dict[str, Any] = dict(call)
        for part in inputs:
            arguments |= part(jobs)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        with quiet():
            made = pipe(generator=generators, **arguments)
        flags = getattr(made, "nsfw_content_detected", None) or getattr(made, "nsfw_detected", None)
        return _pictures(made.images, len(jobs), resolution), flags or [False] * len(jobs)

    return sample


def _pictures(images: Any, count: int, resolution: int) -> Float[np.ndarray, "B H W 3"]:
    """Return the pictures of a call in RGB.

    Raises:
        ConfigError: if they are not one for each job, at the resolution that was asked for.
    """
    pictures = np.asarray(images)
    if pictures.shape[:3] != (count, resolution, resolution):
        raise ConfigError(
            f"resolution = {resolution}: the model drew pictures of shape {list(pictures.shape[1:])}; set a "
            "multiple of 16 or 32 that it draws at"
        )
    return pictures if pictures.shape[3] == 3 else np.repeat(pictures[..., :1], 3, axis=3)


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
        **({} if model.lora is None else {"lora": model.lora.name, "lora_scale": options.lora_scale}),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def _sampling_metadata(pipe: Any, options: DiffusionOptions, task: Task, steps: int, resolution: int) -> dict[str, Any]:
    return {
        "task": task,
        "guidance": options.guidance if _takes(pipe, "guidance_scale") else None,
        "steps": steps,
        "sampler": type(pipe.scheduler).__name__,
        "resolution": resolution,
        **({"strength": options.strength} if task == "image-to-image" else {}),
        **({"negative_prompt": options.negative_prompt} if options.negative_prompt is not None else {}),
        "dtype": str(pipe.dtype).removeprefix("torch."),
    }
