"""Parts that all pages share: tables, numbers in words, names without paths, and the page's file."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from syn2co.core.errors import FileError
from syn2co.core.files import write_atomically
from syn2co.core.templates import render
from syn2co.core.versions import __version__

LARGEST = 5_000_000
"""Bytes that a page may have."""
PARTS = ("training", "generation", "evaluation")
"""Parts of the cost of a run."""
_MINUS = re.compile(r"(?<![\w.)-])-(?=[\d.])")
_PATH = re.compile(r"(?<![\w.:/<~-])(?:~|[A-Za-z]:)?[/\\](?:[\w.+@=-]+[/\\])*(?=[\w.])")


@dataclass(frozen=True)
class Column:
    """Title of a table's column, and whether its first click sorts the largest to the top."""

    title: str
    descending: bool = False


class Item(NamedTuple):
    """A cell of a table: its text, the number that it is sorted by, its interval, and its mark in words and class.

    `last`: its text says that there is no value, and sorts below all values in both directions.
    """

    text: str
    sort: float | None = None
    interval: str = ""
    tag: str = ""
    mark: str = ""
    last: bool = False


@dataclass(frozen=True)
class PageTable:
    """A table that the page's script sorts; the first item of a row is its header."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Item]]


def finite(value: object) -> float | None:
    """Return the number, None in place of nan, infinity and what is no number; files that others wrote hold any.

    Example:
        >>> finite(2), finite(float("nan")), finite("many")
        (2, None, None)
    """
    if not isinstance(value, int | float):
        return None
    return value if abs(value) <= sys.float_info.max else None


def mean(values: Iterable[object]) -> float | None:
    """Return the mean, None of nothing or if a value is not finite."""
    several = [finite(value) for value in values]
    known = [value for value in several if value is not None]
    return fmean(known) if known and len(known) == len(several) else None


def duration(seconds: float) -> str:
    """Return seconds in the unit that fits.

    Example:
        >>> duration(42.3), duration(150), duration(9000)
        ('42 s', '2.5 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def signed(text: str) -> str:
    """Return a text with the minus sign of the charts' axes before its negative numbers.

    Example:
        >>> signed("k-NN -5.0 [-7.7, +2.3]")
        'k-NN −5.0 [−7.7, +2.3]'
    """
    return _MINUS.sub("−", text)


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    Example:
        >>> plural(1, "seed"), plural(2000, "image")
        ('1 seed', '2,000 images')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def public_text(text: str) -> str:
    """Return a text whose absolute paths have kept their last part alone.

    Example:
        >>> public_text("syn2co pretrain --real /home/me/photos --out runs/one")
        'syn2co pretrain --real photos --out runs/one'
    """
    return _PATH.sub("", text)


def page_file(out: Path, name: str) -> Path:
    """Return where a page goes: `out` itself if it is an HTML file, else that name in it."""
    return out if out.suffix == ".html" else out / name


def write_page(path: Path, template: str, *, pictures: Mapping[str, bytes], **values: Any) -> Path:
    """Write a page of one file.

    Args:
        path: the file.
        template: of `reports/templates`, such as "study.html.j2".
        pictures: caption -> PNG.
        values: what the template names; `title`, `kicker`, `contents` of every page among them.

    Raises:
        FileError: if it would have more than 5 MB, or cannot be written.
    """
    page = render(f"reports/templates/{template}", version=__version__, pictures=pictures, **values)
    size = len(page.encode("utf-8", "backslashreplace"))
    if size > LARGEST:
        mega = size / 1e6
        raise FileError(f"{path.name}: would have {mega:.1f} MB, at most 5 are allowed; give fewer or smaller pictures")
    write_atomically(path, page)
    return path
