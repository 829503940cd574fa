"""Strict, frozen groups of settings: from JSON and "a.b=c" to values, with one sentence for whatever is wrong."""

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from syn2co.core.errors import ConfigError
from syn2co.core.hints import nearest, shortened
from syn2co.core.json_files import JsonError, parse_json, refuse_special
from syn2co.core.urls import without_secrets

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0)]
_LARGEST = 2**26
"""Most bytes of a file of settings."""


def one_or_many(values: str | Path | Iterable[str | Path]) -> tuple[str, ...]:
    """Return one text or path, or several, as a tuple of texts, without the secrets of URLs (`core.urls`).

    Args:
        values: a single name is one value, never its letters.

    Example:
        >>> one_or_many("photos"), one_or_many(["cats", "dogs"])
        (('photos',), ('cats', 'dogs'))
    """
    listed = [values] if isinstance(values, str | Path) else values
    return tuple(without_secrets(str(value)) for value in listed)


class Settings(BaseModel):
    """A frozen group of settings that refuses unknown names; a generator's own `Options` inherit from it.

    The string below a field is its description, which `syn2co settings` shows. A setting of several texts
    (`tuple[str, ...]`) takes a single one, and paths.

    Example:
        >>> class Options(Settings):
        ...     squares: int = 8
        >>> Options().with_settings(["squares=4"])
        Options(squares=4)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named values of some settings of the group: where it is a group of others, "group=name" assigns these alone."""

    @model_validator(mode="before")
    @classmethod
    def _one_or_many(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        several = {name for name, field in cls.model_fields.items() if field.annotation == tuple[str, ...]}
        return {name: _texts(value) if name in several else value for name, value in values.items()}

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)
        several = value if isinstance(value, list | tuple) else value.values() if isinstance(value, dict) else ()
        if {int, float} & kinds and bool not in kinds:
            if isinstance(value, bool) and not {tuple, list, dict} & kinds:
                raise PydanticCustomError("number_type", "input should be a number")
            if any(isinstance(item, bool) for item in several):
                raise PydanticCustomError("number_type", "input should be numbers, not true or false")
        return value

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, under: str = "") -> Self:
        """Return the settings of nested plain values; what is not named keeps its default.

        Args:
            values: nested mappings, as JSON has them.
            under: prefix of the names in errors, such as "options.".

        Raises:
            ConfigError: naming the setting, the value seen and what is allowed; for an unknown name, the nearest one.
        """
        for path, value in _not_finite(values, under):
            raise ConfigError(f"{path} = {value}: input should be a finite number")
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(_sentence(error, cls, under)) from None
        except UnicodeEncodeError as error:
            text = error.object[error.start : error.end]
            raise ConfigError(f"{text!a}: is half a character; give text that UTF-8 can hold") from None

    def with_settings(self, assignments: str | Iterable[str], *, option: str = "--set") -> Self:
        """Return the settings with each "a.b=value" applied in order.

        Args:
            assignments: one or several, such as "queue.size=1024"; values are JSON, or else plain text. "group=name"
                replaces the settings that a preset of the group names, and leaves its others.
            option: that the user gave them by, for the errors.

        Raises:
            ConfigError: on an assignment without "=", an unknown setting or preset, or a value out of range.
        """
        values = self.model_dump(mode="json")
        free, presets = set(_free_groups(type(self))), dict(_presets(type(self)))
        for assignment in one_or_many(assignments):
            try:
                _assign(values, assignment, free, presets)
            except ConfigError as error:
                raise ConfigError(str(error).replace("--set", option, 1)) from None
        return self.parse(values)


def _kinds(annotation: Any) -> set[type]:
    """Return the plain types that a setting, or what it is a container of, may have."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return {type(part) for part in parts}
    if origin is Annotated:
        return _kinds(parts[0])
    kinds = {kind for kind in (origin or annotation,) if isinstance(kind, type)}
    return kinds.union(*(_kinds(part) for part in parts if not isinstance(part, list)))


def _not_finite(values: Any, path: str) -> Iterator[tuple[str, float]]:
    """Yield the numbers that JSON cannot hold, with their names: a group with keys of its own takes any number."""
    if isinstance(values, float) and not math.isfinite(values):
        yield path, values
    elif isinstance(values, dict | list | tuple):  # asking for Mapping takes a quarter of a second once torch is there
        parts = values.items() if isinstance(values, dict) else enumerate(values)
        for name, part in parts:
            yield from _not_finite(part, f"{path}.{name}" if path and not path.endswith(".") else f"{path}{name}")


def _texts(value: Any) -> Any:
    """Return a text or path, or a list with them, as texts without the secrets of URLs; anything else as it is."""
    if isinstance(value, list | tuple):
        return [without_secrets(str(item)) if isinstance(item, str | Path) else item for item in value]
    return one_or_many(value) if isinstance(value, str | Path) else value


def read_settings(path: str | Path, hint: str, *, leave_out: Collection[str] = ()) -> dict[str, Any]:
    """Return the nested plain values in a JSON file.

    Args:
        path: the file.
        hint: the end of the error's sentence if the file is no JSON: where one comes from.
        leave_out: names at the top level that are not settings, such as a hash.

    Raises:
        ConfigError: if the file cannot be read, or holds something else than one JSON object.
    """
    name = Path(path).name
    try:
        if Path(path).parts[:2] != ("/", "dev"):  # /dev/fd/63 is the <(...) of a shell
            refuse_special(Path(path))
        with open(path, "rb") as file:
            written = file.read(_LARGEST + 1)
        if len(written) > _LARGEST:
            raise ConfigError(f"--config {name}: is larger than {_LARGEST >> 20} MiB; {hint}")
        text = written.decode(json.detect_encoding(written))  # PowerShell writes UTF-16, Notepad a byte-order mark
        values = parse_json(text, pairs=_named_once(f"--config {name}: "))
    except OSError as error:
        raise ConfigError(f"--config {name}: cannot be read ({error.strerror}); give the path of a JSON file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--config {name}: is not JSON (no UTF-8 text); {hint}") from None
    except JsonError as error:
        raise ConfigError(f"--config {name}: {error}; {hint}") from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"--config {name}: must hold one JSON object with the settings, not a {type(values).__name__}"
        )
    return {key: value for key, value in values.items() if key not in leave_out}


def _assign(
    values: dict[str, Any], assignment: str, free: Collection[str], presets: Mapping[str, Mapping[str, Any]]
) -> None:
    path, separator, text = assignment.partition("=")
    path = path.strip()
    if not separator or not path:
        raise ConfigError(f"--set {assignment}: must look like queue.size=1024")
    target = _place(values, path, free)
    if target is None:
        raise ConfigError(f"--set {path}: there is no such setting{nearest(path, _leaves(values))}")
    group, name = target
    value = text.strip() if _is_option_none(path, text, free) else _value(path, text)
    if path in presets and not isinstance(value, dict):
        value = group[name] | _preset(path, text.strip(), presets[path])
    group[name] = value


def _preset(path: str, name: str, presets: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    if name not in presets:
        raise ConfigError(
            f"--set {path}={name}: there is no such preset{nearest(name, presets)} (known are {', '.join(presets)}; "
            f"single settings are {path}.NAME)"
        )
    return presets[name]


def _place(values: dict[str, Any], path: str, free: Collection[str]) -> tuple[dict[str, Any], str] | None:
    """Return the mapping that holds a setting and its name there; a name in a free group may have dots in it."""
    *groups, leaf = path.split(".")
    here = values
    for depth, name in enumerate(groups):
        inner = here.get(name)
        if not isinstance(inner, dict):
            return (here, ".".join([*groups[depth:], leaf])) if ".".join(groups[:depth]) in free else None
        here = inner
    return (here, leaf) if leaf in here or ".".join(groups) in free else None


def setting_names(kind: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted name of every setting of a class of settings.

    Args:
        kind: the class.
        prefix: put before each name, such as "queue.".

    Example:
        >>> class Queue(Settings):
        ...     size: int = 64
        >>> class Run(Settings):
        ...     queue: Queue = Queue()
        ...     seed: int = 0
        >>> setting_names(Run)
        ['queue.size', 'seed']
    """
    names: list[str] = []
    for name, field in kind.model_fields.items():
        group = _group(field.annotation)
        names += [f"{prefix}{name}"] if group is None else setting_names(group, f"{prefix}{name}.")
    return names


def _free_groups(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of the settings that are mappings with keys of their own."""
    for name, field in kind.model_fields.items():
        group = _group(field.annotation)
        if group is not None:
            yield from _free_groups(group, f"{prefix}{name}.")
        elif get_origin(field.annotation) is dict:
            yield f"{prefix}{name}"


def _presets(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Mapping[str, Any]]]]:
    """Yield the dotted name and the presets of each group of settings that has some."""
    for name, field in kind.model_fields.items():
        group = _group(field.annotation)
        if group is not None:
            presets = getattr(group, "PRESETS", {})
            yield from [(f"{prefix}{name}", presets)] if presets else []
            yield from _presets(group, f"{prefix}{name}.")


def _group(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in values.items():
        names += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]
    return names


def _is_option_none(path: str, text: str, free: Collection[str]) -> bool:
    """Return whether a value is the word none in a free group, whose options may have a choice of that name."""
    return text.strip() == "none" and any(path.startswith(f"{group}.") for group in free)


def _value(path: str, text: str) -> Any:
    """Return the JSON value of a text, .5 read as 0.5 and 5. as 5.0, else true, false or none, else the text."""
    for spelling in (text, _POINT.sub(_with_zeros, text)):
        try:
            return parse_json(spelling, pairs=_named_once(f"--set {path}: "))
        except JsonError:
            continue
    lowered = text.strip().lower()
    return {"true": True, "false": False, "none": None}.get(lowered, text.strip())


_POINT = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w.])\.(?=\d)|(?<=\d)\.(?![\w.])')
"""A string in quotes, or the point of a number without a digit before or behind it."""


def _with_zeros(point: re.Match[str]) -> str:
    if point[0] != ".":
        return point[0]
    before, after = point.string[: point.start()], point.string[point.end() :]
    return ("" if before[-1:].isdigit() else "0") + "." + ("" if after[:1].isdigit() else "0")


def _named_once(where: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Return a hook of `json.loads` that refuses a name given twice, of which JSON would keep the last alone."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        for name in values if len(values) < len(pairs) else ():
            if sum(name == other for other, _ in pairs) > 1:
                raise ConfigError(f"{where}{name!r} is named twice in one JSON object; name it once")
        return values

    return once


def _sentence(error: ValidationError, kind: type[BaseModel], under: str) -> str:
    """Return one sentence for the first complaint of pydantic."""
    first, known = error.errors()[0], setting_names(kind)
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{under}{path}: there is no such setting{nearest(under + path, [under + name for name in known])}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{under}{path}: {message}" if path and not message.startswith(path.split(".")[0]) else under + message
    given = first.get("input")
    listed = "tuple" in message.lower() and first["type"] != "too_short"
    if (listed or (first["type"] == "missing" and isinstance(first["loc"][-1], int))) and (
        wanted := _list_wanted(kind, first["loc"])
    ):
        path, message = wanted
    given = json.dumps(given, default=str) if isinstance(given, list | tuple) else given
    plain = str(given).lower() if given is None or isinstance(given, bool) else given
    seen = plain if isinstance(plain, str | int | float) else type(given).__name__
    inner = next((name for name in known if name.startswith(f"{path}.")), None)
    if first["type"] == "model_type" and inner:
        message = f"is a group of settings; name one of them, such as {under}{inner}"
    return f"{under}{path} = {shortened(str(seen))}: {message[0].lower()}{message[1:]}"


def _list_wanted(kind: type[BaseModel], location: Sequence[str | int]) -> tuple[str, str] | None:
    """Return the name of the list of plain values in which an error lies, and how it is written, by its default."""
    names, annotation, default = [], None, None
    for name in location:
        if name not in kind.model_fields:
            break
        field = kind.model_fields[str(name)]
        names.append(str(name))
        annotation, default = field.annotation, field.get_default(call_default_factory=True)
        kind = _group(annotation) or BaseModel
    kinds = _kinds(annotation)
    for item, many, example in ((int, "numbers", (1, 2)), (float, "numbers", (0.5, 1)), (str, "texts", ("a", "b"))):
        if item in kinds:
            values = default or example
            number = "" if "..." in str(annotation) else f"{len(values)} "
            text = json.dumps(values[:5], separators=(",", ":"))
            return ".".join(names), f"must be a list of {number}{many}, such as {text}"
    return None
