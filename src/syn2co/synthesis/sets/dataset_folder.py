"""A data set folder: recipe.json, which shards are done, what was skipped, and who writes what.

A shard is done when its manifest and its images verify, and the manifest is written last.
"""

import json
import math
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from syn2co.core.errors import ConfigError, SynthesisError
from syn2co.core.json_files import JsonError, JsonObject, check_shape, read_json, read_json_lines
from syn2co.synthesis.sets.manifest import check_of, identity, mismatch, read_lines, unseal
from syn2co.synthesis.sets.plan import Plan
from syn2co.synthesis.sets.recipe import public_settings
from syn2co.synthesis.sets.settings import NO_SETTINGS, SET, in_todays_words
from syn2co.synthesis.sets.shards import holds_exactly, read_shard, stem

RECIPE, SKIPPED, CARD, SHEET = "recipe.json", "skipped.jsonl", "README.md", "contact.png"
MODEL, COST = "model", "cost.jsonl"
_Counted = Annotated[int, Field(ge=1, le=10**10)]


def read_recipe(folder: Path) -> dict[str, Any] | None:
    """Return what recipe.json holds, or None if there is none.

    Raises:
        SynthesisError: if it is damaged.
    """
    path = folder / RECIPE
    try:
        return check_shape(in_todays_words(read_json(path, JsonObject)), _RecipeFile)
    except FileNotFoundError:
        if path.is_symlink():
            raise SynthesisError(f"{folder.name}/{RECIPE}: is a link to nothing; correct the link") from None
        return None
    except OSError as error:
        raise SynthesisError(f"{folder.name}/{RECIPE}: cannot be read ({error.strerror}); correct the path") from None
    except JsonError as error:
        raise SynthesisError(
            f"{folder.name}/{RECIPE}: is damaged (it {error}); restore it, or begin the set again in a new folder"
        ) from None


class _SubjectsPart(BaseModel):
    """JSON of the subjects of a set."""

    kind: str
    number: _Counted | None
    digest: str


class _SetPart(BaseModel):
    """JSON of what recipe.json holds besides settings."""

    count: _Counted
    shard_size: _Counted
    subjects: _SubjectsPart
    real: str | None
    code: str | None
    facts: dict[str, Any]


class _RecipeFile(BaseModel):
    """JSON of recipe.json, as far as it is read without its settings."""

    hash: str
    set: _SetPart
    generator: str
    options: dict[str, Any]
    format: Literal["png", "jpg", "webp"]
    per_subject: _Counted
    size: _Counted


def recipe_of(plan: Plan, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return what recipe.json is to hold of a plan and the facts of its opened generator."""
    about = {
        "count": len(plan),
        "shard_size": plan.shard_size,
        "subjects": {"kind": plan.subjects.kind, "number": plan.subjects.number, "digest": plan.subjects.digest},
        "real": plan.recipe.real,
        "code": plan.recipe.generator.code,
        "facts": metadata,
        "sealed": True,
    }
    recipe = {"hash": plan.recipe_hash, SET: about, **public_settings(plan.recipe.settings)}
    recipe = json.loads(json.dumps(recipe))  # as it is read again: keys that are numbers become text
    return {**recipe, "check": check_of(recipe)}


def is_sealed(recipe: Mapping[str, Any]) -> bool:
    """Return whether a recipe says that it bears a seal; those of versions before 0.2 do not."""
    return "check" in recipe or "sealed" in recipe[SET]


def is_edited(recipe: Mapping[str, Any]) -> bool:
    """Return whether a recipe that bears a seal was changed after it was written."""
    try:
        return is_sealed(recipe) and recipe.get("check") != check_of(recipe)
    except ValueError:  # a number that is not finite, of which no seal was ever made
        return True


def check_recipe(folder: Path, saved: dict[str, Any] | None, plan: Plan) -> None:
    """Refuse a folder that holds another set, another list of subjects, more images, or things that are no set.

    Raises:
        ConfigError: naming the first difference.
        SynthesisError: if its recipe.json was changed after it was written.
    """
    where = f"--out {folder.name}"
    if saved is None:
        foreign = [p.name for p in folder.glob("*") if not p.name.startswith(".") and p.name not in (MODEL, COST)]
        if RECIPE in foreign:  # another process has begun the set since we looked
            check_recipe(folder, read_recipe(folder), plan)
        elif foreign:
            raise ConfigError(f"{where}: is not empty and holds no data set ({foreign[0]}); choose another folder")
        return
    if is_edited(saved):
        raise SynthesisError(
            f"{folder.name}/{RECIPE}: was changed after it was written; restore it, or begin the set again in a new "
            "folder"
        )
    about, now = saved[SET], recipe_of(plan, {})
    if saved["hash"] != plan.recipe_hash:
        raise ConfigError(
            f"{where}: holds a set of another recipe ({_difference(saved, now)}); choose another folder, or repeat its "
            f"own settings with --config {folder.name}/{RECIPE}"
        )
    if about["subjects"] != now[SET]["subjects"]:
        before, after = about["subjects"], now[SET]["subjects"]
        raise ConfigError(
            f"{where}: was begun with another list of subjects ({before['number']} {before['kind']} then, "
            f"{after['number']} {after['kind']} now, or others or in another order); give the same, or a new folder"
        )
    if about["shard_size"] != plan.shard_size:
        raise ConfigError(
            f"work.shard_size = {plan.shard_size}: {folder.name} was begun with {about['shard_size']}; repeat that"
        )
    if about["count"] > len(plan):
        raise ConfigError(
            f"count = {len(plan)}: {folder.name} is a set of {about['count']} images, and a set can only grow; give "
            f"at least {about['count']}"
        )


def check_metadata(
    folder: Path,
    saved: dict[str, Any] | None,
    metadata: Mapping[str, Any],
    advice: str = "use that model again, or choose another folder",
) -> None:
    """Refuse to add to a set with another model than it was begun with.

    Raises:
        ConfigError: naming the first fact that differs, with advice.
    """
    before = saved[SET]["facts"] if saved is not None else metadata
    for name in identity(before, metadata):
        if before.get(name) != metadata.get(name):
            raise ConfigError(
                f"--out {folder.name}: was begun with {name} = {before.get(name)} and the generator now has "
                f"{metadata.get(name)}; {advice}"
            )


def is_done(folder: Path, plan: Plan, number: int, skipped: Mapping[int, Any] | None = None) -> bool:
    """Return whether a shard is finished: lines and images are those of the plan and have their hashes.

    `skipped`: what `read_skipped` returned, where it was called already.
    """
    manifest, saved = folder / f"{stem(number)}.jsonl", read_recipe(folder)
    if saved is None or not manifest.exists():
        return False
    try:
        lines = list(read_lines(manifest))
        skipped = read_skipped(folder) if skipped is None else skipped
        first = number * plan.shard_size
        jobs = [job for index, job in enumerate(plan.shard(number), first) if index not in skipped]
        if [line["id"] for line in lines] != [job.id for job in jobs]:
            return False
        if any(mismatch(line, job, saved[SET]["facts"]) for line, job in zip(lines, jobs, strict=True)):
            return False
        return _is_intact(manifest.with_suffix(".tar"), lines, plan.recipe.settings.format)
    except (ValueError, KeyError, OSError):
        return False


def _is_intact(tar: Path, lines: Sequence[Mapping[str, Any]], suffix: str) -> bool:
    """Return whether a tar holds the images of these lines, each with the hash of its line, and the lines."""
    if not holds_exactly(tar, [line["id"] for line in lines], suffix):
        return False
    with open(tar, "rb") as file:
        for index, member in enumerate(read_shard(tar)):
            data, line = member.read(file), lines[index // 2]
            if index % 2 and unseal(data.decode()) != line:  # as read: version 0.1 spelled a key otherwise
                return False
            if not index % 2 and sha256(data).hexdigest() != line.get("sha256"):
                return False
    return True


def read_skipped(folder: Path) -> dict[int, dict[str, Any]]:
    """Return the lines of skipped.jsonl by the place of the image in the plan.

    Raises:
        SynthesisError: if the file is damaged.
    """
    path = folder / SKIPPED
    if not path.exists():
        return {}
    try:
        return {line["index"]: line for line in read_lines(path)}
    except (ValueError, KeyError) as error:
        raise SynthesisError(f"{folder.name}/{error}; delete {SKIPPED} and generate again") from None


def read_seconds(folder: Path) -> float | None:
    """Return the wall time in which calls of `generate` worked on a set, None if cost.jsonl is missing or damaged.

    Ranks, and other calls at the same time, share the work: that time counts once. Calls of versions that did not say
    when they began are added.
    """
    try:
        lines = list(read_json_lines(folder / COST, _CostLine))
    except OSError:
        return None
    if any(isinstance(line, JsonError) for line in lines):
        return None
    spans = [(line.get("began"), line["seconds"]) for line in lines]
    total, end = float(sum(seconds for began, seconds in spans if began is None)), -math.inf
    for began, seconds in sorted(span for span in spans if span[0] is not None):
        total += seconds if began >= end else max(0.0, began + seconds - end)
        end = max(end, began + seconds)
    return total


class _CostLine(BaseModel):
    """JSON of one line of cost.jsonl, as far as it is summed."""

    seconds: float
    began: float | None = None


def _difference(saved: dict[str, Any], now: dict[str, Any]) -> str:
    """Return the first setting that differs, or else what else the hash is made of."""
    before, after = (_flat({k: v for k, v in recipe.items() if k not in NO_SETTINGS}) for recipe in (saved, now))
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name) and name.partition(".")[0] not in ("classes", "captions", "vary"):
            return f"{name} = {before.get(name, 'not set')} there, {after.get(name, 'not set')} now"
    if saved[SET]["code"] != now[SET]["code"]:
        return "the file of the generator has changed"
    if saved[SET]["real"] != now[SET]["real"]:
        return "its generator learned from other real images"
    return "its recipe.json was changed, or comes from another version of syn2co"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        nested = isinstance(value, dict) and value
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": json.dumps(value)}
    return flat
