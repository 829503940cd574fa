"""Mixing of real and synthetic images: the image of a slot is a function of (seed, epoch, slot) alone.

An epoch has E slots. A slot holds a sample id: the index of an image in the set and how often it came before in the
same epoch, in one integer. The first time, this is the index itself; later times are other integers, so whatever is
keyed by the sample id (views, drop path, replacement) differs.

Axis letters: E slots of an epoch, N images of the set (the real ones first), n sample ids.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Int64

from syn2co.core import keyed_rng
from syn2co.core.errors import ConfigError, DataError
from syn2co.data.settings import SHARES, MixSchedule, MixSettings

if TYPE_CHECKING:
    from syn2co.images.image_set import ImageSet

Mode = Literal["real", "synthetic", "union", "ratio", "replace", "then"]
_INDEX_BITS = 40  # of 63: up to 2^40 images, each up to 2^23 times in an epoch
_NONE = np.empty(0, np.int64)


def image_index(sample_ids: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return the index in the set of the image of each sample id."""
    return sample_ids & ((1 << _INDEX_BITS) - 1)


def switch_epoch(share: float, *, total_steps: int, steps_per_epoch: int) -> int:
    """Return the epoch whose beginning is nearest to the end of this share of the steps.

    Raises:
        ConfigError: if less than one epoch is left on either side of it.
    """
    epoch = round(share * total_steps / steps_per_epoch)
    if epoch < 1 or total_steps - epoch * steps_per_epoch < steps_per_epoch:
        raise ConfigError(
            f"mix.then = {share:g}: leaves less than one epoch of {steps_per_epoch} steps for the synthetic or the "
            f"real images of {total_steps} steps; shorten mix.epoch_images or train longer"
        )
    return epoch


@dataclass(frozen=True)
class Variations:
    """The variations of each real image: those of image i are `images[starts[i]:starts[i + 1]]`."""

    images: Int64[np.ndarray, " V"]
    starts: Int64[np.ndarray, " N+1"]

    def pick(self, index: Int64[np.ndarray, " n"], uniform: np.ndarray) -> Int64[np.ndarray, " n"]:
        """Return one variation of each image, all of its variations equally likely."""
        first, count = self.starts[index], self.starts[index + 1] - self.starts[index]
        return self.images[first + np.minimum((uniform * count).astype(np.int64), count - 1)]


@dataclass(frozen=True, eq=False)
class Mixer:
    """The images of each epoch; `real` and `synthetic` are the indices that may be drawn, `boundary` the first that
    counts as synthetic."""

    mode: Mode
    seed: int
    boundary: int
    real: Int64[np.ndarray, " R"]
    synthetic: Int64[np.ndarray, " S"]
    length: int
    """E, slots of an epoch."""
    share: MixSchedule | None = None
    """Share of synthetic slots (ratio, then), or probability that a view is replaced (replace)."""
    view: Literal["first", "second", "random", "both"] = "second"
    variations: Variations | None = None
    unused: int = field(default=0)
    """Synthetic images that are a variation of no image that may be drawn (replace)."""

    @classmethod
    def plain(cls, images: int, seed: int) -> "Mixer":
        """Return the mixer of `images` real images: every epoch is a keyed permutation of them."""
        return cls("real", seed, images, np.arange(images), _NONE, images)

    @property
    def mixes(self) -> bool:
        """Whether any synthetic image may be drawn."""
        return len(self.synthetic) > 0

    @property
    def switch_epoch(self) -> int | None:
        """First epoch of real images in a run that begins with synthetic ones; None in every other mode."""
        return self.share.epochs if self.mode == "then" and self.share is not None else None

    def switching(self, share: float, *, total_steps: int, steps_per_epoch: int) -> "Mixer":
        """Return the mixer whose epochs are synthetic for this share of the steps and real afterwards.

        Raises:
            ConfigError: if less than one epoch is left on either side of the nearest end of an epoch.
        """
        epoch = switch_epoch(share, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        return replace(self, share=MixSchedule(kind="step", start=1, stop=0, epochs=epoch))

    def order(self, epoch: int) -> Int64[np.ndarray, " E"]:
        """Return the sample ids of an epoch in their order.

        Images come from endless streams of keyed permutations, so that each has come k or k + 1 times at any moment.
        """
        if self.mode in ("ratio", "then"):
            picked = self._ratio_slots(epoch)
        else:
            pool = self.real if self.mode == "replace" else np.concatenate([self.real, self.synthetic])
            picked = pool[_stream(len(pool), epoch * self.length, self.length, "epoch order", self.seed)]
        return _with_occurrence(picked)

    def _ratio_slots(self, epoch: int) -> Int64[np.ndarray, " E"]:
        # Both streams continue where the epochs before left them; counted anew, so that a restart needs no state.
        before = sum(self.synthetic_slots(earlier) for earlier in range(epoch))
        count = self.synthetic_slots(epoch)
        sides = (
            (self.real, "real order", epoch * self.length - before, self.length - count),
            (self.synthetic, "synthetic order", before, count),
        )
        picked = [pool[_stream(len(pool), start, slots, name, self.seed)] for pool, name, start, slots in sides]
        return np.concatenate(picked)[keyed_rng.permutation(self.length, "mixed order", self.seed, epoch)]

    def synthetic_slots(self, epoch: int) -> int:
        """Return round(r E) with r the ratio in `epoch`."""
        assert self.share is not None
        return round(self.share.at(epoch) * self.length)

    def view_images(self, epoch: int, sample_ids: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, "2 n"]:
        """Return the index of the image that each view of each sample is taken from."""
        index = image_index(sample_ids)
        if self.variations is None or self.share is None:
            return np.stack([index, index])
        start = np.full(len(sample_ids), np.uint64(keyed_rng.key64("replace", self.seed, epoch)))
        hashed = keyed_rng.fold(start, sample_ids.astype(np.uint64))
        # Four uniforms per sample: replace or not, which view (random), and a variation for each of the two views.
        whether, which, *picks = keyed_rng.uniforms(
            keyed_rng.fold(hashed[None], np.arange(4, dtype=np.uint64)[:, None])
        )
        replaced = whether < self.share.at(epoch)
        both = {"first": (True, False), "second": (False, True), "both": (True, True)}
        chosen = (which < 0.5, which >= 0.5) if self.view == "random" else both[self.view]
        return np.stack(
            [
                np.where(replaced & here, self.variations.pick(index, pick), index)
                for here, pick in zip(chosen, picks, strict=True)
            ]
        )


def _stream(images: int, start: int, count: int, *key: keyed_rng.Key) -> Int64[np.ndarray, " count"]:
    """Return `count` places from `start` on in an endless stream of permutations of range(images)."""
    if not count:
        return _NONE
    first, last = start // images, (start + count - 1) // images
    blocks = [keyed_rng.permutation(images, *key, block) for block in range(first, last + 1)]
    return np.concatenate(blocks)[start - first * images :][:count]


def _with_occurrence(picked: Int64[np.ndarray, " E"]) -> Int64[np.ndarray, " E"]:
    """Return the sample ids of indices in order; the upper bits count how often the index came before."""
    if np.bincount(picked).max() < 2:
        return picked
    by_index = np.argsort(picked, kind="stable")
    grouped = picked[by_index]
    places = np.arange(len(picked))
    fresh = np.append(True, grouped[1:] != grouped[:-1])
    occurrence = np.empty_like(picked)
    occurrence[by_index] = places - np.maximum.accumulate(np.where(fresh, places, 0))
    return picked + (occurrence << _INDEX_BITS)


def choose_mode(mix: MixSettings, *, real: bool, synthetic: bool) -> Mode:
    """Return how epochs are made, given which kinds of source there are.

    Raises:
        ConfigError: if a setting needs a kind of image that is not there, or that the mode does not draw.
    """
    by_sources: dict[tuple[bool, bool], Mode] = {(True, False): "real", (False, True): "synthetic"}
    wanted: Mode = by_sources.get((real, synthetic), "union") if mix.mode == "auto" else mix.mode
    if mix.mode == "auto":
        for name in SHARES:
            wanted = wanted if getattr(mix, name) is None else name
    setting, other = ("mix.mode = " + wanted, "set mix.mode to auto")
    if wanted in SHARES:
        setting, other = f"mix.{wanted}", f"set mix.{wanted} to null"
    if wanted != "real" and not synthetic:
        raise ConfigError(f"{setting}: needs synthetic images; name their sources with --synthetic, or {other}")
    if wanted != "synthetic" and not real:
        raise ConfigError(f"{setting}: needs real images; name their sources with --real, or {other}")
    for name, value, left_out in (
        ("max_real", mix.max_real, "synthetic"),
        ("max_synthetic", mix.max_synthetic, "real"),
    ):
        if value is not None and wanted == left_out:
            raise ConfigError(
                f"mix.{name} = {value}: means nothing where only {left_out} images are drawn; set it to null"
            )
    return wanted


def epoch_sides(mode: Mode) -> tuple[Literal["real", "synthetic"], ...]:
    """Return the kinds of images whose number an epoch has by default: both in a union, else the ones it begins from.

    Example:
        >>> epoch_sides("union"), epoch_sides("ratio"), epoch_sides("synthetic")
        (('real', 'synthetic'), ('real',), ('synthetic',))
    """
    return ("real", "synthetic") if mode == "union" else ("synthetic",) if mode == "synthetic" else ("real",)


def make_mixer(images: "ImageSet", boundary: int, mix: MixSettings, mode: Mode, *, seed: int, batch: int) -> Mixer:
    """Return the mixer of a set whose first `boundary` images are real and whose others are synthetic.

    Where an epoch is not one pass over all of its images, its length is cut to whole batches, so that every slot is
    used and the drawn ratio is the wanted one. A mixer of the mode "then" is complete after `switching`.

    Raises:
        ConfigError: if more distinct images are wanted than there are.
        DataError: if, to replace views, a real image has no variation.
    """
    real = subset_rows(np.arange(boundary), mix.max_real, "mix.max_real", seed)
    synthetic = subset_rows(np.arange(boundary, len(images)), mix.max_synthetic, "mix.max_synthetic", seed)
    for name, pool, needed in (("real", real, mode != "synthetic"), ("synthetic", synthetic, mode != "real")):
        if needed and not len(pool):
            raise DataError(f"data.{name}: none of its images can be read; fix them or give other sources")
    variations, unused = None, 0
    if mode == "replace":
        variations = _find_variations(images, real, synthetic)
        unused = len(synthetic) - len(variations.images)
        synthetic = variations.images
    whole = {"synthetic": len(synthetic), "union": len(real) + len(synthetic)}.get(mode, len(real))
    length = mix.epoch_images or whole
    if mode in ("ratio", "then") or length != whole:  # a last batch that is cut off would change the drawn ratio
        length = length // batch * batch or length
    share = {"ratio": mix.ratio, "replace": mix.replace}.get(mode)
    return Mixer(mode, seed, boundary, real, synthetic, length, share, mix.view, variations, unused)


def subset_rows(pool: Int64[np.ndarray, " n"], most: int | None, setting: str, seed: int) -> Int64[np.ndarray, " m"]:
    """Return `most` of the indices, chosen by the seed, in order; all of them for None.

    Subsets are nested: at one seed the smaller is part of the larger.

    Args:
        pool: indices of the images that may be chosen.
        most: number of those that are.
        setting: name in the error, such as "mix.max_real"; its last part is a part of the key of the draw.
        seed: of the run or of the set.

    Raises:
        ConfigError: if there are fewer.

    Example:
        >>> [subset_rows(np.arange(6), most, "mix.max_real", 0).tolist() for most in (3, 2)]
        [[1, 2, 5], [1, 2]]
    """
    if most is None:
        return pool
    if most > len(pool):
        raise ConfigError(f"{setting} = {most}: there are only {len(pool)} such images; lower it or set it to null")
    return np.sort(pool[keyed_rng.permutation(len(pool), setting.rpartition(".")[2], seed)[:most]])


def _find_variations(
    images: "ImageSet", real: Int64[np.ndarray, " R"], synthetic: Int64[np.ndarray, " S"]
) -> Variations:
    """Return the variations of each of `real` among `synthetic`: the images of its group."""
    owners = real[np.argsort(images.groups[real], kind="stable")]
    slots = np.searchsorted(images.groups[owners], images.groups[synthetic])
    owned = slots < len(owners)
    owned[owned] = images.groups[owners[slots[owned]]] == images.groups[synthetic[owned]]
    owner = owners[slots[owned]]
    counts = np.bincount(owner, minlength=len(images))
    missing = real[counts[real] == 0]
    if len(missing):
        names = ", ".join(images.name(int(index)) for index in missing[:3])
        raise DataError(
            f"mix.replace: {len(missing)} of {len(real)} real images have no variation in data.synthetic "
            f"({names}{', ...' if len(missing) > 3 else ''}); generate the missing ones, or train on fewer real images"
        )
    return Variations(synthetic[owned][np.argsort(owner, kind="stable")], np.concatenate([[0], np.cumsum(counts)]))
