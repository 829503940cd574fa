"""One image to be made: what determines it, and nothing else does (not batch, worker, order or restart)."""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from syn2co.core import keyed_rng


@dataclass(frozen=True, slots=True)
class Job:
    """Job of one synthetic image; `id` and `seed` follow from the recipe, the subject and `k`.

    Example:
        >>> job = make_job("recipe hash", "heron", 0, class_name="heron")
        >>> len(job.id), job.group == job.id
        (32, True)
        >>> bool(job.rng("noise").random() == job.rng("noise").random())  # a function of job and purpose
        True
    """

    id: str
    """32 hex digits: blake2b(recipe hash, subject, k)."""
    seed: int
    """0 .. 2**63 - 1, a function of `id`."""
    subject: str
    """The class, caption, real image (its key) or program that the image is of; "" where there is none."""
    k: int
    """Number of the image among those of its subject, from 0."""
    group: str
    """Images of one group are never each other's negatives: see `synthesis.sets.subjects`."""
    class_name: str | None = None
    """Name of the class that the image is of; None where it is of none."""
    prompt: str | None = None
    """Text that a text-to-image model is asked with; None for other generators."""
    source: str | None = None
    """Key of the real image that this one is a variation of (`ImageSet.key`)."""

    def rng(self, *purpose: keyed_rng.Key) -> np.random.Generator:
        """Return a generator that is a function of the job (and the purpose)."""
        return keyed_rng.generator("synthesis", self.id, *purpose)

    def group_rng(self, *purpose: keyed_rng.Key) -> np.random.Generator:
        """Return a generator that all jobs of the group share: the program behind jittered images."""
        return keyed_rng.generator("synthesis group", self.group, *purpose)


def make_job(
    recipe_hash: str,
    subject: str,
    k: int,
    *,
    group: str | None = None,
    class_name: str | None = None,
    prompt: str | None = None,
    source: str | None = None,
) -> Job:
    """Return the job of image `k` of `subject` under a recipe; without a `group` the image is a group of its own."""
    text = "\x1f".join((recipe_hash, subject, str(k)))
    job_id = blake2b(text.encode(), digest_size=16).hexdigest()
    seed = int.from_bytes(blake2b(job_id.encode(), digest_size=8).digest(), "little") >> 1
    return Job(job_id, seed, subject, k, job_id if group is None else group, class_name, prompt, source)
