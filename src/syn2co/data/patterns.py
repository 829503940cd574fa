"""Patterns of files: what the braces in a name stand for."""

import re
from collections.abc import Iterator

from syn2co.core.errors import DataError
from syn2co.core.paths import shown

_MOST_FILES, _MOST_BRACES = 1_000_000, 50
"""Most files of one range, and most braces of a pattern."""


def expand_braces(pattern: str) -> Iterator[str]:
    """Return the texts that `{000..012}` ranges and `{a,b}` lists stand for, leading zeros kept.

    Raises:
        DataError: if the pattern has too many braces, or a range is too long.
    """
    if pattern.count("{") > _MOST_BRACES:
        raise DataError(f"{shown(pattern)}: a pattern may hold at most {_MOST_BRACES} braces; correct it.")
    return _expanded(pattern)


def _expanded(pattern: str) -> Iterator[str]:
    match = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if match is None:
        yield pattern
        return
    first, last, listed = match.groups()
    if listed is not None:
        middles = listed.split(",")
    else:
        width = len(first) if first.startswith("0") else 0
        step = 1 if int(first) <= int(last) else -1
        if abs(int(last) - int(first)) >= _MOST_FILES:
            raise DataError(f"{pattern}: a range may name at most {_MOST_FILES:,} files; correct it.")
        middles = [str(number).zfill(width) for number in range(int(first), int(last) + step, step)]
    head, tail = pattern[: match.start()], pattern[match.end() :]
    yield from (head + middle + rest for middle in middles for rest in _expanded(tail))
