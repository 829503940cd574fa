"""The measurements of an audit: synthetic images looked at from all sides, and compared to real ones."""

from pathlib import Path
from typing import NamedTuple

from syn2co.audits.duplicates import CopySearch, find_copies, find_duplicates
from syn2co.audits.feature_space import FeatureSpace, encoder_space, pixel_space
from syn2co.audits.fidelity import fidelity, mean_nearest, memorization, vendi
from syn2co.audits.health import flat, health
from syn2co.audits.image_sets import AuditedSet, Specs, open_audited_set
from syn2co.audits.limits import ENOUGH
from syn2co.audits.report import AuditReport, make_report
from syn2co.audits.results import RealComparison, Results, SyntheticStatistics
from syn2co.audits.scan import ImageStatistics, scan
from syn2co.audits.separability import probe, trace_rows, trace_size
from syn2co.audits.settings import AuditSettings


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
    scans = {side.role: scan(side, mirrored=side is not synthetic, progress=how.progress) for side in sides}
    scanned = scans["synthetic"]
    ignore = flat(scanned)
    leaks = None if against is None else find_copies(synthetic, scanned, against, scans["against"], ignore)
    taken, ordered = None, 0
    if real is not None:
        taken, ordered = _without_ordered(find_copies(synthetic, scanned, real, scans["real"], ignore), synthetic, real)
    space, alone, compared = _compare(synthetic, real, scans, how)
    return Results(
        synthetic=synthetic,
        real=real,
        against=against,
        scans=scans,
        health=health(synthetic, scanned),
        duplicates=find_duplicates(synthetic, scanned, ignore),
        real_duplicates=None if real is None else find_duplicates(real, scans["real"], flat(scans["real"])),
        leaks=leaks,
        taken=taken,
        ordered=ordered,
        space=space,
        alone=alone,
        compared=compared,
        seed=how.settings.seed,
        max_images=how.settings.max_images,
    )


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
    if how.encoder is None:
        space = pixel_space(chosen, progress=how.progress)
    else:
        space = encoder_space(how.encoder, chosen, device=how.settings.device, progress=how.progress)
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
