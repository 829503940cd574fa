"""The settings of the diffusion generator, and the steps that follow from them."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from syn2co.core.files import public_path
from syn2co.core.settings import NonNegative, Positive, Settings, Share

Task = Literal["text-to-image", "image-to-image", "image-variation", "class-conditional", "unconditional"]
Sampler = Literal["auto", "ddim", "dpm++", "lcm", "model"]
FEW_STEP = ("LCMScheduler",)
"""Schedulers of models that were distilled to a few steps; any other one gives noise with them."""
_STEPS = {"DDIMScheduler": 50, "DPMSolverMultistepScheduler": 20, "LCMScheduler": 4}


class DiffusionOptions(Settings):
    """Model and sampling; the defaults are for training data, not for beauty."""

    model: str = ""
    """The folder of a diffusers pipeline, the id (owner/name) of one on the Hugging Face hub, then downloaded, or a
    .safetensors file with the weights of a whole pipeline."""
    base: str | None = None
    """Folder or hub id of the pipeline that a .safetensors file takes its configs, tokenizers and the parts that it
    lacks from; null is the hub id that diffusers knows for such a file."""
    lora: str | None = None
    """A .safetensors file of LoRA weights, which are merged into the model; needs the package peft."""
    lora_scale: Positive = 1.0
    """Factor of the LoRA weights."""
    revision: str | None = None
    """Commit, tag or branch of a hub id; of a folder it is only noted."""
    variant: str | None = None
    """Weights that are read where there are several, such as fp16."""
    task: Literal["auto"] | Task = "auto"
    """Task that the model is asked to do; auto follows from its pipeline class."""
    guidance: NonNegative = 2.0
    """Scale of classifier-free guidance; up to 1 switches it off. Turbo models want 0."""
    sampler: Sampler = "auto"
    """auto is ddim, or the model's own if that is LCM or of flow matching; model keeps the model's own in any case."""
    steps: int | None = Field(default=None, gt=0)
    """Denoising steps; null is 50 for ddim, 20 for dpm++, 4 for lcm, else as the pipeline says."""
    resolution: int | None = Field(default=None, ge=8, multiple_of=8)
    """Side in pixels that the model draws at; null is the side it was trained for (512 of Stable Diffusion 1.5)."""
    strength: Annotated[Share, Field(gt=0)] = 0.5
    """Image-to-image: share of the noising that a source image undergoes; 1 leaves nothing of it."""
    negative_prompt: str | None = None
    """Prompt that guidance leads away from, the same for every image."""
    safety: Literal["on", "off"] = "on"
    """Whether the model's safety checker, if it has one, refuses images."""
    max_attempts: int = Field(default=8, gt=0)
    """Seeds tried for an image that is flagged, black or constant; after them it is skipped and listed."""
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
    """auto is float32 on a CPU; on a GPU float16, or bfloat16 of a transformer that reads text."""
    cpu_offload: bool = False
    """Keep only the part of the model that works on the GPU; slower, for little memory."""
    license: str | None = None
    """License of the model; null takes it from the model card, if that says one."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.model:
            raise ValueError("model: is not given; set it to the folder of a diffusers pipeline or to a hub id")
        if self.base is not None and not is_single_file(self.model):
            raise ValueError(f"base = {public_path(self.base)}: is read for a .safetensors file only; leave it null")
        if self.steps is not None and self.task == "image-to-image" and int(self.steps * self.strength) < 1:
            raise ValueError(too_few_steps(self.steps, self.strength))
        if self.negative_prompt is not None and self.guidance <= 1:
            raise ValueError(f"negative_prompt: does nothing at guidance = {self.guidance:g}; raise that above 1")
        return self


def is_single_file(model: str) -> bool:
    """Return whether a model is one file of weights."""
    return model.endswith(".safetensors")


def too_few_steps(steps: int, strength: float) -> str:
    return (
        f"steps = {steps}, strength = {strength:g}: image-to-image takes steps * strength steps, which must be at "
        "least 1; raise one of them"
    )


def steps_of(options: DiffusionOptions, scheduler: str, default: int) -> int:
    """Return the denoising steps with a scheduler class, `default` being the pipeline's own."""
    return options.steps or _STEPS.get(scheduler, default)
