"""From jobs to stored images: make, check, hash, encode. The same in one process and in many.

Axis letters: S side in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from syn2co.core.errors import SynthesisError
from syn2co.images.perceptual_hash import phash
from syn2co.synthesis.sets.job import Job
from syn2co.synthesis.sets.manifest import make_line, seal
from syn2co.synthesis.sets.settings import SynthesisSettings
from syn2co.synthesis.sets.shards import EncodedImage
from syn2co.synthesis.sets.spec import GeneratedImage, Generator, Skipped

Result = EncodedImage | Skipped
_PARAMETERS = {"png": cv2.IMWRITE_PNG_COMPRESSION, "jpg": cv2.IMWRITE_JPEG_QUALITY, "webp": cv2.IMWRITE_WEBP_QUALITY}
_PNG_COMPRESSION = 6


@dataclass(frozen=True)
class JobRunner:
    """Makes images and turns them into what is stored."""

    generator: Generator
    name: str
    settings: SynthesisSettings

    def __call__(self, jobs: Sequence[Job]) -> list[Result]:
        """Return an image or the reason for its lack for each job, in order.

        Raises:
            SynthesisError: naming the job, if the generator raises or returns something else than uint8 images.
        """
        return [self._store(job, image) for job, image in zip(jobs, self.make(jobs), strict=True)]

    def make(self, jobs: Sequence[Job]) -> list[GeneratedImage | Skipped]:
        """Return what the generator makes of each job, checked."""
        try:
            images = list(self.generator.make(jobs))
        except (Exception, SystemExit) as error:
            raise SynthesisError(self._raised(jobs, error)) from error
        if len(images) != len(jobs):
            raise SynthesisError(
                f"generator {self.name}: returned {len(images)} images for {len(jobs)} jobs (the first is job "
                f"{jobs[0].id}); it must return one for each"
            )
        return [self._checked(job, image) for job, image in zip(jobs, images, strict=True)]

    def _raised(self, jobs: Sequence[Job], error: BaseException) -> str:
        """Return the sentence for a call that failed, with the first job that fails alone."""
        for job in jobs if len(jobs) > 1 else ():
            try:
                self.generator.make([job])
            except (Exception, SystemExit) as job_error:
                return f"generator {self.name}: job {job.id}{_of(job)} failed ({_words(job_error)})"
        if len(jobs) == 1:
            return f"generator {self.name}: job {jobs[0].id}{_of(jobs[0])} failed ({_words(error)})"
        return (
            f"generator {self.name}: {len(jobs)} jobs from {jobs[0].id} on failed together and not alone "
            f"({_words(error)}); lower work.batch"
        )

    def _checked(self, job: Job, output: Any) -> GeneratedImage | Skipped:
        if isinstance(output, Skipped):
            return output
        made = output if isinstance(output, GeneratedImage) else GeneratedImage(output)
        complaint = _complaint(made.image, self.settings.size)
        if complaint:
            raise SynthesisError(f"generator {self.name}: job {job.id}{_of(job)}: {complaint}")
        if made.image.min() == made.image.max():
            kind = "black" if not made.image.max() else f"constant (all {int(made.image.max())})"
            return Skipped(f"the image is {kind}")
        return made

    def _store(self, job: Job, made: GeneratedImage | Skipped) -> Result:
        if isinstance(made, Skipped):
            return made
        data = encode(made.image, self.settings.format, self.settings.quality)
        size = [made.image.shape[0], made.image.shape[1]]
        metadata = {"size": size, "sha256": sha256(data).hexdigest(), "phash": phash(made.image)}
        line = make_line(job, self.generator, metadata, made.notes)
        try:
            return EncodedImage(job.id, seal(line), data)
        except (TypeError, ValueError) as error:
            raise SynthesisError(
                f"generator {self.name}: job {job.id}: a note or fact cannot be written as JSON ({error}); fix that"
            ) from None


def encode(image: UInt8[np.ndarray, "S S 3"], kind: str, quality: int) -> bytes:
    """Return the image as a file; the same bytes for the same pixels under one version of OpenCV."""
    parameter = _PNG_COMPRESSION if kind == "png" else quality
    done, data = cv2.imencode(f".{kind}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [_PARAMETERS[kind], parameter])
    assert done
    return data.tobytes()


def _complaint(image: Any, size: int) -> str | None:
    """Return what is wrong with what a generator returned as an image, or None."""
    if not isinstance(image, np.ndarray):
        return f"the image is a {type(image).__name__}; return a NumPy array of uint8, [{size}, {size}, 3]"
    if image.dtype != np.uint8:
        nan = image.dtype.kind == "f" and np.isnan(image).any()
        return f"the image is {image.dtype}{' with NaN' if nan else ''}; return uint8 values from 0 to 255"
    if image.shape != (size, size, 3):
        return f"the image has the shape {list(image.shape)}; it must be [{size}, {size}, 3], height, width, RGB"
    return None


def _words(error: BaseException) -> str:
    """Return the kind and text of an exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _of(job: Job) -> str:
    """Return what the job is of, if that is short."""
    return f" ({job.subject})" if 0 < len(job.subject) <= 60 else ""
