"""From jobs to images of the flow: keyed noise or a noised real image, then Euler steps to the data.

Axis letters: B batch, S side the network works at, H W stored side.
"""

from collections.abc import Sequence
from functools import cached_property

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from syn2co.core.errors import DataError
from syn2co.images.image_set import ImageSet
from syn2co.images.resize import resize_and_crop
from syn2co.synthesis.generators.conditions import Conditions
from syn2co.synthesis.generators.flow.network import Velocity
from syn2co.synthesis.generators.flow.training import to_unit
from syn2co.synthesis.generators.real_images import Square
from syn2co.synthesis.sets.job import Job
from syn2co.synthesis.sets.spec import GeneratedImage


class SourceImages:
    """The real images that variations start from, found by their keys."""

    def __init__(self, real: ImageSet | None, size: int) -> None:
        self.real = real
        self.size = size

    @cached_property
    def _places(self) -> dict[str, int]:
        return {} if self.real is None else {self.real.key(index): index for index in range(len(self.real))}

    def read(self, key: str) -> tuple[Square, str | None]:
        """Return the image as the network sees it and the name of its class, None if it has none.

        Raises:
            DataError: if no real images were given, or none of them has this key.
        """
        if self.real is None:
            raise DataError(
                f"source = {key}: a variation starts from a real image and none were given; name the images with --real"
            )
        if key not in self._places:
            raise DataError(f"source = {key}: is not among the {len(self.real)} real images; give the set it is from")
        index = self._places[key]
        label = int(self.real.labels[index])
        square = resize_and_crop(self.real.read(index), self.size, 1.0)
        return square, None if label < 0 else self.real.classes[label]


class Sampler:
    """Makes the images of jobs with a trained flow; an image depends on its own job alone (to within 1/255)."""

    def __init__(
        self,
        velocity: Velocity,
        conditions: Conditions,
        sources: SourceImages,
        *,
        steps: int,
        guidance: float,
        noise_level: tuple[float, float],
        size: int,
    ) -> None:
        self.velocity = velocity
        self.conditions = conditions
        self.sources = sources
        self.steps = steps
        self.guidance = guidance
        self.noise_level = noise_level
        self.size = size

    def make(self, jobs: Sequence[Job]) -> list[GeneratedImage]:
        """Return one image for each job.

        Raises:
            ConfigError: if a job names a class that the model cannot make.
            DataError: if a job's source is not among the real images.
        """
        if not jobs:
            return []
        x, start, condition, notes = zip(*(self._begin(job) for job in jobs), strict=True)
        device = self.velocity.mean.device
        ended = euler(
            self.velocity,
            torch.stack(x).to(device),
            torch.tensor(start, dtype=torch.float32, device=device),
            torch.tensor(condition, device=device),
            steps=self.steps,
            guidance=self.guidance,
        )
        return [
            GeneratedImage(_stored(image, self.size), note) for image, note in zip(to_pixels(ended), notes, strict=True)
        ]

    def _begin(self, job: Job) -> tuple[Float[Tensor, "3 S S"], float, int, dict[str, object]]:
        """Return where the flow starts, at which time, its condition, and the notes of the manifest."""
        size = self.sources.size
        noise = torch.from_numpy(job.rng("flow", "noise").standard_normal((3, size, size), dtype=np.float32))
        if job.source is None:
            condition = self.conditions.of_job(job)
            return noise, 0.0, condition, self._note(condition)
        square, class_name = self.sources.read(job.source)
        low, high = self.noise_level
        level = low + (high - low) * job.rng("flow", "noise level").random()
        condition = self.conditions.of_image(square, class_name)
        started = (1 - level) * to_unit(square[None])[0] + level * noise
        return started, 1 - level, condition, {**self._note(condition), "noise_level": round(level, 6)}

    def _note(self, condition: int) -> dict[str, object]:
        kind = self.conditions.kind
        return {} if kind == "none" else {self.conditions.note: self.conditions.names[condition]}


@torch.inference_mode()
def euler(
    velocity: Velocity,
    x: Float[Tensor, "B 3 S S"],
    start: Float[Tensor, " B"],
    condition: Int64[Tensor, " B"],
    *,
    steps: int,
    guidance: float,
) -> Float[Tensor, "B 3 S S"]:
    """Return x at time 1 of dx/dt = v(x, t), from each image's own `start`, by `steps` Euler steps of equal length.

    v = v(null) + guidance (v(condition) - v(null)). Source: classifier-free guidance, arXiv:2207.12598, Eq. 6, there
    with w = guidance - 1.
    """
    length = (1 - start) / steps
    null = torch.full_like(condition, velocity.null)
    for step in range(steps):
        t = start + step * length
        v = velocity(x, t, condition)
        if guidance != 1:  # at 1 the unconditional part cancels, and half of the work is saved
            without = velocity(x, t, null)
            v = without + guidance * (v - without)
        x = x + length[:, None, None, None] * v
    return x


def to_pixels(x: Float[Tensor, "B 3 S S"]) -> UInt8[np.ndarray, "B S S 3"]:
    """Return images in -1..1 as uint8; what is beyond is clipped."""
    scaled = ((x + 1) * 127.5).clamp(0, 255).round()
    return scaled.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()


def _stored(image: Square, size: int) -> UInt8[np.ndarray, "H W 3"]:
    """Return the image at the stored size, by a bicubic filter if it must be enlarged."""
    if image.shape[0] == size:
        return np.ascontiguousarray(image)
    if image.shape[0] > size:
        return resize_and_crop(image, size, 1.0)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)
