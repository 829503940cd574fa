"""Sections of the audit page: chosen images, encoded once, with captions; and charts.

Axis letters: N synthetic images, M others, H height, W width in pixels.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np
from jaxtyping import Bool, Int64, UInt8

from syn2co.audits.fidelity import NEIGHBORS as NEXT
from syn2co.audits.fidelity import Memorization, nearest
from syn2co.audits.health import class_counts
from syn2co.audits.image_sets import AuditedSet
from syn2co.audits.results import Results
from syn2co.core import keyed_rng
from syn2co.images.near_copies import CopySearch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")
LONGEST, SMALL = 128, 64
SHEET, PAIRS, QUERIES, NEIGHBORS, POINTS = 48, 12, 8, 5, 1500


@dataclass(frozen=True)
class Thumbnail:
    """An encoded image with the width at which it is shown."""

    data: bytes
    kind: str
    caption: str
    alt: str
    chart: bool = False

    @property
    def tiny(self) -> bool:
        """Whether its pixels are to be seen."""
        return self.kind == "png" and not self.chart


@dataclass(frozen=True)
class Section:
    """A part of the page: pictures in strips that belong together, or a list of names with reasons."""

    title: str
    words: str
    strips: tuple[tuple[Thumbnail, ...], ...] = ()
    listed: tuple[tuple[str, str], ...] = ()

    sheet: bool = False
    """Whether it is a grid of single pictures."""


def sections(results: Results) -> tuple[Section, ...]:
    """Return all parts that have something to show, in the order of the page."""
    parts = [_sheet(results), _neighbors(results), _memorized(results)]
    if results.taken is not None and results.real is not None:
        parts.append(_copies("Copies of real images", results.taken, results.synthetic, results.real, results.seed))
    parts.append(_duplicates(results))
    if results.leaks is not None and results.against is not None:
        parts.append(
            _copies("Images of the evaluation set", results.leaks, results.synthetic, results.against, results.seed)
        )
        parts.append(_near_evaluation(results))
    parts += [_empty(results), _broken(results), _classes(results), _scatter(results)]
    return tuple(part for part in parts if part is not None)


def picture(side: AuditedSet, index: int, caption: str) -> Thumbnail:
    """Return one image of a side, shrunk to at most 128 pixels; small ones stay exact (PNG)."""
    image = side.images.read(index)
    longest = max(image.shape[:2])
    if longest > LONGEST:
        height, width = (max(1, round(length * LONGEST / longest)) for length in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return _encoded(image, caption, f"{side.role} image {side.name(index)}")


def _encoded(image: UInt8[np.ndarray, "H W 3"], caption: str, alt: str) -> Thumbnail:
    small = max(image.shape[:2]) <= SMALL
    flipped = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".png", flipped) if small else cv2.imencode(".jpg", flipped, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return Thumbnail(data.tobytes(), "png" if small else "jpeg", caption, alt)


def drawn(values: Sequence[T], count: int, seed: int, what: str) -> list[T]:
    """Return at most `count` of the values, drawn at random by seed."""
    return [values[row] for row in keyed_rng.permutation(len(values), "audit page", seed, what)[:count].tolist()]


def _sheet(results: Results) -> Section:
    side = results.synthetic
    chosen = side.sample(SHEET, results.seed).tolist()
    strips = tuple((picture(side, index, _class(side, index)),) for index in chosen)
    return Section(
        "A random look", f"{len(chosen)} of {len(side)} synthetic images, drawn at random.", strips, sheet=True
    )


def _class(side: AuditedSet, index: int) -> str:
    """Return the class of an image, nothing if it has none."""
    label = int(side.images.labels[index])
    return side.images.classes[label] if label >= 0 else ""


def _neighbors(results: Results) -> Section | None:
    if results.compared is None or results.space is None or results.alone is None or results.real is None:
        return None
    count = min(QUERIES, len(results.alone.rows))
    distances, neighbor_rows = nearest(results.space.parts[0][:count], results.space.parts[1], NEIGHBORS)
    strips = []
    for query, index in enumerate(results.alone.rows[:count].tolist()):
        strip = [picture(results.synthetic, index, "synthetic")]
        for distance, row in zip(distances[query], neighbor_rows[query], strict=True):
            real = int(results.compared.real_rows[row])
            strip.append(picture(results.real, real, f"real, {distance:.2f}"))
        strips.append(tuple(strip))
    words = "Random synthetic images, each followed by the real ones nearest to it and their distances."
    return Section("Nearest real images", words, tuple(strips))


def _memorized(results: Results) -> Section | None:
    """Show the synthetic images that lie nearest to one real image, but for variations of that image."""
    if results.compared is None or results.alone is None or results.real is None:
        return None
    compared = results.compared
    expected = np.array(compared.of_nearest)
    rows = (results.alone.rows, compared.real_rows)
    return _suspects("Suspected copies", compared.memorization, (results.synthetic, results.real), rows, ~expected)


def _near_evaluation(results: Results) -> Section | None:
    """Show the synthetic images that lie nearest to one evaluation image."""
    if results.near_against is None or results.against is None:
        return None
    sides = (results.synthetic, results.against)
    rows = [side.sample(results.max_images, results.seed) for side in sides]
    every = np.ones(len(rows[0]), bool)
    return _suspects("Near evaluation images", results.near_against.memorization, sides, (rows[0], rows[1]), every)


def _suspects(
    title: str,
    memory: Memorization,
    sides: tuple[AuditedSet, AuditedSet],
    rows: tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " M"]],
    shown: Bool[np.ndarray, " N"],
) -> Section | None:
    """Show the pairs with the smallest ratios, among the images that may be shown."""
    slots = np.flatnonzero((memory.ratios < memory.threshold) & shown)
    slots = slots[np.argsort(memory.ratios[slots], kind="stable")][:PAIRS]
    if not len(slots):
        return None
    other = sides[1].role.replace("against", "evaluation")
    strips = tuple(
        (
            picture(sides[0], int(rows[0][slot]), "synthetic"),
            picture(sides[1], int(rows[1][memory.nearest[slot]]), f"{other}, ratio {memory.ratios[slot]:.2f}"),
        )
        for slot in slots
    )
    words = (
        f"Synthetic images beside the one {other} image that they are nearest to. The ratio compares that distance to "
        f"the next {NEXT} ones: near 0 is a copy; 1 % of the {other} images lie below {memory.threshold:.2f} "
        "themselves."
    )
    return Section(title, words, strips)


def _copies(title: str, search: CopySearch, first: AuditedSet, second: AuditedSet, seed: int) -> Section | None:
    if not search.copies:
        return None
    shown = drawn(search.copies, 2 * PAIRS, seed, title)
    strips = []
    for copy in shown:
        how = "equal pixels" if copy.exact else f"correlation {copy.agreement:.2f}"
        change = f", {copy.change}" if copy.change else ""
        strips.append((picture(first, copy.first, "synthetic"), picture(second, copy.second, f"{how}{change}")))
    words = f"{len(shown)} of {len(search.copies)}, drawn at random: the synthetic image, and the one that it is."
    listed = tuple((first.name(copy.first), second.name(copy.second)) for copy in shown)
    return Section(title, words, tuple(strips), listed)


def _duplicates(results: Results) -> Section | None:
    repeats, side = results.duplicates, results.synthetic
    pairs = [(pair, "equal pixels") for pair in drawn(repeats.exact, PAIRS, results.seed, "exact")]
    pairs += [(pair, "slightly changed") for pair in drawn(repeats.near, PAIRS, results.seed, "near")]
    if not pairs:
        return None
    strips = tuple((picture(side, one, "synthetic"), picture(side, two, how)) for (one, two), how in pairs)
    words = f"{len(pairs)} of {len(repeats.exact) + len(repeats.near)} repeats, each beside the image that it repeats."
    return Section("Duplicates", words, strips)


def _empty(results: Results) -> Section | None:
    health, side = results.health, results.synthetic
    kinds = (("black", health.black), ("one color", health.constant), ("white noise", health.noise))
    rows = [(index, kind) for kind, indices in kinds for index in drawn(indices, PAIRS, results.seed, kind)]
    if not rows:
        return None
    strips = tuple((picture(side, index, kind),) for index, kind in rows)
    listed = tuple((side.name(index), kind) for index, kind in rows)
    return Section("Images that show nothing", "Black, of one color, or white noise.", strips, listed)


def _broken(results: Results) -> Section | None:
    broken = results.health.broken
    if not broken:
        return None
    return Section(
        "Images that cannot be read", f"{min(50, len(broken))} of {len(broken)}, with the reason.", listed=broken[:50]
    )


def _classes(results: Results) -> Section | None:
    counts = class_counts(results.synthetic)
    if not counts:
        return None
    from syn2co.reports.charts import class_bars

    more = f" The first 40 of {len(counts)}." if len(counts) > 40 else ""
    chart = _drawn(class_bars(dict(list(counts.items())[:40])), "number of images of each class")
    return Section("Class balance", f"Synthetic images of each class.{more}", ((chart,),))


def _scatter(results: Results) -> Section | None:
    if results.compared is None:
        return None
    from syn2co.reports.charts import scatter

    synthetic, real = results.points()
    chart = _drawn(scatter(synthetic[:POINTS], real[:POINTS]), "scatter of real and synthetic images")
    assert results.space is not None
    words = f"The two directions in which all images together vary most. Features: {results.space.words}."
    return Section("Where they lie", words, ((chart,),))


def _drawn(figure: "Figure", alt: str) -> Thumbnail:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    return Thumbnail(buffer.getvalue(), "png", "", alt, chart=True)
