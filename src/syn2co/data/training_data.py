"""What a run is fed with: the real and the synthetic sources opened as one set, and which image comes when."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from syn2co.data.codec import Codec, differences
from syn2co.data.mixing import Mixer, choose_mode, make_mixer
from syn2co.data.on_the_fly import with_size
from syn2co.data.open import open_images
from syn2co.images.image_set import ImageSet
from syn2co.pretraining.config import Config


@dataclass(frozen=True)
class Material:
    """The images of a run, the real ones first, and what decides which of them come when."""

    images: ImageSet
    mixer: Mixer
    codec: Codec
    facts: dict[str, Any]
    """What a report should say of the synthetic images; empty where none are drawn."""
    notes: list[str]
    """What the user should know before the run begins."""


def open_material(config: Config, *, workers: int, report: Callable[[str, int, int], None] | None = None) -> Material:
    """Open the sources that the mixing mode draws from.

    Raises:
        ConfigError: if a setting of `mix` contradicts the sources.
        DataError: if the images are missing, too broken, or, to replace views, without a variation.
    """
    data, mix = config.data, config.mix
    mode = choose_mode(mix, real=bool(data.real), synthetic=bool(data.synthetic))
    real = () if mode == "synthetic" else data.real
    synthetic = () if mode == "real" else data.synthetic
    images = open_images(
        with_size([*real, *synthetic], config.views.size),
        max_pixels=data.max_pixels,
        max_broken_share=data.max_broken_share,
        check=data.check,
        cache=config.machine.cache,
        workers=workers,
        report=report,
    )
    boundary = images.first_of(len(real))
    mixer = make_mixer(images, boundary, mix, mode, seed=config.seed, batch=config.training.batch)
    codec = Codec(mix.canvas, mix.jpeg_quality)
    facts = _facts(images, mixer, len(synthetic)) if synthetic else {}
    return Material(images, mixer, codec, facts, _notes(config, images, mixer, codec, facts))


def _facts(images: ImageSet, mixer: Mixer, sources: int) -> dict[str, Any]:
    known = images.synthetic_sources
    used = any(source.labels_used for source in known)
    return {
        "mode": mixer.mode,
        "real": len(mixer.real),
        "synthetic": len(mixer.synthetic),
        "epoch": mixer.length,
        "labels": "used" if used else "none" if len(known) == sources else "unknown",
        "generators": sorted({name for source in known for name in source.made_by}),
    }


def _notes(config: Config, images: ImageSet, mixer: Mixer, codec: Codec, facts: dict[str, Any]) -> list[str]:
    notes = []
    for name, sources in (("synthetic", config.data.synthetic), ("real", config.data.real)):
        if sources and {"synthetic": "real", "real": "synthetic"}[name] == mixer.mode:
            notes.append(f"mix.mode = {mixer.mode}: the {name} sources are not opened")
    if facts.get("labels") == "used":
        notes.append("labels went into the synthetic images, so scores of this run are not free of labels")
    if facts.get("labels") == "unknown":
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
    apart = differences(images, mixer.boundary, codec) if facts and mixer.boundary > 0 else []
    if apart:
        notes.append(
            f"real and synthetic images differ in {' and in '.join(apart)}, which a network can read; mix.canvas and "
            "mix.jpeg_quality bring them to one size and one codec"
        )
    return notes
