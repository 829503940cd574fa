"""The data card and the contact sheet of a finished set. Both follow from its files alone and name no place on disk."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from syn2co.core.errors import SynthesisError
from syn2co.core.files import write_whole
from syn2co.core.json_files import JsonError, parse_json
from syn2co.core.templates import code, markdown, render
from syn2co.synthesis.generation.contact_sheet import contact_sheet
from syn2co.synthesis.sets.dataset_folder import CARD, RECIPE, SHEET, read_recipe, read_skipped
from syn2co.synthesis.sets.manifest import read_lines
from syn2co.synthesis.sets.recipe import public_settings
from syn2co.synthesis.sets.settings import NO_SETTINGS, SET, SHARD_SIZE, SynthesisSettings
from syn2co.synthesis.sets.shards import stem
from syn2co.synthesis.sets.spec import BUILTIN

EXAMPLES = 8
SHEET_IMAGES = 64
PLAIN = {"generator", "size"}
_MARKS = re.compile("[<>&`]")
_PRINTABLE = re.compile(r"[^<>&`\x00-\x1f\x7f]*")
"""A text that can stand in a block of code: nothing ends the block or the line."""


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
        write_whole(folder / SHEET, contact_sheet(folder, chosen, recipe["format"]), alone=True)
    except ValueError as error:
        raise SynthesisError(f"{folder.name}/{error}; run the same `syn2co generate` again to fix it") from None
    skipped = Counter(line["reason"] for line in read_skipped(folder).values())
    write_whole(folder / CARD, card(recipe, seen, skipped), alone=True)


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
    texts: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in FACTS})
    """Of each fact that every line states, its texts and their numbers of images."""
    prompts: list[str] = field(default_factory=list)
    with_prompt: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    retried: int = 0

    def add(self, line: Mapping[str, Any]) -> None:
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
        for name, text in FACTS.items():
            self.texts[name][text(line)] += 1

    def fact(self, name: str) -> str:
        """Return what the manifests say of a fact, with numbers of images where they say several things."""
        texts = self.texts[name].most_common()
        several = len(texts) > 1
        return "; ".join(f"{text or 'none'} ({count} images)" if several else text for text, count in texts)


def _spread(folder: Path, recipe: Mapping[str, Any], images: int) -> list[dict[str, Any]]:
    """Return the lines of at most 64 images, evenly spread over the set."""
    wanted = min(images, SHEET_IMAGES)
    places = {position * images // wanted for position in range(wanted)}
    return [line for position, line in enumerate(manifest_lines(folder, recipe)) if position in places]


def card(recipe: Mapping[str, Any], seen: _Seen, skipped: Mapping[str, int]) -> str:
    """Return the data card; the texts of its table are Markdown, with everything from outside escaped in them."""
    about = recipe[SET]
    retried = f"{seen.retried} images took another seed, because the first was refused" if seen.retried else ""
    metadata = {
        "Images": f"{seen.images} of {recipe['size']} x {recipe['size']} px, {_encoding(recipe)}",
        **{name: seen.fact(name) for name in ("Generator", "Model", "License of the model")},
        "Subjects": _subjects(about, seen),
        "Labels": "used: do not call what is trained on it unsupervised" if seen.labels else "none used",
        "Skipped": _skipped(skipped),
        **{name: seen.fact(name) for name in ("Safety checker", "Guidance, steps, sampler")},
        "Made again": retried,
        "Recipe hash": code(recipe["hash"]),
        "Versions": seen.fact("Versions"),
    }
    return render(
        "synthesis/generation/templates/card.md.j2",
        recipe=recipe,
        seen=seen,
        metadata={name: Markup(text) for name, text in metadata.items() if text},
        sheet=SHEET,
        recipe_file=RECIPE,
        command=Markup(command(recipe)),
        code=None if recipe["generator"] in BUILTIN else about["code"],
        from_real=about["real"] is not None or about["subjects"]["kind"] == "real images",
    )


def command(recipe: Mapping[str, Any]) -> str:
    """Return the command that makes the set again, with the settings that differ from the defaults."""
    default = public_settings(SynthesisSettings())
    about, generator = recipe[SET], recipe["generator"]
    generator = generator if _PRINTABLE.fullmatch(generator) else "YOUR_FILE.py:FUNCTION"
    words = ["syn2co", "generate", "--generator", generator, "--count", str(about["count"])]
    words += ["--size", str(recipe["size"]), "--out", "OUT"]
    if about["real"] is not None or about["subjects"]["kind"] == "real images":
        words += ["--real", "REAL_IMAGES"]
    values = {name: value for name, value in recipe.items() if name not in {*NO_SETTINGS, *PLAIN}}
    for name, value in values.items():
        if value != default.get(name) and name != "options":
            words += ["--set", f"{name}={_plain(value)}"]
    for name, value in recipe["options"].items():
        words += ["--set", f"options.{name}={_plain(value)}"]
    if about["shard_size"] != SHARD_SIZE:
        words += ["--set", f"work.shard_size={about['shard_size']}"]
    return " ".join(map(shlex.quote, words))


def _plain(value: Any) -> str:
    """Return a value as --set reads it back: text as it stands unless it would be read as JSON, or end the code."""
    if not isinstance(value, str) or not _PRINTABLE.fullmatch(value):
        return _MARKS.sub(lambda mark: f"\\u{ord(mark[0]):04x}", json.dumps(value))
    try:
        parse_json(value)
    except JsonError:
        return (
            value
            if value.strip().lower() not in ("true", "false", "none") and value == value.strip()
            else json.dumps(value)
        )
    return json.dumps(value)


def _encoding(recipe: Mapping[str, Any]) -> str:
    return "png" if recipe["format"] == "png" else f"{recipe['format']} of quality {recipe['quality']}"


def _model(line: Mapping[str, Any]) -> str:
    if line.get("model") is None:
        return "none"
    revision = f", revision {code(line['revision'])}" if line.get("revision") else ""
    lora = f", with the LoRA {code(line['lora'])} at {markdown(line.get('lora_scale'))}" if line.get("lora") else ""
    return f"{code(line['model'])}{revision}{lora}"


def _license(line: Mapping[str, Any]) -> str:
    if line.get("model") is None:
        return ""
    if line.get("license") is not None:
        return markdown(line["license"])
    return "**UNKNOWN. Nobody can tell from this card what the images may be used for; ask the model's makers.**"


def _safety(line: Mapping[str, Any]) -> str:
    """Return whether a safety checker looked at the image; nothing is said of images that no model made."""
    if line.get("model") is None:
        return ""
    checker = line.get("safety", {}).get("checker")
    looked = {"on": "the model's own looked at every image", "off": "**switched off: no checker looked at the images**"}
    return looked.get(checker, "**the model has none: no checker looked at the images**")


def _subjects(about: Mapping[str, Any], seen: _Seen) -> str:
    subjects = about["subjects"]
    if not seen.classes:
        return markdown(subjects["kind"] if subjects["number"] is None else f"{subjects['number']} {subjects['kind']}")
    counts = seen.classes.values()
    return f"{len(counts)} classes, {min(counts)} to {max(counts)} images each"


def _skipped(skipped: Mapping[str, int]) -> str:
    return "; ".join(f"{count} ({markdown(reason)})" for reason, count in sorted(skipped.items())) or "none"


def _sampling(line: Mapping[str, Any]) -> str:
    values = [line.get(name) for name in ("guidance", "steps", "sampler")]
    return "" if all(value is None for value in values) else markdown(", ".join(map(str, values)))


def _versions(line: Mapping[str, Any]) -> str:
    return markdown(", ".join(f"{name} {version}" for name, version in sorted((line["versions"] or {}).items())))


FACTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "Generator": lambda line: code(line["generator"]),
    "Model": _model,
    "License of the model": _license,
    "Safety checker": _safety,
    "Guidance, steps, sampler": _sampling,
    "Versions": _versions,
}
"""Facts of the card that are read from each manifest line."""
