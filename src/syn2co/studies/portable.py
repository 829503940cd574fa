"""Sources and settings as other machines may read them: no folder of this one, and nothing that is speed alone."""

import json
from collections.abc import Iterable
from typing import Any

from syn2co.core.files import public_path
from syn2co.core.json_files import parse_json
from syn2co.models.provenance import source_name

SPEED_ALONE = ("device", "workers", "batch_size", "cache_gib", "data_root", "download")
"""Settings of an evaluation that no score depends on, as those of `machine` in a run."""


def portable_source(text: str) -> str:
    """Return a source, or a data set as NAME=TRAIN,TEST, without the folders that it lies in.

    Example:
        >>> portable_source("/data/birds"), portable_source("cars=/data/cars/train,/data/cars/test")
        ('birds', 'cars=train,test')
    """
    name, equals, sides = text.partition("=")
    return f"{name}={','.join(map(source_name, sides.split(',')))}" if equals and "," in sides else source_name(text)


def portable_values(value: Any) -> Any:
    """Return nested plain values with every path in them cut to its last part."""
    if isinstance(value, dict):
        return {key: portable_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable_values(item) for item in value]
    if isinstance(value, str):
        return source_name(value) if ":" in value else public_path(value)
    return value


def portable_settings(assignments: Iterable[str]) -> list[str]:
    """Return the assignments that scores may depend on, with every path in them cut to its last part.

    Example:
        >>> portable_settings(["training.steps=9", "machine.threads=1", "init_from=/home/me/run"])
        ['training.steps=9', 'init_from=run']
    """
    names = ((assignment.partition("=")[0].strip(), assignment) for assignment in assignments)
    return [
        _portable(assignment)
        for name, assignment in names
        if not name.startswith("machine.") and name not in SPEED_ALONE
    ]


def _portable(assignment: str) -> str:
    name, equals, text = assignment.partition("=")
    try:
        value = parse_json(text)
    except ValueError:
        return name + equals + portable_values(text.strip())
    changed = portable_values(value)
    return assignment if changed == value else name + equals + json.dumps(changed)
