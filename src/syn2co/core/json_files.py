"""JSON that others may have written: bounded in size and depth, and held against the shape that its reader needs."""

import errno
import json
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, RootModel, ValidationError

LARGEST = 2**28
"""Most bytes of a file that is read whole."""
DEEPEST = 64
"""Most lists and objects inside each other."""
LONGEST_LINE = 2**24
"""Most bytes of a line of a file of lines."""


class JsonObject(RootModel[dict[str, Any]]):
    """Shape of any JSON object.

    Example:
        >>> parse_json("[]", JsonObject)
        Traceback (most recent call last):
        ...
        syn2co.core.json_files.JsonError: does not fit: input should be a valid dictionary
    """


class JsonError(ValueError):
    """A text that is no JSON, too large, too deep, or of another shape; the message is the rest of a sentence."""


def parse_json(
    text: str | bytes,
    shape: type[BaseModel] | None = None,
    *,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """Return the plain value of a JSON text.

    Args:
        text: JSON; bytes are UTF-8.
        shape: a model that the value must fit, without conversion: 1 fits a float, "1" no number. The plain value comes
            back, not the model.
        pairs: called with the names and values of each object, in place of `dict`.

    Raises:
        JsonError: with what is wrong, as the rest of a sentence that begins with the file.

    Example:
        >>> parse_json(b'{"step": 3}'), parse_json("[1, 2.5, null]")
        ({'step': 3}, [1, 2.5, None])
        >>> parse_json("[" * 100_000)
        Traceback (most recent call last):
        ...
        syn2co.core.json_files.JsonError: is nested deeper than 64 levels
    """
    if len(text) > LARGEST:
        raise JsonError(f"is larger than {LARGEST >> 20} MiB")
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        value = json.loads(text, object_pairs_hook=pairs)
    except UnicodeDecodeError:
        raise JsonError("is not UTF-8 text") from None
    except RecursionError:
        raise JsonError(f"is nested deeper than {DEEPEST} levels") from None
    except ValueError as error:  # not JSON, or an integer of more digits than Python converts
        raise JsonError(f"is not JSON ({error})") from None
    if text.count("[") + text.count("{") > DEEPEST and _deeper(value, DEEPEST):
        raise JsonError(f"is nested deeper than {DEEPEST} levels")
    return value if shape is None else check_shape(value, shape)


def check_shape(value: Any, shape: type[BaseModel]) -> Any:
    """Return a plain value that fits a model, without conversion.

    Args:
        value: as JSON has it: 1 fits a float, "1" no number.
        shape: the model; the value comes back, not the model.

    Raises:
        JsonError: naming the first part that does not fit, as the rest of a sentence.

    Example:
        >>> class Line(BaseModel):
        ...     step: int
        >>> check_shape({"step": "3"}, Line)
        Traceback (most recent call last):
        ...
        syn2co.core.json_files.JsonError: does not fit: step: input should be a valid integer
    """
    try:
        shape.model_validate(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = "".join(f"{part}: " for part in first["loc"][:4])
        raise JsonError(f"does not fit: {path}{first['msg'][0].lower()}{first['msg'][1:]}") from None
    return value


def read_json(path: Path, shape: type[BaseModel] | None = None) -> Any:
    """Return the plain value in a JSON file.

    Args:
        path: a plain file; a pipe or a device is never opened, since it may never end.
        shape: a model that the value must fit, as for `parse_json`.

    Raises:
        OSError: if it cannot be read, or is no plain file.
        JsonError: with what is wrong, as the rest of a sentence that begins with the file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "facts.json").write_text('{"step": 3}')
        ...     read_json(Path(folder, "facts.json"))
        {'step': 3}
    """
    refuse_special(path)
    with open(path, "rb") as file:
        return parse_json(file.read(LARGEST + 1), shape)


def read_json_lines(path: Path, shape: type[BaseModel] | None = None) -> Iterator[Any]:
    """Yield the plain value of each line of a file, or the `JsonError` of a line that has none.

    Args:
        path: a plain file, as for `read_json`.
        shape: a model that each value must fit, as for `parse_json`.

    Raises:
        OSError: if it cannot be read, or is no plain file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "lines.jsonl").write_text('{"step": 3}\\n{"st')
        ...     [type(line).__name__ for line in read_json_lines(Path(folder, "lines.jsonl"))]
        ['dict', 'JsonError']
    """
    refuse_special(path)
    with open(path, "rb") as file:
        while line := file.readline(LONGEST_LINE):
            try:
                yield parse_json(line, shape)
            except JsonError as error:
                yield error


def refuse_special(path: Path) -> None:
    """Raise the system's error if a path is no plain file: a folder, a pipe, a device.

    Args:
        path: links are followed.

    Raises:
        OSError: if it is not there, or is something else.

    Example:
        >>> refuse_special(Path("/dev/null"))
        Traceback (most recent call last):
        ...
        OSError: [Errno 22] no plain file: '/dev/null'
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "no plain file", str(path))


def _deeper(value: Any, most: int) -> bool:
    """Return whether lists and objects are nested deeper than `most`."""
    level = _nested([value])
    for _ in range(most):
        level = [inner for outer in level for inner in _nested(outer.values() if isinstance(outer, dict) else outer)]
    return bool(level)


def _nested(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]
