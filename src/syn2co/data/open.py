"""From what the user names to an `ImageSet`: `open_images`.

Axis letters: N images of the set.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Int32, Int64

from syn2co.core.errors import DataError
from syn2co.core.keyed_rng import digest
from syn2co.core.paths import user_path
from syn2co.core.progress import note
from syn2co.data.groups import set_groups
from syn2co.data.named_source import open_source, split_bits
from syn2co.images.check import check_again, check_source
from syn2co.images.decode import NEARLY_BLACK
from syn2co.images.image_set import ImageSet
from syn2co.images.index import class_name, relabel, sort_classes
from syn2co.images.index_cache import CheckResults, default_cache_dir, load_check, save_check
from syn2co.images.pixel_cache import Absent, Block, LazyBlock, PixelCache, auto_budget
from syn2co.images.quarantine import FEW_BROKEN, MAX_BROKEN_SHARE, MAX_PIXELS, BrokenSet, Quarantined
from syn2co.images.source import Source, SyntheticSource, parts
from syn2co.images.sources.folder import FolderSource

Progress = Callable[[str, int, int], None]
CacheMode = Literal["auto", "always", "never"]


def open_images(
    specs: str | Path | Sequence[str | Path],
    *,
    max_pixels: int = MAX_PIXELS,
    max_broken_share: float = MAX_BROKEN_SHARE,
    check: bool = True,
    cache: CacheMode = "auto",
    workers: int = 0,
    cache_dir: str | Path | None = None,
    report: Progress | None = None,
) -> ImageSet:
    """Return the images of all `specs`, one source after the other, without those that cannot be decoded.

    Args:
        specs: one source or several. A source is a folder, a .tar file, a glob or brace range of tar files, also at a
            URL (`https://`, `s3://`), a synthetic data set, `procedural:PROGRAM[:COUNT[:SIZE]]`,
            `builtin:photos[:train|:test]`, `builtin:digits[:train|:test]`,
            `torchvision:[FOLDER/]NAME[:split[+split]]` or `hf:NAME[:split]`; `12bit:` before one says that its 16-bit
            files hold values of 12 bits, any number from 9.
        max_pixels: width times height of the largest image that is read; a larger one is quarantined.
        max_broken_share: largest share of broken images, from 0 to 1, before the set is refused; up to 3 broken images
            stop no set, unless the share is 0.
        check: decode every image once now, so that broken ones leave the set; without it they fail when read.
        cache: keep decoded images in memory if they take at most 2 GiB and a quarter of the memory ("auto"), "always"
            or "never"; only with `check`.
        workers: threads that check; 0 is this one.
        cache_dir: folder for indexes and check results; None is $SYN2CO_CACHE or the user's cache folder.
        report: called as report(stage, done, total) with the stage "index" (total 0 if unknown) or "check".

    Returns:
        The set: `read(i)` gives pixels (uint8 RGB [H, W, 3]), `labels[i]` a number among `classes` (-1: none).

    Raises:
        DataError: if a source is missing, unreadable, empty or given twice, if a setting is out of range, or if more
            than `max_broken_share` of all images are broken; the cache folder gets the list of these (`BrokenSet`).

    Example:
        >>> images = open_images("builtin:digits:test")
        >>> images.read(0).shape, images.classes[int(images.labels[0])], len(images.quarantined)
        ((32, 32, 3), '0', 0)
    """
    _check_settings(max_pixels, max_broken_share, cache)
    folder = user_path(cache_dir) if cache_dir is not None else default_cache_dir()
    named = [split_bits(spec) for spec in _as_list(specs)]
    bits = tuple(number for _, number in named)
    sources = [open_source(spec, cache_dir=folder, report=report) for spec, _ in named]
    _refuse_twice(sources)
    inspected = _inspect(sources, bits, max_pixels, check, cache, workers, folder, report)
    pairs = list(zip(sources, inspected.verdicts, strict=True))
    quarantined = [entry for number, pair in enumerate(pairs) for entry in _quarantine(number, *pair)]
    good = np.concatenate([_good(*pair) for pair in pairs])
    _refuse_broken(quarantined, int(good.sum()), max_broken_share, folder)
    _say_dark(pairs)
    labels, classes = _merge_labels(sources)
    rows = np.flatnonzero(good)
    checksums = [None if verdict is None else verdict.checksums for verdict in inspected.verdicts]
    return ImageSet(
        tuple(sources),
        rows=rows,
        groups=set_groups(sources, checksums, rows),
        labels=labels[rows],
        classes=classes,
        checksums=tuple(checksums),
        quarantined=quarantined,
        cache=None if inspected.blocks is None else PixelCache(inspected.blocks),
        max_pixels=max_pixels,
        bits=bits,
        dark=sum(verdict.dark for verdict in inspected.verdicts if verdict is not None),
    )


def _check_settings(max_pixels: int, max_broken_share: float, cache: str) -> None:
    """Refuse settings out of range."""
    if max_pixels < 1:
        raise DataError(f"max_pixels = {max_pixels}: must be at least 1; the default is {MAX_PIXELS}.")
    if not 0 <= max_broken_share <= 1:
        raise DataError(f"max_broken_share = {max_broken_share}: must lie in 0..1; the default is {MAX_BROKEN_SHARE}.")
    if cache not in get_args(CacheMode):
        raise DataError(f"cache = {cache!r}: must be 'auto', 'always' or 'never'; the default is 'auto'.")


def _as_list(specs: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """Return the specs as a list; at least one."""
    listed = [specs] if isinstance(specs, str | Path) else list(specs)
    if not listed:
        raise DataError("no image source was given; name a folder, a tar file, or builtin:photos.")
    return listed


def _refuse_twice(sources: Sequence[Source]) -> None:
    """Refuse a source that is given twice: its images would count double."""
    names = [part for source in sources for part in parts(source)]
    for number, part in enumerate(names):
        if part in names[:number]:
            raise DataError(f"{part}: this source is given twice; name it once.")
    folders = [part for part in names if os.path.isdir(part)]
    for inner in folders:
        outer = next((folder for folder in folders if inner.startswith(os.path.join(folder, ""))), None)
        if outer is not None:
            raise DataError(f"{inner}: this folder lies inside {outer}, which is given too; name only one of them.")


class _Inspected(NamedTuple):
    """The outcome of the pass over all sources."""

    verdicts: list[CheckResults | None]
    blocks: list[Block | LazyBlock | Absent] | None


def _inspect(
    sources: Sequence[Source],
    bits: Sequence[int],
    max_pixels: int,
    check: bool,
    cache: CacheMode,
    workers: int,
    cache_dir: Path,
    report: Progress | None,
) -> _Inspected:
    """Check every source, or take the remembered verdicts, and keep the pixels if they fit: now those that are decoded
    for the check, the others when they are read.
    """
    if not check:
        return _Inspected([None] * len(sources), None)
    keys = [_check_key(source, max_pixels, deep) for source, deep in zip(sources, bits, strict=True)]
    remembered = [_remembered(source, key, cache_dir) for source, key in zip(sources, keys, strict=True)]
    budget = {"always": None, "auto": auto_budget(), "never": -1}[cache]
    if budget is not None and sum(verdict.decoded_bytes for verdict in remembered if verdict is not None) > budget:
        budget = -1
    verdicts, blocks = [], []
    for source, known, key, deep in zip(sources, remembered, keys, bits, strict=True):
        if _on_the_fly(source):
            verdicts.append(CheckResults(np.zeros(len(source), np.uint32), {}, 0))
            blocks.append(Absent(len(source)))
            continue
        if known is not None:
            verdicts.append(check_again(source, known, max_pixels=max_pixels, bits=deep, workers=workers))
            blocks.append(LazyBlock(len(source)))
            budget = budget if budget in (None, -1) else max(0, budget - known.decoded_bytes)
            continue
        verdict, kept = check_source(
            source, max_pixels=max_pixels, bits=deep, workers=workers, budget=budget, report=report
        )
        verdicts.append(verdict)
        if source.stamp is not None:
            save_check(cache_dir, key, source.stamp, verdict)
        if kept is None:
            budget, blocks = -1, []
        else:
            blocks.extend(kept)
            budget = None if budget is None else budget - verdict.decoded_bytes
    return _Inspected(verdicts, None if budget == -1 else blocks)


def _on_the_fly(source: Source) -> bool:
    """Return whether images are made when they are read: none can be broken, and keeping them would be storage."""
    return isinstance(source, SyntheticSource) and source.on_the_fly


def _check_key(source: Source, max_pixels: int, bits: int) -> str:
    """Return the key under which a source's verdicts are remembered."""
    return f"{source.identity}\n{max_pixels}" + (f"\n{bits}" if bits < 16 else "")


def _remembered(source: Source, key: str, cache_dir: Path) -> CheckResults | None:
    """Return the verdicts of an earlier check of the same files, if there are any."""
    if source.stamp is None:
        return None
    return load_check(cache_dir, key, source.stamp, len(source))


def _quarantine(number: int, source: Source, verdicts: CheckResults | None) -> list[Quarantined]:
    """Return what is left out of one source."""
    skipped = [Quarantined(f"{number}:{name}", reason) for name, reason in source.skipped]
    reasons = {} if verdicts is None else verdicts.reasons
    return skipped + [Quarantined(f"{number}:{source.name(row)}", reason) for row, reason in reasons.items()]


def _good(source: Source, verdicts: CheckResults | None) -> Bool[np.ndarray, " N"]:
    """Return which images of one source stay."""
    good = np.ones(len(source), bool)
    if verdicts is not None:
        good[list(verdicts.reasons)] = False
    return good


def _refuse_broken(quarantined: Sequence[Quarantined], good: int, max_share: float, cache_dir: Path) -> None:
    """Refuse a set with too many broken images, or with none left, after writing the list of them."""
    total = good + len(quarantined)
    allowed = max(max_share * total, FEW_BROKEN) if max_share else 0
    if good and len(quarantined) <= allowed:
        return
    path = cache_dir / f"quarantine-{digest(*map(str, quarantined)).hex()[:12]}.jsonl"
    what, advice = f"none of the {total} images can be read", "fix them or give another source."
    if good:
        what = f"{len(quarantined)} of {total} images are broken, more than max_broken_share = {max_share} allows"
        advice = "fix or remove them, or allow a larger share."
    raise BrokenSet(what, advice, quarantined, path)


def _say_dark(pairs: Sequence[tuple[Source, CheckResults | None]]) -> None:
    """Note the sources of which most images are nearly black: 12-bit data in 16-bit files are read so."""
    for source, verdict in pairs:
        if verdict is not None and verdict.dark > len(source) / 2:
            first, *others = parts(source)
            more = f" and {len(others)} more" if others else ""
            note(
                f"{first}{more}: {verdict.dark} of {len(source)} images are nearly black, with no value above "
                f"{NEARLY_BLACK} of 255; 16-bit values count from 0 to 65535; if they have 12 bits, name the source "
                f"12bit:{'SOURCE' if others else first}"
            )


def _merge_labels(sources: Sequence[Source]) -> tuple[Int64[np.ndarray, " N"], tuple[str, ...]]:
    """Return the labels of all sources counted in the classes of all, merged by name."""
    labeled = [_labeled(number, sources) for number in range(len(sources))]
    classes = sort_classes({name for _, names in labeled for name in names})
    return np.concatenate([relabel(*pair, classes) for pair in labeled]).astype(np.int64), classes


def _labeled(number: int, sources: Sequence[Source]) -> tuple[Int32[np.ndarray, " M"], tuple[str, ...]]:
    """Return the labels of one source and its classes.

    A source with one folder at its top has the classes below it, as `train/cat`, `train/dog` do; unless another source
    has a class of that name: then the folder is this class. So is the source itself, if it has no class of the others.
    """
    source = sources[number]
    others = {name for other, rest in enumerate(sources) if other != number for name in rest.classes}
    folders = getattr(source, "top", "").split("/")
    if isinstance(source, FolderSource) and not others & set(source.classes):
        folders.append(os.path.basename(source.identity))
    top = next((name for name in map(class_name, folders) if name in others), None)
    return (source.labels, source.classes) if top is None else (np.zeros_like(source.labels), (top,))
