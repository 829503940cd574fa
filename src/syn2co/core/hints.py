"""Names in sentences: the nearest known one, and the first of many."""

import difflib
from collections.abc import Collection, Iterable
from itertools import islice

from syn2co.core.urls import without_secrets


def nearest(name: str, known: Iterable[str], *, most: int = 1, separator: str = ".") -> str:
    """Return a hint at the known names that are nearest, by their whole path or else by the last part of it.

    Args:
        name: what was given, such as "quue.size".
        known: the names that there are, with separators or without.
        most: names in the hint; the nearest comes first.
        separator: the text between the parts of a path; names of files, whose dots part nothing, take "/".

    Returns:
        The end of a sentence, or "" if no name is near.

    Example:
        >>> nearest("batch", ["queue.size", "training.batch"]), nearest("temperature", ["queue.size"])
        ('; did you mean training.batch?', '')
    """
    name, spelled = name.casefold(), {path.casefold(): path for path in known}
    by_leaf = {path.rpartition(separator)[2]: path for path in reversed(spelled)}
    group, _, leaf = name.rpartition(separator)
    leaves = difflib.get_close_matches(leaf, by_leaf, most, 0.6)
    worded = [path for path in spelled if leaf in path.rpartition(separator)[2].split("_")]  # lr of base_lr
    folded = (
        sorted(worded, key=lambda path: path.rpartition(separator)[0] != group)[:most]
        or difflib.get_close_matches(name, spelled, most, 0.7)
        or [by_leaf[leaf] for leaf in leaves]
        or difflib.get_close_matches(name, spelled, most, 0.5 if most == 1 else 0.4)  # several may be further away
    )
    close = [spelled[path] for path in folded]
    return f"; did you mean {', '.join(close)}?" if close else ""


def first_names(names: Collection[object], most: int = 5) -> str:
    """Return the first names and how many more there are; semicolons part names of which one has a comma.

    Args:
        names: anything that `str` takes, in order.
        most: names that are written out.

    Example:
        >>> first_names(["cat", "dog", "owl"], 2)
        'cat, dog and 1 more'
        >>> first_names(["cat, seed 0", "dog, seed 0"])
        'cat, seed 0; dog, seed 0'
    """
    rest, shown = len(names) - most, list(map(str, islice(names, most)))
    separator = "; " if any(", " in name for name in shown) else ", "
    return separator.join(shown) + (f" and {rest} more" if rest > 0 else "")


def shortened(text: str, most: int = 80) -> str:
    """Return a text that fits into a sentence: on one line, with an escape for what no terminal shows, without secrets.

    Args:
        text: what somebody wrote, however long.
        most: characters of it that stay.

    Example:
        >>> shortened("7" * 5000, 3), shortened("a\tb\n")
        ('777...', 'a\\tb\\n')
    """
    text = without_secrets(text)
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:most])
    return shown if len(text) <= most else f"{shown}..."
