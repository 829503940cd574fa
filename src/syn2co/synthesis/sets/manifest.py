"""Manifest lines: one JSON object per image, sealed with a hash so that edits by hand are found."""

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from syn2co.core.errors import SynthesisError
from syn2co.core.json_files import JsonError, parse_json, refuse_special
from syn2co.synthesis.sets.job import Job
from syn2co.synthesis.sets.spec import Generator

KEYS = (
    "id", "seed", "subject", "k", "group", "class", "prompt", "source", "generator", "model", "revision", "license",
    "guidance", "steps", "sampler", "size", "sha256", "phash", "labels", "versions", "check",
)  # fmt: skip
IDENTITY = (
    "generator", "model", "model_hash", "revision", "dtype", "guidance", "steps", "sampler", "task", "resolution",
)  # fmt: skip
"""Facts of a generator that must stay the same throughout a set; license and versions may change."""


def identity(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the facts of `IDENTITY` by which two generators are compared: a model of equal hash may have any name."""
    same_files = one.get("model_hash") is not None and one.get("model_hash") == other.get("model_hash")
    return [name for name in IDENTITY if not (same_files and name == "model")]


def make_line(job: Job, generator: Generator, made: Mapping[str, Any], notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest line of an image, without its seal; `made` holds size, sha256 and phash.

    Raises:
        SynthesisError: if a note or a fact has the name of something else.
    """
    line: dict[str, Any] = {
        "id": job.id,
        "seed": job.seed,
        "subject": job.subject,
        "k": job.k,
        "group": job.group,
        "class": job.class_name,
        "prompt": job.prompt,
        "source": job.source,
        "labels": "used" if generator.labels_used or job.class_name is not None else "none",
        **made,
    }
    if "licence" in generator.metadata or "licence" in notes:
        raise SynthesisError(f"job {job.id}: the generator notes licence, which manifests spell license; rename that")
    taken = (line.keys() & (generator.metadata.keys() | notes.keys())) | (generator.metadata.keys() & notes.keys())
    if taken or "check" in notes:
        what = ", ".join(sorted(taken)) or "check"
        raise SynthesisError(f"job {job.id}: the generator notes {what}, which the manifest writes itself; rename that")
    return dict.fromkeys(KEYS[:-1]) | line | dict(generator.metadata) | dict(notes)


def mismatch(line: Mapping[str, Any], job: Job, metadata: Mapping[str, Any]) -> str | None:
    """Return in words what of a line follows neither from its job nor from the set's facts, or None."""
    expected = {"group": job.group, "class": job.class_name, "prompt": job.prompt, "source": job.source}
    expected |= {"labels": "used"} if job.class_name is not None else {}
    expected |= {name: metadata[name] for name in identity(metadata, line) if name in metadata}
    for name, value in expected.items():
        if line.get(name) != value:
            return f"has {name} = {line.get(name)!r} where the set has {value!r}"
    return None


def seal(line: Mapping[str, Any]) -> str:
    """Return the line as canonical JSON with "check", 16 hex digits of the JSON without it.

    Raises:
        TypeError, ValueError: if a value cannot be written as JSON.
    """
    line = json.loads(json.dumps(line, allow_nan=False))  # keys that are numbers become text before they are sorted
    return _canonical({**line, "check": check_of(line)})


def check_of(value: Mapping[str, Any]) -> str:
    """Return the seal of a line or a recipe: 16 hex digits of its JSON without "check"."""
    return _hash(_canonical({name: part for name, part in value.items() if name != "check"}))


def unseal(text: str) -> dict[str, Any]:
    """Return the object of a sealed line, its seal included.

    Raises:
        ValueError: saying what is wrong with the line.
    """
    try:
        line = parse_json(text)
    except JsonError:
        raise ValueError("is not JSON") from None
    if not isinstance(line, dict) or not isinstance(line.get("check"), str):
        raise ValueError("has no check")
    if check_of(line) != line["check"] or _canonical(line) != text:
        raise ValueError(f"was changed after it was written (image {line.get('id')})")
    if (
        "licence" in line and "license" not in line
    ):  # as version 0.1 wrote it; sealed, so the file itself stays as it is
        line["license"] = line.pop("licence")
    return line


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of sealed lines.

    Raises:
        ValueError: with the file, the line's number and what is wrong with it.
    """
    try:
        refuse_special(path)
        with open(path, encoding="utf-8", newline="\n") as file:
            for number, text in enumerate(file, 1):
                if not text.endswith("\n"):
                    raise ValueError(f"{path.name}: line {number} is torn")
                try:
                    line = unseal(text[:-1])
                except ValueError as error:
                    raise ValueError(f"{path.name}: line {number} {error}") from None
                yield line
    except OSError as error:
        raise ValueError(f"{path.name}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path.name}: is not UTF-8 text") from None


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()
