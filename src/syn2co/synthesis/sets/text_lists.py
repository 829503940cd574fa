"""Lists of texts from files: class names and captions, kept compactly and refused with a line number.

Axis letters: N texts.
"""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from syn2co.core.errors import ConfigError, DataError
from syn2co.core.json_files import parse_json
from syn2co.core.progress import note

COLUMNS = ("caption", "text")
SYNSET = re.compile(r"n\d{8}")
_NO_NAME = re.compile(r"""[\[{]\s*['"]|PK\x03\x04""")
"""Begin of a line of JSON, of a list of Python, and of a spreadsheet."""
_NAMED_SYNSET = re.compile(r"n\d{8} +\S")
_NUMBER_AND_NAME = re.compile(r"\d+[:.),]? +\S")


class ClassName(NamedTuple):
    """A class: the text that it is keyed by, its name in the manifest, and what prompts call it."""

    text: str
    key: str
    name: str
    gloss: str


class TextList:
    """Texts in one block of bytes and an array of places: millions of captions without as many Python objects."""

    def __init__(self, texts: Iterable[str]) -> None:
        block, ends = bytearray(), [0]
        for text in texts:
            block += text.encode()
            ends.append(len(block))
        self._block, self._ends = bytes(block), np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> str:
        return self._block[self._ends[number] : self._ends[number + 1]].decode()


def digest_of(texts: Iterable[str]) -> str:
    """Return 32 hex digits of the texts in their order."""
    hasher = blake2b(digest_size=16)
    for text in texts:
        data = text.encode()
        hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.hexdigest()


def first_twice(texts: Sequence[str] | TextList, name: Callable[[int], str]) -> str | None:
    """Return "NAME and NAME" of two equal texts, or None; 8 bytes a text are kept."""
    hashes = np.fromiter(
        (int.from_bytes(blake2b(texts[i].encode(), digest_size=8).digest(), "little") for i in range(len(texts))),
        np.uint64,
        len(texts),
    )
    order = np.argsort(hashes, kind="stable")
    for position in np.flatnonzero(hashes[order][1:] == hashes[order][:-1]):
        one, other = int(order[position]), int(order[position + 1])
        if texts[one] == texts[other]:
            return f"{name(one)} and {name(other)}"
    return None


def read_captions(path: str) -> TextList:
    """Return the captions of a text, JSONL, CSV or TSV file.

    Raises:
        DataError: if the file is missing or empty, or a caption is missing, empty or given twice.
    """
    captions = TextList(_captions(Path(path)))
    what = f"captions = {Path(path).name}"
    if not len(captions):
        raise DataError(f"{what}: holds no caption; give at least one")
    twice = first_twice(captions, lambda number: f"caption {number + 1}")
    if twice:
        raise DataError(f"{what}: {twice} are the same; keep one, and raise per_subject for more images of it")
    return captions


def _captions(path: Path) -> Iterator[str]:
    suffix = path.suffix.lower()
    if suffix == ".json":
        raise DataError(
            f"captions = {path.name}: one JSON value is not read as captions; write one caption per line, or .jsonl "
            'with one {"caption": ...} per line'
        )
    lines = _lines(path, "captions")
    texts: Iterable[str | None] = (text for _, text in lines)
    if suffix in (".csv", ".tsv"):
        texts = _table(path, lines, "\t" if suffix == ".tsv" else ",")
    elif suffix == ".jsonl":
        texts = (_json_caption(path, number, line) for number, line in lines)
    for number, text in enumerate(texts, 1):
        if not text or not text.strip():
            raise DataError(f"captions = {path.name}: caption {number} is empty; remove or fill it")
        yield text.strip()


def _table(path: Path, lines: Iterator[tuple[int, str]], delimiter: str) -> Iterator[str | None]:
    rows = csv.DictReader((line + "\n" for _, line in lines), delimiter=delimiter)
    try:
        column = next((name for name in COLUMNS if name in (rows.fieldnames or ())), None)
    except csv.Error as error:
        raise _no_table(path, rows, error) from None
    if column is None:
        raise DataError(
            f'captions = {path.name}: has no column "caption" or "text" ({", ".join(rows.fieldnames or ())}); name one'
        )
    return _column(path, rows, column)


def _column(path: Path, rows: "csv.DictReader[str]", column: str) -> Iterator[str | None]:
    try:
        for row in rows:
            yield row[column]
    except csv.Error as error:
        raise _no_table(path, rows, error) from None


def _no_table(path: Path, rows: "csv.DictReader[str]", error: csv.Error) -> DataError:
    return DataError(f"captions = {path.name}: line {rows.reader.line_num} cannot be read ({error}); shorten or fix it")


def _json_caption(path: Path, number: int, line: str) -> str:
    try:
        value = parse_json(line)
    except ValueError:
        raise DataError(f"captions = {path.name}: line {number} is not JSON; fix it") from None
    text = value if isinstance(value, str) else None
    if isinstance(value, dict):
        text = next((value[name] for name in COLUMNS if name in value), None)
    if not isinstance(text, str):
        raise DataError(f'captions = {path.name}: line {number} has no text under "caption" or "text"; add it')
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"captions = {path.name}: line {number} holds half a character (a lone surrogate); fix it")
    return text


def read_classes(given: tuple[str, ...] | str) -> list[ClassName]:
    """Return classes from names, from a file of names or synsets, or those of "imagenet-1k".

    A line of a file is a name, a name and a gloss with a tab between them, or an ImageNet synset such as n01440764,
    whose name and gloss come from timm; names behind a space in every line do not count. A number before every name is
    noted and kept. A file may also hold one JSON value: a list of names, an object from synsets to anything, from names
    to their numbers, or from numbers to names (or to a synset and a name).

    Raises:
        DataError: if a file is missing, a class is empty or given twice, or a JSON value has another form.
        ConfigError: if a synset is unknown.
    """
    if given == "imagenet-1k":
        entries = _synsets(())
    else:
        texts = list(given) if isinstance(given, tuple) else _class_lines(Path(given))
        if not texts:
            raise DataError(f"classes = {_short(given)}: holds no class name; give at least one")
        if any(not text.strip() for text in texts):
            number = next(number for number, text in enumerate(texts, 1) if not text.strip())
            raise DataError(f"classes = {_short(given)}: class {number} is empty; remove it")
        entries = _named([text.strip() for text in texts])
    twice = first_twice([entry.key for entry in entries], lambda number: f"class {number + 1}")
    if twice:
        raise DataError(f"classes = {_short(given)}: {twice} are the same; name each class once")
    return entries


def _class_lines(path: Path) -> list[str]:
    """Return one text per class, from lines or from a JSON value."""
    lines = [text for _, text in _lines(path, "classes")]
    value = _json_value(path, "classes", lines)
    names = _plain_lines(path, lines) if value is None else _json_classes(value)
    if names is None:
        raise DataError(
            f"classes = {path.name}: is JSON of another form than a list of names, or an object from synsets, from "
            'names to numbers or from numbers to names; write one class per line, or ["cat", "dog"]'
        )
    return names


def _plain_lines(path: Path, lines: list[str]) -> list[str]:
    """Return one text per class; of ImageNet's LOC_synset_mapping.txt (synset, space, names) the synsets.

    Raises:
        DataError: if the lines are those of a table, of YAML or of JSON, no text, or a comment.
    """
    table = path.suffix.lower() == ".csv" and all("," in line for line in lines)
    if table or path.suffix.lower() in (".yaml", ".yml") or any(map(_NO_NAME.match, lines)):
        raise DataError(
            f'classes = {path.name}: is no list of names; write one class per line, or JSON such as ["cat", "dog"]'
        )
    comment = next((number for number, line in enumerate(lines, 1) if line.lstrip().startswith("# ")), None)
    if comment:
        raise DataError(f"classes = {path.name}: line {comment} begins with #, and comments are not read; remove it")
    if all(map(_NAMED_SYNSET.match, lines)):
        return [line[:9] for line in lines]
    words = [line.split(maxsplit=1) for line in lines]
    counted = [[str(number) for number in range(start, start + len(lines))] for start in (0, 1)]
    if (
        len(lines) > 1
        and all(map(_NUMBER_AND_NAME.match, lines))
        and [word[0].rstrip(":.),") for word in words] in counted
    ):
        note(f"classes = {path.name}: every line begins with its number, which is read as a part of the name")
    return lines


def _json_value(path: Path, setting: str, lines: Sequence[str]) -> Any:
    """Return the one JSON list or object of a file, None for a file of lines."""
    text = "\n".join(lines).strip()
    if path.suffix.lower() != ".json" and not text.startswith(("[", "{")):
        return None
    try:
        value = parse_json(text)
    except ValueError as error:
        if path.suffix.lower() != ".json":
            return None
        raise DataError(f"{setting} = {path.name}: {error}; fix it, or name a text file .txt") from None
    return value


def _json_classes(value: Any) -> list[str] | None:
    """Return the class names of a JSON value in their order, None for an unknown form."""
    if isinstance(value, dict) and value:
        if all(map(SYNSET.fullmatch, value)):
            return list(value)
        numbers = list(value.values())
        if all(type(number) is int for number in numbers):
            value = sorted(value, key=lambda name: value[name])
        elif all(name.isdecimal() for name in value):
            value = [_first_name(value[number]) for number in sorted(value, key=int)]
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    return None


def _first_name(value: Any) -> Any:
    """Return the synset of ["n01440764", "tench"]; another value as it is."""
    return value[0] if isinstance(value, list) and value else value


def _named(texts: Sequence[str]) -> list[ClassName]:
    """Return the classes of lines; one may be a synset and the next a plain name."""
    wanted = [text for text in texts if SYNSET.fullmatch(text)]
    synsets = {entry.key: entry for entry in _synsets(wanted)} if wanted else {}
    return [synsets.get(text) or _plain(text) for text in texts]


def _plain(text: str) -> ClassName:
    name, _, gloss = (part.strip() for part in text.partition("\t"))
    return ClassName(f"{name}: {gloss}" if gloss else name, name, name.replace("_", " "), gloss)


def _synsets(wanted: Sequence[str]) -> list[ClassName]:
    """Return the classes of ImageNet synsets, all 1000 if none is named; a synset is its own key."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo()
    known = set(info.label_names())
    entries = []
    for synset in wanted or info.label_names():
        if synset not in known:
            raise ConfigError(f"classes: {synset} is not among the 1000 ImageNet synsets; give class names instead")
        words, _, gloss = info.label_name_to_description(synset, detailed=True).partition(": ")
        entries.append(ClassName(synset, synset, words.split(",")[0].strip(), gloss.strip()))
    return entries


def _lines(path: Path, setting: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file with their numbers from 1."""
    try:
        with open(path, "rb") as raw:
            wide = raw.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # PowerShell's >
            file = io.TextIOWrapper(raw, encoding="utf-16" if wide else "utf-8-sig")
            for number, line in enumerate(file, 1):
                yield number, line.rstrip("\n")
    except OSError as error:
        raise DataError(f"{setting} = {path.name}: cannot be read ({error.strerror}); correct the path") from None
    except UnicodeDecodeError:
        raise DataError(f"{setting} = {path.name}: is not UTF-8 text; convert it") from None


def _short(given: tuple[str, ...] | str) -> str:
    return f"{len(given)} names" if isinstance(given, tuple) else Path(given).name
