"""From a plan to shards on disk: what is there stays, what is missing is made, at whatever moment it was killed."""

import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from syn2co.core.errors import SynthesisError
from syn2co.core.files import write_whole
from syn2co.core.paths import weights_path
from syn2co.core.progress import Bar
from syn2co.synthesis.generation.card import write_card
from syn2co.synthesis.generation.cost import CallCost, counted
from syn2co.synthesis.generation.dataset_writer import grow_recipe, record_skipped, save_recipe
from syn2co.synthesis.generation.disk_budget import DiskBudget, bytes_of
from syn2co.synthesis.generation.encode import Result
from syn2co.synthesis.generation.generator_factory import check_license, device_of, open_generator_for
from syn2co.synthesis.generation.locks import lock, make_locks, say_waiting, shard_lock, writing_to
from syn2co.synthesis.generation.plan import open_real, plan_in
from syn2co.synthesis.generation.sharding import parse_shard
from syn2co.synthesis.generation.workers import ProcessPool, SerialPool
from syn2co.synthesis.sets.dataset_folder import CARD, SHEET, SKIPPED, is_done, read_recipe, read_skipped
from syn2co.synthesis.sets.job import Job
from syn2co.synthesis.sets.manifest import mismatch, unseal
from syn2co.synthesis.sets.plan import Plan
from syn2co.synthesis.sets.settings import FEW_SKIPPED, SET, SynthesisSettings
from syn2co.synthesis.sets.shards import EncodedImage, PartialShard, ShardWriter, stem, temporary_of
from syn2co.synthesis.sets.spec import Skipped

if TYPE_CHECKING:
    from syn2co.images.image_set import ImageSet

WAIT_SECONDS = 0.2
PATIENCE_SECONDS = 60.0
"""Wait for other processes' shards that is not yet said."""


@dataclass(frozen=True)
class DatasetInfo:
    """Contents of a data set folder after a call of `generate`.

    Example:
        >>> info = generate(SynthesisSettings(size=16), "leaves", count=4)
        >>> info.planned, info.images, info.shards, info.complete
        (4, 4, 1, True)
    """

    folder: Path
    """The data set folder, `out` of the call."""
    recipe_hash: str
    """32 hex digits of the settings that determine the images."""
    planned: int
    """Images of the whole set."""
    images: int
    """Images stored so far, by all calls."""
    skipped: int
    """Images that cannot be made, listed in skipped.jsonl."""
    shards: int
    """Finished shards, each a .tar and its manifest."""
    made: int
    """Images made by this call."""
    bytes: int
    """Size of the finished shards and their manifests."""
    complete: bool
    """Every image of the plan is stored or skipped."""


def generate(
    settings: SynthesisSettings,
    out: str | Path,
    *,
    count: int | None = None,
    real: "str | Path | Sequence[str | Path] | ImageSet" = (),
    workers: int | None = None,
    shard: str | None = None,
    progress: bool = False,
) -> DatasetInfo:
    """Make the images of `settings` that the folder `out` lacks, and return the folder's contents.

    The same call resumes where one was stopped or killed, and with a larger `count` the set grows. Several calls in one
    folder share the work. Each call that works adds its cost to cost.jsonl.

    Args:
        settings: the set; each image is a function of them, of its subject and of its number.
        out: data set folder, made if needed; a folder of another set is refused.
        count: images of the whole set; None is `work.count`, else the count of the set in the folder, else
            `per_subject` images of each subject.
        real: sources of real images, or an opened set, for generators that learn from them or vary them; `max_real`
            of the settings chooses among them.
        workers: processes that make images; None is `work.workers`, 0 makes them in this process.
        shard: "i/n" makes part i (from 1) of n of the shards, "auto" the part of this rank of torchrun or task of a
            SLURM array; None makes all.

    Returns:
        The contents of the folder after this call.

    Raises:
        ConfigError: if settings contradict each other or the folder, which may hold another set.
        DataError: if a list or real images are missing or unfit.
        SynthesisError: if an image or shard cannot be made or written, or all images are skipped; finished shards stay.
        KeyboardInterrupt, SystemExit: after Ctrl-C or SIGTERM (exit status 143); the images made so far stay.

    Example:
        >>> settings = SynthesisSettings(size=16, options={"program": "leaves"})
        >>> generate(settings, "leaves", count=4).made
        4
        >>> generate(settings, "leaves", count=6).made  # the set grows
        2
    """
    folder = weights_path(out)
    images = open_real(real, settings)
    jobs = plan_in(folder, settings, images, count=count, workers=workers)
    part, parts = parse_shard(shard, dict(os.environ))
    skipped = read_skipped(folder)
    shards = range(part, jobs.shards, parts)
    retried = _retried(jobs, skipped) & set(shards)
    missing = [number for number in shards if number in retried or not is_done(folder, jobs, number, skipped)]
    made = 0
    if missing:
        cost = CallCost(device_of(jobs.recipe), jobs.recipe.settings.work.workers)
        make_locks(folder)  # before hours of training
        with counted(folder, cost):
            _Work(folder, jobs, images, cost, progress).make(missing, retried)
        made = cost.images
    else:
        with writing_to(folder):
            grow_recipe(folder, jobs)
    info = _info(folder, jobs, made)
    if info.complete:
        _finish(folder, info)
    return info


def _retried(jobs: Plan, skipped: Collection[int]) -> set[int]:
    """Return the shards whose skipped images are to be made once more."""
    retry = jobs.recipe.settings.work.retry_skipped
    return {index // jobs.shard_size for index in skipped if index < len(jobs)} if retry else set()


def _finish(folder: Path, info: DatasetInfo) -> None:
    """Write the card and the contact sheet of a complete set, if one of them is missing.

    Raises:
        SynthesisError: if every image was skipped.
    """
    if not info.images:
        raise SynthesisError(
            f"--out {folder.name}: all {info.skipped} images are skipped (see {SKIPPED}), a set needs at least one; "
            "fix the generator, and begin again in a new folder"
        )
    with writing_to(folder), lock(folder, "card"):
        if not ((folder / CARD).exists() and (folder / SHEET).exists()):
            write_card(folder)


class _Work:
    """The making of missing shards: the opened generator, the bar and the space that is left."""

    def __init__(self, folder: Path, jobs: Plan, images: "ImageSet | None", cost: CallCost, progress: bool) -> None:
        self.folder, self.jobs, self.cost, self.progress = folder, jobs, cost, progress
        self.settings = jobs.recipe.settings
        self.factory, self.runner = open_generator_for(folder, jobs.recipe, images, progress=progress)
        cost.opened()
        check_license(self.runner, self.settings.work)
        self._check_classes()
        self.batch = self.settings.work.batch or self.runner.generator.batch
        self.metadata = dict(self.runner.generator.metadata)
        self.begun = False

    def make(self, missing: Sequence[int], retried: Collection[int]) -> None:
        """Make the shards; those that are `retried` are finished, with images that were skipped."""
        self.retried = retried
        with writing_to(self.folder):
            if read_recipe(self.folder) is not None:
                self._begin()
            images = sum(map(self.jobs.shard_length, missing))
            self.space = DiskBudget(self.folder, images)
            workers = self.settings.work.workers
            pool = ProcessPool(self.factory, workers) if workers else SerialPool(self.runner)
            with pool, Bar("generate", images, show=self.progress) as self.bar:
                self.pool, self.started = pool, time.monotonic()
                try:
                    self._make_all(missing)
                finally:
                    self.cost.workers_cpu_seconds = pool.cpu_seconds

    def _check_classes(self) -> None:
        """Refuse classes that the generator does not know, the last of a long list too."""
        check, subjects = self.runner.generator.check, self.jobs.subjects
        if check is not None and subjects.kind == "classes":
            check(self.jobs[: subjects.number])

    def _begin(self) -> None:
        """Save the recipe: with the first image, since a set keeps to the list of subjects that it began with."""
        if self.begun:
            return
        save_recipe(self.folder, self.jobs, dict(self.runner.generator.metadata))
        saved = read_recipe(self.folder)
        assert saved is not None
        self.metadata, self.begun = saved[SET]["facts"], True
        for name in (CARD, SHEET):  # they speak of a whole set; the last shard brings them back
            (self.folder / name).unlink(missing_ok=True)

    def _make_all(self, missing: Sequence[int]) -> None:
        waiting, since = list(missing), time.monotonic()
        while waiting:
            before = len(waiting)
            waiting = [number for number in waiting if not self._shard(number)]
            if len(waiting) < before:
                since = time.monotonic()
            elif waiting and time.monotonic() - since > PATIENCE_SECONDS:
                say_waiting(self.folder, waiting)
                since = float("inf")  # said
            if waiting:
                time.sleep(WAIT_SECONDS)

    def _shard(self, number: int) -> bool:
        """Write one shard unless it is done; False if another process has it in hand."""
        with shard_lock(self.folder, number) as held:
            if not held:
                return False
            if number not in self.retried and is_done(self.folder, self.jobs, number):  # by another process meanwhile
                images = self.jobs.shard_length(number)
                self.space.left -= images
                self.bar.advance(images)
            else:
                self.space.check()
                self._write(number)
            return True

    def _write(self, number: int) -> None:
        tar = self.folder / f"{stem(number)}.tar"
        suffix = self.settings.format
        old = _set_aside(tar)
        leftovers = PartialShard([path for path in (tar, old) if path.exists()], suffix)
        texts: list[str] = []
        skipped: list[tuple[int, Job, str]] = []
        before: int | None = None  # images of other shards that are skipped
        first = number * self.jobs.shard_size
        with ShardWriter(tar, suffix) as writer:
            for index, (job, result) in enumerate(self._results(number, leftovers), first):
                self._begin()
                if isinstance(result, Skipped):
                    skipped.append((index, job, result.reason))
                    before = self._skipped_elsewhere(number) if before is None else before
                    self._check_skipped(number, before, skipped)
                else:
                    writer.add(result)
                    texts.append(result.text + "\n")
                    self.space.add(bytes_of(result.data, result.text))
                self._tell()
            writer.finish()
        old.unlink(missing_ok=True)
        record_skipped(self.folder, self.jobs, number, skipped)
        write_whole(tar.with_suffix(".jsonl"), "".join(texts), alone=True)

    def _results(self, number: int, leftovers: PartialShard) -> Iterator[tuple[Job, Result]]:
        """Yield each job of a shard with its image, from an earlier attempt or made now."""
        jobs = self.jobs.shard(number)
        lacking = [job for job in jobs if self._left(leftovers, job) is None]
        batches = (lacking[start : start + self.batch] for start in range(0, len(lacking), self.batch))
        fresh = (result for results in self.pool.results(batches) for result in results)
        for job in jobs:
            result: Result | None = self._left(leftovers, job)
            if result is None:
                result = next(fresh)
                self.cost.images += 1
            yield job, result

    def _left(self, leftovers: PartialShard, job: Job) -> EncodedImage | None:
        """Return the image of an earlier attempt, unless its line tells of another job or model."""
        stored = leftovers.get(job.id)
        return None if stored is None or mismatch(unseal(stored.text), job, self.metadata) else stored

    def _skipped_elsewhere(self, number: int) -> int:
        """Return how many images of other shards are skipped."""
        return sum(index // self.jobs.shard_size != number for index in read_skipped(self.folder))

    def _check_skipped(self, number: int, before: int, skipped: list[tuple[int, Job, str]]) -> None:
        """Refuse to make more if too many images cannot be made; they are listed all the same."""
        share = self.settings.work.max_skipped_share
        total = before + len(skipped)
        if total > (max(share * len(self.jobs), FEW_SKIPPED) if share else 0):
            record_skipped(self.folder, self.jobs, number, skipped)
            _, job, reason = skipped[-1]
            raise SynthesisError(
                f"{total} of {len(self.jobs)} images cannot be made, more than work.max_skipped_share = {share:g} "
                f"allows (job {job.id}: {reason}; all in {SKIPPED}); fix the generator, or allow a larger share"
            )

    def _tell(self) -> None:
        """Show progress."""
        rate = self.cost.images / max(1e-9, time.monotonic() - self.started)
        self.bar.advance(1, f"{rate:.1f} img/s  {self.space.expected} in all")


def _set_aside(tar: Path) -> Path:
    """Keep the torn file of an earlier attempt for its images, the larger one of two; return where it lies."""
    torn, old = temporary_of(tar), tar.with_name(f".{tar.name}.old")
    if torn.exists() and not (old.exists() and old.stat().st_size > torn.stat().st_size):
        os.replace(torn, old)
    return old


def _info(folder: Path, jobs: Plan, made: int) -> DatasetInfo:
    tars = [folder / f"{stem(number)}.tar" for number in range(jobs.shards)]
    pairs = [(tar, tar.with_suffix(".jsonl")) for tar in tars if tar.exists() and tar.with_suffix(".jsonl").exists()]
    images, skipped = sum(manifest.read_bytes().count(b"\n") for _, manifest in pairs), len(read_skipped(folder))
    return DatasetInfo(
        folder=folder,
        recipe_hash=jobs.recipe_hash,
        planned=len(jobs),
        images=images,
        skipped=skipped,
        shards=len(pairs),
        made=made,
        bytes=sum(path.stat().st_size for pair in pairs for path in pair),
        complete=len(pairs) == len(tars) and images + skipped == len(jobs),
    )
