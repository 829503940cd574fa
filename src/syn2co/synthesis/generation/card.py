"""The data card and the contact sheet of a finished set. Both follow from its files alone and name no place on disk."""

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syn2co.core.errors import SynthesisError
from syn2co.core.files import write_whole
from syn2co.core.templates import render
from syn2co.synthesis.generation.contact_sheet import contact_sheet
from syn2co.synthesis.sets.dataset_folder import CARD, RECIPE, SHEET, read_recipe, read_skipped
from syn2co.synthesis.sets.manifest import read_lines
from syn2co.synthesis.sets.recipe import public_settings
from syn2co.synthesis.sets.settings import SET, SHARD_SIZE, SynthesisSettings
from syn2co.synthesis.sets.shards import stem
from syn2co.synthesis.sets.spec import BUILTIN

EXAMPLES = 8
SHEET_IMAGES = 64
PLAIN = {"generator", "size"}


def write_card(folder: Path) -> None:
    """Write README.md and contact.png; the card comes last.

    Raises:
        SynthesisError: if a manifest is damaged.
        OSError: if they cannot be written.
    """
    recipe = read_recipe(folder)
    assert recipe is not None
    try:
        seen = _Seen()
        for line in manifest_lines(folder, recipe):
            seen.add(line)
        chosen = _spread(folder, recipe, seen.images)
        write_whole(folder / SHEET, contact_sheet(folder, chosen, recipe["format"]))
    except ValueError as error:
        raise SynthesisError(f"{folder.name}/{error}; run the same `syn2co generate` again to fix it") from None
    write_whole(folder / CARD, card(recipe, seen, Counter(line["reason"] for line in read_skipped(folder).values())))


def manifest_lines(folder: Path, recipe: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the manifest lines of all shards in order, each with its shard's number under "shard"."""
    about = recipe[SET]
    for number in range(-(-about["count"] // about["shard_size"])):
        for line in read_lines(folder / f"{stem(number)}.jsonl"):
            yield {**line, "shard": number}


@dataclass
class _Seen:
    """Counts of a pass over the manifests; nothing grows with the number of images."""

    images: int = 0
    cut: int = 0
    labels: bool = False
    first: dict[str, Any] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)
    with_prompt: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    retried: int = 0

    def add(self, line: Mapping[str, Any]) -> None:
        self.first = self.first or dict(line)
        self.images += 1
        self.cut += bool(line.get("prompt_cut"))
        self.retried += bool(line.get("attempt"))
        self.labels |= line["labels"] == "used"
        if line["prompt"] is not None:
            self.with_prompt += 1
            if len(self.prompts) < EXAMPLES and line["prompt"] not in self.prompts:
                self.prompts.append(line["prompt"])
        if line["class"] is not None:
            self.classes[line["class"]] += 1
        self.versions[json.dumps(line["versions"], sort_keys=True)] += 1


def _spread(folder: Path, recipe: Mapping[str, Any], images: int) -> list[dict[str, Any]]:
    """Return the lines of at most 64 images, evenly spread over the set."""
    wanted = min(images, SHEET_IMAGES)
    places = {position * images // wanted for position in range(wanted)}
    return [line for position, line in enumerate(manifest_lines(folder, recipe)) if position in places]


def card(recipe: Mapping[str, Any], seen: _Seen, skipped: Mapping[str, int]) -> str:
    """Return the data card in Markdown."""
    about, first = recipe[SET], seen.first
    retried = f"{seen.retried} images took another seed, because the first was refused" if seen.retried else ""
    metadata = {
        "Images": f"{seen.images} of {recipe['size']} x {recipe['size']} px, {_encoding(recipe)}",
        "Generator": _code(first.get("generator")),
        "Model": _model(first),
        "License of the model": _license(first),
        "Subjects": _subjects(about, seen),
        "Labels": "used: do not call what is trained on it unsupervised" if seen.labels else "none used",
        "Skipped": _skipped(skipped),
        "Guidance, steps, sampler": _sampling(first),
        "Made again": retried,
        "Recipe hash": _code(recipe["hash"]),
        "Versions": "; ".join(f"{_versions(text)} ({count} images)" for text, count in seen.versions.most_common()),
    }
    return render(
        "synthesis/generation/templates/card.md.j2",
        recipe=recipe,
        seen=seen,
        metadata={name: text for name, text in metadata.items() if text},
        sheet=SHEET,
        recipe_file=RECIPE,
        command=command(recipe),
        code=None if recipe["generator"] in BUILTIN else about["code"],
        from_real=about["real"] is not None or about["subjects"]["kind"] == "real images",
    )


def command(recipe: Mapping[str, Any]) -> str:
    """Return the command that makes the set again, with the settings that differ from the defaults."""
    default = public_settings(SynthesisSettings())
    about = recipe[SET]
    words = ["syn2co", "generate", "--generator", recipe["generator"], "--count", str(about["count"])]
    words += ["--size", str(recipe["size"]), "--out", "OUT"]
    if about["real"] is not None or about["subjects"]["kind"] == "real images":
        words += ["--real", "REAL_IMAGES"]
    values = {name: value for name, value in recipe.items() if name not in {"hash", SET, *PLAIN}}
    for name, value in values.items():
        if value != default.get(name) and name != "options":
            words += ["--set", f"{name}={_plain(value)}"]
    for name, value in recipe["options"].items():
        words += ["--set", f"options.{name}={_plain(value)}"]
    if about["shard_size"] != SHARD_SIZE:
        words += ["--set", f"work.shard_size={about['shard_size']}"]
    return " ".join(map(shlex.quote, words))


def _plain(value: Any) -> str:
    """Return a value as --set reads it back: text as it stands unless it would be read as JSON."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return (
            value
            if value.strip().lower() not in ("true", "false", "none") and value == value.strip()
            else json.dumps(value)
        )
    return json.dumps(value)


def _encoding(recipe: Mapping[str, Any]) -> str:
    return "png" if recipe["format"] == "png" else f"{recipe['format']} of quality {recipe['quality']}"


def _model(first: Mapping[str, Any]) -> str:
    if first.get("model") is None:
        return "none"
    return (
        f"{_code(first['model'])}, revision {_code(first['revision'])}"
        if first.get("revision")
        else _code(first["model"])
    )


def _license(first: Mapping[str, Any]) -> str:
    if first.get("model") is None:
        return ""
    return (
        str(first["license"])
        if first.get("license") is not None
        else ("**UNKNOWN. Nobody can tell from this card what the images may be used for; ask the model's makers.**")
    )


def _subjects(about: Mapping[str, Any], seen: _Seen) -> str:
    subjects = about["subjects"]
    if not seen.classes:
        return subjects["kind"] if subjects["number"] is None else f"{subjects['number']} {subjects['kind']}"
    counts = seen.classes.values()
    return f"{len(counts)} classes, {min(counts)} to {max(counts)} images each"


def _skipped(skipped: Mapping[str, int]) -> str:
    return "; ".join(f"{count} ({reason})" for reason, count in sorted(skipped.items())) or "none"


def _sampling(first: Mapping[str, Any]) -> str:
    values = [first.get(name) for name in ("guidance", "steps", "sampler")]
    return "" if all(value is None for value in values) else ", ".join(str(value) for value in values)


def _versions(text: str) -> str:
    return ", ".join(f"{name} {version}" for name, version in (json.loads(text) or {}).items())


def _code(value: Any) -> str:
    return f"`{value}`"
