"""Sections of the audit page: chosen images, encoded once, with captions; and charts.

Axis letters: H height, W width in pixels.
"""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8

from syn2co.audits.duplicates import CopySearch
from syn2co.audits.fidelity import NEIGHBORS as NEXT
from syn2co.audits.fidelity import nearest
from syn2co.audits.health import class_counts
from syn2co.audits.image_sets import AuditedSet
from syn2co.audits.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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

    @property
    def bare(self) -> bool:
        """Whether it is nothing but single pictures without a word."""
        return all(len(strip) == 1 and not (strip[0].caption or strip[0].chart) for strip in self.strips)


def sections(results: Results) -> tuple[Section, ...]:
    """Return all parts that have something to show, in the order of the page."""
    parts = [_sheet(results), _neighbors(results), _memorized(results)]
    if results.taken is not None and results.real is not None:
        parts.append(_copies("Copies of real images", results.taken, results.synthetic, results.real))
    parts.append(_duplicates(results))
    if results.leaks is not None and results.against is not None:
        parts.append(_copies("Images of the evaluation set", results.leaks, results.synthetic, results.against))
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


def _sheet(results: Results) -> Section:
    side = results.synthetic
    chosen = side.sample(SHEET, results.seed).tolist()
    strips = tuple((picture(side, index, ""),) for index in chosen)
    return Section("A random look", f"{len(chosen)} of {len(side)} synthetic images, drawn at random.", strips)


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
    if results.compared is None or results.alone is None or results.real is None:
        return None
    memory = results.compared.memorization
    suspects = np.flatnonzero((memory.ratios < memory.threshold) & ~np.array(results.compared.of_nearest))
    places = suspects[np.argsort(memory.ratios[suspects], kind="stable")][:PAIRS]
    if not len(places):
        return None
    strips = tuple(
        (
            picture(results.synthetic, int(results.alone.rows[slot]), "synthetic"),
            picture(
                results.real,
                int(results.compared.real_rows[memory.nearest[slot]]),
                f"real, ratio {memory.ratios[slot]:.2f}",
            ),
        )
        for slot in places
    )
    words = (
        "Synthetic images beside the one real image that they are nearest to. The ratio compares that distance to the "
        f"next {NEXT} ones: near 0 is a copy; 1 % of the real images lie below {memory.threshold:.2f} themselves."
    )
    return Section("Suspected copies", words, strips)


def _copies(title: str, search: CopySearch, first: AuditedSet, second: AuditedSet) -> Section | None:
    if not search.copies:
        return None
    worst = sorted(search.copies, key=lambda copy: (-copy.agreement, copy.first))[: 2 * PAIRS]
    strips = []
    for copy in worst:
        how = "equal pixels" if copy.exact else f"correlation {copy.agreement:.2f}"
        mirrored = ", mirrored" if copy.mirrored else ""
        strips.append((picture(first, copy.first, "synthetic"), picture(second, copy.second, f"{how}{mirrored}")))
    words = f"{len(worst)} of {len(search.copies)}: the synthetic image, and the one that it is."
    listed = tuple((first.name(copy.first), second.name(copy.second)) for copy in worst)
    return Section(title, words, tuple(strips), listed)


def _duplicates(results: Results) -> Section | None:
    repeats, side = results.duplicates, results.synthetic
    pairs = [(pair, "equal pixels") for pair in repeats.exact[:PAIRS]]
    pairs += [(pair, "slightly changed") for pair in repeats.near[:PAIRS]]
    if not pairs:
        return None
    strips = tuple((picture(side, one, "synthetic"), picture(side, two, how)) for (one, two), how in pairs)
    words = f"{len(pairs)} of {len(repeats.exact) + len(repeats.near)} repeats, each beside the image that it repeats."
    return Section("Duplicates", words, strips)


def _empty(results: Results) -> Section | None:
    health, side = results.health, results.synthetic
    kinds = (("black", health.black), ("one color", health.constant), ("white noise", health.noise))
    rows = [(index, kind) for kind, indices in kinds for index in indices[:PAIRS]]
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
