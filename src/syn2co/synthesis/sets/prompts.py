"""Prompts of class names: weighted templates and backgrounds, chosen by keyed draws."""

import string
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from syn2co.core import keyed_rng

TEMPLATES: dict[str, float] = {
    "{class}": 1.0,
    "{class}, {gloss}": 3.0,
    "{class} inside {background}": 3.0,
    "a photo of a {class}": 0.5,
    "a close-up photo of a {class}": 0.5,
    "a photo of a small {class}, seen from afar": 0.5,
    "a photo of a {class} among others": 0.5,
    "a dark photo of a {class}": 0.25,
    "a bright photo of a {class}": 0.25,
    "a blurry snapshot of a {class}": 0.25,
    "a {class} seen from above": 0.25,
    "a {class}, partly hidden": 0.25,
}
"""Half of the weight on plain words and glosses, a quarter on backgrounds, the rest on ways to take a picture."""
BACKGROUNDS: tuple[str, ...] = (
    "a forest", "a meadow", "a garden", "a park", "a field of snow", "a desert", "a beach", "a river bank", "a swamp",
    "a mountain valley", "a cave", "a vineyard", "a farmyard", "a barn", "a greenhouse", "a city street", "a courtyard",
    "a market hall", "a railway station", "a car park", "a bridge", "a harbour", "a building site", "a factory",
    "a workshop", "a garage", "a laboratory", "a library", "a classroom", "an office", "a museum", "a church",
    "a theatre", "a restaurant", "a kitchen", "a bathroom", "a bedroom", "a living room", "a staircase", "an attic",
    "a shop window", "a sports ground",
)  # fmt: skip
FIELDS = {"class", "gloss", "background"}


def complaint_about(templates: Mapping[str, float], backgrounds: Sequence[str]) -> str | None:
    """Return what is wrong with the templates and backgrounds in one sentence, or None."""
    if not templates:
        return "templates: the list is empty; give at least one, such as {class}"
    for template, weight in templates.items():
        fields = _fields(template)
        if fields is None or not fields <= FIELDS:
            return f"templates.{template}: must name only {{class}}, {{gloss}} and {{background}}; correct the braces"
        if "class" not in fields:
            return f"templates.{template}: does not name {{class}}, so it would say nothing of the class; add it"
        if not weight > 0:
            return f"templates.{template} = {weight:g}: a weight must be above 0; leave the template out instead"
    blank = [background for background in backgrounds if not background.strip()]
    twice = [background for number, background in enumerate(backgrounds) if background in backgrounds[:number]]
    if blank or twice:
        what = f"{twice[0]!r} is given twice; name it once" if twice else "one is empty; remove it"
        return f"backgrounds: {what}"
    if not backgrounds and any("background" in (_fields(template) or ()) for template in templates):
        return "backgrounds: the list is empty and a template names {background}; give some or drop the template"
    return None


def usable_templates(templates: Mapping[str, float], *, gloss: bool) -> dict[str, float]:
    """Return the templates that fit a class with or without a gloss."""
    return {text: weight for text, weight in templates.items() if gloss or "gloss" not in (_fields(text) or ())}


def choose_prompt(
    templates: Mapping[str, float], backgrounds: Sequence[str], *, name: str, gloss: str, key: Sequence[keyed_rng.Key]
) -> str:
    """Return a prompt for a class: a template drawn by weight and a background, both functions of `key`."""
    usable = usable_templates(templates, gloss=bool(gloss))
    draws = keyed_rng.generator("prompt", *key)
    shares = np.cumsum(list(usable.values()))
    position = int(np.searchsorted(shares / shares[-1], draws.random(), side="right"))
    template = list(usable)[min(position, len(usable) - 1)]
    background = backgrounds[int(draws.integers(len(backgrounds)))] if backgrounds else ""
    return template.format(**{"class": name, "gloss": gloss, "background": background})


@cache
def _fields(template: str) -> frozenset[str] | None:
    """Return the names in braces, or None if the braces do not match or hold more than a name."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        return None
    if any(specification or conversion for _, _, specification, conversion in parts):
        return None
    return frozenset(name for _, name, _, _ in parts if name is not None)
