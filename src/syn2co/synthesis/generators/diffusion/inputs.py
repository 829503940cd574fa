"""Inputs of the pipeline for each job: prompts, source images, class numbers."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

from syn2co.core.errors import ConfigError
from syn2co.core.hints import nearest
from syn2co.images.image_set import ImageSet
from syn2co.images.resize import resize_and_crop
from syn2co.synthesis.sets.job import Job
from syn2co.synthesis.sets.text_lists import SYNSET

Inputs = Callable[[Sequence[Job]], dict[str, Any]]


class VariedImages:
    """The real images that jobs are variations of, by key."""

    def __init__(self, real: ImageSet, resolution: int) -> None:
        self.real = real
        self.resolution = resolution

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {self.real.key(index): index for index in range(len(self.real))}

    def __call__(self, jobs: Sequence[Job]) -> dict[str, Any]:
        return {"image": [self._picture(job) for job in jobs]}

    def _picture(self, job: Job) -> Any:
        """Return the center square of the job's source at the resolution that the model draws at."""
        from PIL import Image

        if job.source is None:
            raise ConfigError(
                f"image {job.id}: has no source image, which this task varies; plan variations of the real images"
            )
        row = self._rows.get(job.source)
        if row is None:
            raise ConfigError(
                f"image {job.id}: its source {job.source} is not among the {len(self.real)} real images; give the "
                "images that the plan was made from"
            )
        return Image.fromarray(resize_and_crop(self.real.read(row), self.resolution, 1.0))


class Prompts:
    """The prompts of jobs, and whether they are cut."""

    def __init__(
        self, tokenizers: Sequence[Any], negative: str | None, *, needed: bool, longest: int | None = None
    ) -> None:
        self.limits = [(one, min(one.model_max_length, longest or one.model_max_length)) for one in tokenizers]
        """Tokenizers with the tokens that the text encoder of each reads, start and end included."""
        self.negative = negative
        self.needed = needed
        if negative is not None and self.is_cut(negative):
            raise ConfigError(
                f"negative_prompt: has more than the {self._longest} tokens that the model reads; shorten it"
            )

    @property
    def _longest(self) -> int:
        return min(limit for _, limit in self.limits)

    def __call__(self, jobs: Sequence[Job]) -> dict[str, Any]:
        prompts = [self.of(job) for job in jobs]
        return {"prompt": prompts} if self.negative is None else {
            "prompt": prompts, "negative_prompt": [self.negative] * len(jobs)
        }  # fmt: skip

    def of(self, job: Job) -> str:
        if job.prompt is None and self.needed:
            advice = (
                "set options.task=image-to-image" if job.source is not None else "plan it with class names or captions"
            )
            raise ConfigError(f"image {job.id}: has no prompt; {advice}")
        return job.prompt or ""

    def is_cut(self, prompt: str) -> bool:
        """Whether a tokenizer gives more tokens, start and end included, than its text encoder reads."""
        return any(len(tokenizer(prompt).input_ids) > limit for tokenizer, limit in self.limits)


def unconditional(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return the number of images, all that a model without conditions is told."""
    return {"batch_size": len(jobs)}


class Labels:
    """The numbers of classes, from the labels that the model was saved with ({0: "tench, Tinca tinca", ..})."""

    def __init__(self, labels: Mapping[Any, str]) -> None:
        if not labels:
            raise ConfigError(
                "model: its model_index.json has no id2label, so class names mean nothing to it; give a DiTPipeline "
                "that was saved with its labels"
            )
        self.names = {int(number): {_plain(label), *map(_plain, label.split(","))} for number, label in labels.items()}

    def __call__(self, jobs: Sequence[Job]) -> dict[str, Any]:
        return {"class_labels": [self.number(job) for job in jobs]}

    def number(self, job: Job) -> int:
        """Return the number of the job's class, by its whole label, one of its names, or its ImageNet synset.

        Raises:
            ConfigError: if the job has no class, or it fits none of the labels or several.
        """
        if job.class_name is None:
            raise ConfigError(f"image {job.id}: has no class, which this model needs; plan it with class names")
        matches = self._find(job.class_name)
        if len(matches) > 1:
            raise ConfigError(
                f"class {job.class_name!r}: the model has {len(matches)} classes of that name (numbers "
                f"{', '.join(map(str, matches))}); give the whole label"
            )
        if not matches:
            hint = nearest(_plain(job.class_name), set().union(*self.names.values()))
            raise ConfigError(f"class {job.class_name!r}: is not among the labels of the model{hint}")
        return matches[0]

    def _find(self, class_name: str) -> list[int]:
        """Return the numbers of a class; a synset has one, though its name may be that of another, such as crane."""
        if SYNSET.fullmatch(class_name) is None:
            return [number for number, names in self.names.items() if _plain(class_name) in names]
        number, names = _imagenet_class(class_name)
        return [number] if names & self.names.get(number, set()) else []


@cache
def _imagenet_class(synset: str) -> tuple[int, set[str]]:
    """Return the number in ImageNet-1k and the names of a synset; -1 and none if it is not in there."""
    info = _imagenet()
    if synset not in info.label_names():
        return -1, set()
    names = info.label_name_to_description(synset).split(",")
    return info.label_names().index(synset), set(map(_plain, names))


@cache
def _imagenet() -> Any:
    from timm.data.imagenet_info import ImageNetInfo

    return ImageNetInfo()


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())
