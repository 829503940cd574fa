"""Settings of the machine and of the optimizer."""

from typing import Literal

from pydantic import Field

from syn2co.core.settings import BelowOne, NonNegative, Positive, Settings


class OptimizerSettings(Settings):
    """AdamW and its schedules; the three learning rates are for a batch of 512 and scale with the batch."""

    base_lr: Positive = 1e-3
    """Peak learning rate for a batch of 512; the rate used is base_lr x batch / 512."""
    warmup_lr: NonNegative = 5e-7
    """Learning rate at step 0, scaled likewise."""
    final_lr: NonNegative = 5e-6
    """Learning rate at the end of the cosine, scaled likewise."""
    warmup_epochs: NonNegative = 5.0
    """Epochs of linear warm-up."""
    weight_decay: NonNegative = 0.05
    """AdamW's decoupled decay of matrices and kernels; biases and norms have none."""
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)
    """AdamW's moving averages of gradient and squared gradient."""
    eps: Positive = 1e-8
    """AdamW's term against division by zero."""
    clip: Positive | None = 5.0
    """Largest global norm of the gradient."""
    decay_positions: bool = False
    """Decay position embeddings, relative-position tables and class tokens too, as the released code does."""


class MachineSettings(Settings):
    """Settings of the machine, which do not change what the run is; not part of the config's hash."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    workers: int | None = Field(default=None, ge=0)
    """Processes that load images; null chooses."""
    threads: int | None = Field(default=None, gt=0)
    """CPU threads of torch; null leaves torch's choice."""
    emulate_bfloat16: bool = False
    """Compute in bfloat16 on a device that only emulates it, on a CPU up to 15 times slower than float32; otherwise a
    run that asks for bfloat16 computes in float32 there, and keeps that to its end."""
    activation_checkpointing: bool = False
    """Keep no activations within the blocks of the encoder for the backward pass, which computes them again: a large
    encoder takes a fraction of the memory and up to a third more time, and the result is the same bit for bit."""
    cache: Literal["auto", "always", "never"] = "auto"
    """Keep decoded images in memory (auto: if they are small)."""
    save_steps: int | None = Field(default=None, gt=0)
    """Optimizer steps between two checkpoints; null is one per epoch."""
    save_minutes: Positive = 10.0
    """Most minutes between two checkpoints."""
    keep: int = Field(default=2, gt=1)
    """Checkpoints kept."""
    log_steps: int = Field(default=10, gt=0)
    """Optimizer steps between two records of the metrics."""
    tensorboard: bool = True
    """Write the metrics for TensorBoard too."""
