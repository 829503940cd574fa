"""The reference of settings, made from the settings themselves: `syn2co settings` and docs/reference/settings.md."""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from syn2co.audits.settings import AuditSettings
from syn2co.core.errors import ConfigError
from syn2co.core.hints import nearest
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.pretraining.config import Config
from syn2co.synthesis.generators.registry import load_generator
from syn2co.synthesis.sets.settings import SynthesisSettings
from syn2co.synthesis.sets.spec import BUILTIN

_COMMANDS: dict[str, type[BaseModel]] = {
    "generate": SynthesisSettings,
    "evaluate": EvaluationSettings,
    "audit": AuditSettings,
}
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "multiple_of": "a multiple of"}


class Setting(NamedTuple):
    """One setting as the reference shows it."""

    name: str
    """As `--set` takes it, such as "queue.size"."""
    kind: str
    """Type and bounds, such as "int > 0"."""
    default: str
    """As JSON writes it; long values are cut."""
    meaning: str
    """Description of the setting, on one line."""


def settings(name: str | None = None) -> tuple[Setting, ...]:
    """Return settings with their type, default and meaning.

    Args:
        name: a setting ("queue.size") or a group ("queue") of `pretrain`; "generate", "evaluate" or "audit" for those
            of that command; or a generator ("flow") for its options. None: all settings of `pretrain`.

    Returns:
        The settings in the order of their classes.

    Raises:
        ConfigError: if nothing has that name; with the nearest one.

    Example:
        >>> settings("queue.size")[0].kind
        'int > 0'
    """
    training = tuple(_settings_of(Config))
    if name is None:
        return training
    if name in _COMMANDS:
        return tuple(_settings_of(_COMMANDS[name]))
    if name in BUILTIN:
        return tuple(_settings_of(load_generator(name).options, "options."))
    every = [*training, *(setting for kind in _COMMANDS.values() for setting in _settings_of(kind))]
    chosen = tuple(setting for setting in every if setting.name == name or setting.name.startswith(f"{name}."))
    if not chosen:
        groups = [setting.name.partition(".")[0] for setting in every if "." in setting.name]
        known = [*_COMMANDS, *BUILTIN, *dict.fromkeys(groups), *(setting.name for setting in every)]
        raise ConfigError(f"settings {name}: there is no setting or group of this name{nearest(name, known)}")
    return chosen


def _settings_of(kind: type[BaseModel], prefix: str = "") -> Iterator[Setting]:
    for name, field in kind.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _settings_of(annotation, f"{prefix}{name}.")
        else:
            meaning = " ".join((field.description or "").split())
            yield Setting(prefix + name, _kind(field), _plain(field.get_default(call_default_factory=True)), meaning)


def _kind(field: FieldInfo) -> str:
    """Return a type as people read it: without modules and wrappers, with its bounds behind it."""
    text = field.annotation.__name__ if isinstance(field.annotation, type) else str(field.annotation)
    if isinstance(field.annotation, type) and getattr(field.annotation, "__args__", None):
        text = str(field.annotation)
    text = re.sub(r"typing\.|syn2co(\.\w+)+\.", "", text)
    text = re.sub(r"Annotated\[(\w+), FieldInfo\([^()]*(\([^()]*\)[^()]*)*\)\]", r"\1", text)
    text = re.sub(r"Annotated\[(\w+), BeforeValidator\(.*?\)\]", r"number or \1", text).replace("NoneType", "None")
    text = re.sub(r"Union\[(.*)\]", lambda match: match[1].replace("], Literal[", ", "), text)
    if text.startswith("Literal["):
        text = text.removeprefix("Literal[").removesuffix("]").replace("'", "").replace(", ", " | ")
    optional = text.startswith("Optional[") or text.endswith(" | None")
    text = text.removeprefix("Optional[").removesuffix("]") if text.startswith("Optional[") else text
    text = text.removesuffix(" | None")
    bounds = [
        f"{words} {getattr(bound, key):g}"
        for bound in [*field.metadata, *_inner_bounds(field.annotation)]
        for key, words in _BOUNDS.items()
        if hasattr(bound, key)
    ]
    return " ".join([text, ", ".join(bounds)]).strip() + (" or null" if optional else "")


def _inner_bounds(annotation: Any) -> Iterator[Any]:
    """Yield the bounds of the one type in an Optional, or of the items of a tuple."""
    for part in get_args(annotation):
        if get_origin(part) is Annotated:
            for bound in get_args(part)[1:]:
                yield from getattr(bound, "metadata", ())
            return


def _plain(value: Any) -> str:
    """Return a default as JSON would write it; a long mapping or list is cut."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
