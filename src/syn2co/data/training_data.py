"""Training data of a run: the real and the synthetic sources opened as one set, and which image comes when."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from syn2co.core.errors import ConfigError
from syn2co.data.codec import Codec, differences
from syn2co.data.mixing import Mixer, choose_mode, make_mixer
from syn2co.data.on_the_fly import with_size
from syn2co.data.open import CacheMode, open_images
from syn2co.data.settings import DataSettings, MixSettings
from syn2co.data.stored_set import StoredSetSource
from syn2co.images.image_set import ImageSet
from syn2co.images.source import SyntheticSource
from syn2co.synthesis.sets.dataset_folder import read_seconds


@dataclass(frozen=True)
class TrainingData:
    """Training data of a run: the opened sources, the order of images in each epoch, and the codec they share."""

    images: ImageSet
    mixer: Mixer
    codec: Codec
    metadata: dict[str, Any]
    """Facts of the synthetic images for reports; empty where none are drawn."""
    notes: list[str]
    """Sentences for the user before the run begins."""

    def in_phases(self, share: float, *, total_steps: int, steps_per_epoch: int) -> Self:
        """Return the data of a run whose steps take synthetic images for this share, then real ones (`mix.then`).

        Raises:
            ConfigError: if less than one epoch is left for either.
        """
        mixer = self.mixer.switching(share, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        assert mixer.switch_epoch is not None
        metadata = {**self.metadata, "switch_step": mixer.switch_epoch * steps_per_epoch}
        return replace(self, mixer=mixer, metadata=metadata)


def open_training_data(
    data: DataSettings,
    mix: MixSettings,
    *,
    seed: int,
    batch: int,
    size: int,
    cache: CacheMode = "auto",
    workers: int = 0,
    report: Callable[[str, int, int], None] | None = None,
) -> TrainingData:
    """Open the sources that the mixing mode draws from.

    Args:
        seed: of the order of images and of the subsets `mix.max_real` and `mix.max_synthetic`.
        batch: images per optimizer step over all ranks; a mixed epoch is cut to whole batches.
        size: side in pixels of on-the-fly images whose source names none.
        cache: whether decoded images stay in memory; see `open_images`.
        workers: threads that check images.
        report: called with (stage, done, total), total 0 if unknown.

    Raises:
        ConfigError: if a setting of `mix` contradicts the sources, or `data.decode`.
        DataError: if the images are missing, too broken, or, to replace views, without a variation.
    """
    reduced = data.decode == "reduced"
    if reduced and (mix.canvas is not None or mix.jpeg_quality is not None):
        raise ConfigError(
            "data.decode = reduced: mix.canvas and mix.jpeg_quality need the whole image; set data.decode to full"
        )
    mode = choose_mode(mix, real=bool(data.real), synthetic=bool(data.synthetic))
    real = () if mode == "synthetic" else data.real
    synthetic = () if mode == "real" else data.synthetic
    images = open_images(
        with_size([*real, *synthetic], size),
        max_pixels=data.max_pixels,
        max_broken_share=data.max_broken_share,
        check=data.check,
        cache="never" if reduced else cache,  # views must not depend on what fits into memory
        workers=workers,
        report=report,
    )
    boundary = images.first_of(len(real))
    mixer = make_mixer(images, boundary, mix, mode, seed=seed, batch=batch)
    codec = Codec(mix.canvas, mix.jpeg_quality, reduced)
    metadata = _metadata(images, mixer, len(synthetic)) if synthetic else {}
    return TrainingData(images, mixer, codec, metadata, _notes(data, images, mixer, codec, metadata))


def _metadata(images: ImageSet, mixer: Mixer, sources: int) -> dict[str, Any]:
    known = images.synthetic_sources
    licenses, seconds = _licenses(known), _generation_seconds(known)
    used = any(source.labels_used for source in known)
    return {
        "mode": mixer.mode,
        "real": len(mixer.real),
        "synthetic": len(mixer.synthetic),
        "epoch": mixer.length,
        "labels": "used" if used else "none" if len(known) == sources else "unknown",
        "generators": sorted({name for source in known for name in source.made_by}),
        **({"licenses": licenses} if licenses else {}),
        **({"generation_seconds": seconds} if seconds is not None else {}),
    }


def _generation_seconds(sources: Iterable[SyntheticSource]) -> float | None:
    """Return the seconds that the stored sets took to make; None if there are none or one does not say."""
    seconds = [read_seconds(source.root) for source in sources if isinstance(source, StoredSetSource)]
    known = [value for value in seconds if value is not None]
    return round(sum(known), 3) if known and len(known) == len(seconds) else None


def _licenses(sources: Iterable[SyntheticSource]) -> dict[str, list[str]]:
    """Return the licenses of each generator as far as they are known."""
    by_generator: dict[str, set[str]] = {}
    for source in sources:
        for name, licenses in source.licenses.items():
            by_generator.setdefault(name, set()).update(licenses)
    return {name: sorted(licenses) for name, licenses in sorted(by_generator.items())}


def _notes(data: DataSettings, images: ImageSet, mixer: Mixer, codec: Codec, metadata: dict[str, Any]) -> list[str]:
    notes = []
    for name, sources in (("synthetic", data.synthetic), ("real", data.real)):
        if sources and {"synthetic": "real", "real": "synthetic"}[name] == mixer.mode:
            notes.append(f"mix.mode = {mixer.mode}: the {name} sources are not opened")
    if metadata.get("labels") == "used":
        notes.append("labels went into the synthetic images, so scores of this run are not free of labels")
    if metadata.get("labels") == "unknown":
        notes.append(
            "a synthetic source has no manifest: every image is its own group, whether labels were used is unknown"
        )
    total, lost = images.variations() if mixer.mode != "replace" else (0, 0)
    if lost:
        notes.append(
            f"{lost} of {total} variations have a source that is not in the run, by name and content or by content "
            "alone; only with each other are they one group"
        )
    if mixer.unused:
        notes.append(f"{mixer.unused} synthetic images are variations of no image that is drawn, and are left out")
    apart = differences(images, mixer.boundary, codec) if metadata and mixer.boundary > 0 else []
    if apart:
        notes.append(
            f"real and synthetic images differ in {' and in '.join(apart)}, which a network can read; mix.canvas and "
            "mix.jpeg_quality bring them to one size and one codec"
        )
    return notes
