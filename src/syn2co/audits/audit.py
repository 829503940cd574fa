"""The measurements of an audit: synthetic images looked at from all sides, and compared to real ones.

Axis letters: N images.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from syn2co.audits.duplicates import find_all_copies, find_duplicates
from syn2co.audits.feature_space import FeatureSpace, encoder_space, pixel_space
from syn2co.audits.fidelity import fidelity, mean_nearest, memorization, vendi
from syn2co.audits.health import health
from syn2co.audits.image_sets import AuditedSet, Specs, open_audited_set
from syn2co.audits.limits import ENOUGH
from syn2co.audits.report import AuditReport, make_report
from syn2co.audits.results import NearAgainst, RealComparison, Results, SyntheticStatistics
from syn2co.audits.scan import ImageStatistics, scan
from syn2co.audits.separability import probe, trace_rows, trace_size
from syn2co.audits.settings import AuditSettings
from syn2co.images.near_copies import CopySearch
from syn2co.models.reference import has_reference

SURVIVES_CROPS = "reference:96"
"""Encoder in whose features crops and rotations stay near their image. CIFAR-10, 7 ms an image: 36 to 87 % of images
cropped or rotated as no hash knows are near theirs, and 5 to 59 % in pixels; 160 px costs 4 times as much."""


def measure(
    synthetic: Specs,
    *,
    real: Specs | None = None,
    against: Specs | None = None,
    encoder: str | Path | None = None,
    settings: AuditSettings,
    progress: bool = False,
) -> AuditReport:
    """Return what is wrong with synthetic images, and how they compare to real ones; see `reports.audit.audit`.

    Raises:
        AuditError: if a set has no images.
        DataError: if a source is missing or none of its images can be read.
        CheckpointError: if there is no such encoder.
    """
    made = open_audited_set("synthetic", synthetic)
    sets = {"real": real, "against": against}
    opened = {role: None if specs is None else open_audited_set(role, specs) for role, specs in sets.items()}
    how = _Comparison(encoder, settings, progress)
    return make_report(_measure(made, opened["real"], opened["against"], how))


class _Comparison(NamedTuple):
    """The comparison of images: its feature space and its settings."""

    encoder: str | Path | None
    settings: AuditSettings
    progress: bool


def _measure(synthetic: AuditedSet, real: AuditedSet | None, against: AuditedSet | None, how: _Comparison) -> Results:
    """Return all numbers."""
    sides = [side for side in (synthetic, real, against) if side is not None]
    scans = {side.role: scan(side, progress=how.progress) for side in sides}
    scanned = scans["synthetic"]
    leaks = None if against is None else find_all_copies(synthetic, scanned, against, scans["against"])
    taken, ordered = None, 0
    if real is not None:
        taken, ordered = _without_ordered(find_all_copies(synthetic, scanned, real, scans["real"]), synthetic, real)
    space, alone, compared = _compare(synthetic, real, scans, how)
    return Results(
        synthetic=synthetic,
        real=real,
        against=against,
        scans=scans,
        health=health(synthetic, scanned),
        duplicates=find_duplicates(synthetic, scanned),
        real_duplicates=None if real is None else find_duplicates(real, scans["real"]),
        leaks=leaks,
        leaked_sources=() if against is None else _made_from(synthetic, against),
        learned_from_against=against is not None and against.images.fingerprint in synthetic.learned,
        near_against=None if against is None else _near(synthetic, against, how),
        taken=taken,
        ordered=ordered,
        space=space,
        alone=alone,
        compared=compared,
        seed=how.settings.seed,
        max_images=how.settings.max_images,
    )


def _made_from(synthetic: AuditedSet, against: AuditedSet) -> tuple[tuple[int, int], ...]:
    """Return the synthetic images whose source is an evaluation image, by file name and checksum, and that image."""
    if synthetic.made_from is None:
        return ()
    keys = {_file_key(against.images.key(index)): index for index in range(len(against))}
    sources = [None if key is None else keys.get(_file_key(key)) for key in synthetic.made_from]
    return tuple((index, source) for index, source in enumerate(sources) if source is not None)


def _file_key(key: str) -> str:
    """Return an image's key without the folders that it lies in."""
    return key.rpartition("/")[2]


def _near(synthetic: AuditedSet, against: AuditedSet, how: _Comparison) -> NearAgainst | None:
    """Return how near synthetic images are to single evaluation images; None if a side has too few.

    Without an encoder of the user's, in the features of the reference network where it is installed.
    """
    seed, most = how.settings.seed, how.settings.max_images
    chosen = [(side, side.sample(most, seed)) for side in (synthetic, against)]
    if min(len(rows) for _, rows in chosen) < ENOUGH:
        return None
    encoder = how.encoder or (SURVIVES_CROPS if has_reference() else None)
    space = _space(chosen, how._replace(encoder=encoder))
    return NearAgainst(memorization(*space.parts), space.words, space.metadata)


def _space(chosen: list[tuple[AuditedSet, Int64[np.ndarray, " N"]]], how: _Comparison) -> FeatureSpace:
    """Return the features of the chosen images: of the encoder if there is one, else of the pixels."""
    if how.encoder is None:
        return pixel_space(chosen, progress=how.progress)
    return encoder_space(how.encoder, chosen, device=how.settings.device, progress=how.progress)


def _without_ordered(search: CopySearch, synthetic: AuditedSet, real: AuditedSet) -> tuple[CopySearch, int]:
    """Return the copies that are no variation of just that image, and how many are."""
    kept = tuple(copy for copy in search.copies if not _is_ordered(synthetic, real, copy.first, copy.second))
    return CopySearch(kept, search.complete), len(search.copies) - len(kept)


def _is_ordered(synthetic: AuditedSet, real: AuditedSet, index: int, source: int) -> bool:
    """Return whether a synthetic image was ordered as a variation of a real one: its group is that image's key."""
    group = synthetic.group(index)
    return group is not None and group == real.images.key(source)


def _compare(
    synthetic: AuditedSet,
    real: AuditedSet | None,
    scans: dict[str, ImageStatistics],
    how: _Comparison,
) -> tuple[FeatureSpace | None, SyntheticStatistics | None, RealComparison | None]:
    """Return what is measured in a space of features; None where a side has too few images."""
    rows = synthetic.sample(how.settings.max_images, how.settings.seed)
    if len(rows) < ENOUGH:
        return None, None, None
    chosen = [(synthetic, rows)]
    usable = real is not None and len(real) >= ENOUGH
    equal = min(len(rows), len(real)) if real is not None else 0
    if real is not None and usable:
        chosen.append((real, real.sample(max(how.settings.max_images, 2 * equal), how.settings.seed)))
    space = _space(chosen, how)
    mine = space.parts[0][: equal or None] if usable else space.parts[0]
    alone = SyntheticStatistics(rows, vendi(mine), mean_nearest(mine))
    if real is None or not usable:
        return space, alone, None
    real_rows, theirs = chosen[1][1], space.parts[1]
    half = min(equal, len(theirs) // 2)
    memory = memorization(space.parts[0], theirs)
    size = trace_size(scans["synthetic"].sizes, scans["real"].sizes)
    groups = synthetic.group_numbers()[rows[:equal]] if synthetic.groups else None
    traces = [trace_rows(side, part[:equal], size) for side, part in chosen]
    compared = RealComparison(
        real_rows=real_rows,
        equal=equal,
        fidelity=fidelity(mine, theirs[:equal]),
        yardstick=fidelity(theirs[half : 2 * half], theirs[:half]),
        vendi=vendi(theirs[:equal]),
        nearest=mean_nearest(theirs[:equal]),
        memorization=memory,
        of_nearest=tuple(
            _is_ordered(synthetic, real, int(index), int(real_rows[source]))
            for index, source in zip(rows, memory.nearest, strict=True)
        ),
        auc=probe(mine, theirs[:equal], seed=how.settings.seed, groups=groups),
        traces=probe(traces[0], traces[1], seed=how.settings.seed, groups=groups),
        trace_size=size,
    )
    return space, alone, compared
