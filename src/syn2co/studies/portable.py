"""Sources and settings as other machines may read them: no folder of this one, and nothing that is speed alone."""

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from syn2co.core.files import public_path
from syn2co.core.json_files import parse_json
from syn2co.core.paths import lies_there, printable, user_path
from syn2co.core.urls import is_url, without_secrets
from syn2co.data.named_source import split_bits
from syn2co.models.provenance import source_name

SPEED_ALONE = ("device", "workers", "batch_size", "cache_gib", "data_root", "download")
"""Settings of an evaluation that no score depends on, as those of `machine` in a run."""


def sources_of(text: str) -> list[str]:
    """Return the two sources of a data set that is given as NAME=TRAIN,TEST, else the one source.

    Example:
        >>> sources_of("cars=/data/cars/train,/data/cars/test"), sources_of("/data/birds")
        (['/data/cars/train', '/data/cars/test'], ['/data/birds'])
    """
    _, equals, sides = text.partition("=")
    return sides.split(",") if equals and "," in sides else [text]


def portable_source(text: str, names: Mapping[str, str] | None = None) -> str:
    """Return a source, or a data set as NAME=TRAIN,TEST, without the folders that it lies in.

    Args:
        text: the source or the data set.
        names: names of sources, such as those of `distinct_names`; one that lacks goes by its last part.

    Example:
        >>> portable_source("/data/birds"), portable_source("cars=/data/cars/train,/data/cars/test")
        ('birds', 'cars=train,test')
    """
    names = names or {}
    sources = sources_of(text)
    head = "" if sources == [text] else text.partition("=")[0] + "="
    return head + ",".join(names.get(source) or source_name(source) for source in sources)


def distinct_names(sources: Iterable[str], reserved: Collection[str] = ()) -> dict[str, str]:
    """Return the name of each source: its last part, with as many parts before it as tell it from the others.

    No name is a whole absolute path: sources that differ in its first part alone are numbered. Whatever is no path,
    such as a URL or "builtin:digits:train", is named as `source_name` does.

    Args:
        sources: as --real takes them; several that lead to the same folder or file get one name.
        reserved: names that no path may get.

    Example:
        >>> distinct_names(["/home/me/photos/train", "/home/me/labeled/train", "/home/me/labeled/test"]).values()
        dict_values(['photos/train', 'labeled/train', 'test'])
    """
    sources = list(sources)
    paths = {source: path for source in sources if (path := _path(source)) is not None}
    names = {source: source_name(source) for source in sources if source not in paths}
    of_paths = _names_of(list(dict.fromkeys(paths.values())), {*reserved, *names.values()})
    return names | {source: _bits(source) + of_paths[path] for source, path in paths.items()}


def _path(source: str) -> Path | None:
    """Return the resolved path of a source, None of a URL, a scheme, or a bare name at which nothing lies."""
    text = without_secrets(source).removeprefix(_bits(source))
    if is_url(text) or re.match(r"[a-z]{2,}:", text) or not (os.path.dirname(text) or lies_there(Path(text))):
        return None
    return Path(os.path.realpath(user_path(text)))  # a link to itself stops Path.resolve


def _bits(source: str) -> str:
    """Return the range before a source of files, such as "12bit:", or nothing."""
    return source.removesuffix(str(split_bits(source)[0]))


def _names_of(paths: Sequence[Path], reserved: Collection[str]) -> dict[Path, str]:
    """Return a name of each path: the shortest end that no other path has, else its last part with a number."""
    names: dict[Path, str] = {}
    for path in paths:
        for length in range(1, max(2, len(path.parts) - 1)):  # parts begin with the root
            name = printable("/".join(path.parts[-length:]))
            if name not in reserved and not any(_ends_alike(path, other, length) for other in paths if other != path):
                names[path] = name
                break
    for path in paths:
        last = printable(path.name or str(path))
        numbered = chain([last], (f"{last}-{number}" for number in count(2)))
        names.setdefault(path, next(name for name in numbered if name not in {*reserved, *names.values()}))
    return names


def _ends_alike(path: Path, other: Path, length: int) -> bool:
    """Return whether the last parts of a path are those of another, or would lie inside it as the path does not."""
    end = path.parts[-length:]
    inside = any(other.parts[-first:] == end[:first] for first in range(1, length)) and other not in path.parents
    return other.parts[-length:] == end or inside


def paths_in(assignments: Iterable[str]) -> list[str]:
    """Return the paths in the values of assignments, those that `portable_settings` cuts.

    Example:
        >>> paths_in(["training.steps=9", "init_from=/home/me/run", 'online_knn.test=["/data/test", "builtin:x"]'])
        ['/home/me/run', '/data/test']
    """
    values = (assignment.partition("=")[2] for assignment in _kept(assignments))
    texts = chain.from_iterable(_texts(_value(text)) for text in values)
    return [text for text in texts if ":" not in text and public_path(text) != text]


def _value(text: str) -> Any:
    """Return the value of an assignment: JSON, or else plain text."""
    try:
        return parse_json(text)
    except ValueError:
        return text.strip()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def portable_values(value: Any, names: Mapping[str, str] | None = None) -> Any:
    """Return nested plain values with every path in them cut to its last part.

    Args:
        value: the values.
        names: names of paths, in place of their last parts.
    """
    if isinstance(value, dict):
        return {key: portable_values(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable_values(item, names) for item in value]
    if isinstance(value, str):
        short = source_name(value) if ":" in value else public_path(value)
        return short if names is None or short == value else names.get(value, short)
    return value


def portable_settings(assignments: Iterable[str], names: Mapping[str, str] | None = None) -> list[str]:
    """Return the assignments that scores may depend on, with every path in them cut to its last part.

    Args:
        assignments: such as "training.steps=9".
        names: names of paths, in place of their last parts.

    Example:
        >>> portable_settings(["training.steps=9", "machine.threads=1", "init_from=/home/me/run"])
        ['training.steps=9', 'init_from=run']
    """
    return [_portable(assignment, names) for assignment in _kept(assignments)]


def _kept(assignments: Iterable[str]) -> list[str]:
    names = ((assignment.partition("=")[0].strip(), assignment) for assignment in assignments)
    return [text for name, text in names if not name.startswith("machine.") and name not in SPEED_ALONE]


def _portable(assignment: str, names: Mapping[str, str] | None) -> str:
    name, equals, text = assignment.partition("=")
    try:
        value = parse_json(text)
    except ValueError:
        return name + equals + portable_values(text.strip(), names)
    changed = portable_values(value, names)
    return assignment if changed == value else name + equals + json.dumps(changed)
