"""Writes the pages of docs/reference that follow from the code: settings, commands, Python names.

python tools/reference.py            # writes the pages
python tools/reference.py --check    # exit status 1 if a page is not what the code says
"""

import argparse
import ast
import functools
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import click

from syn2co.cli.main import cli
from syn2co.data.settings import MixSchedule
from syn2co.pretraining.config import Config
from syn2co.reports.reference import Setting, settings
from syn2co.synthesis.sets.spec import BUILTIN

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
FOLDER = ROOT / "docs" / "reference"
PACKAGES = ("syn2co", "syn2co.synthesis", "syn2co.objective")
"""Packages whose public names are promised; the first package that has a name shows it."""
WIDTH = 100
"""Columns of a signature on one line."""
TABLES = {
    "Config": "pretrain",
    "SynthesisSettings": "generate",
    "EvaluationSettings": "evaluate",
    "AuditSettings": "audit",
}
"""Where settings.md has the fields of a class."""
ABOUT = {
    "evaluate": "Class: `syn2co.EvaluationSettings`. Some are options of their own, such as `--seed`; `--set "
    "few_shot.draws=3` changes any.",
    "audit": "Class: `syn2co.AuditSettings`; on the command line each is an option of its own.",
}
"""What settings.md says of the settings of a command above their table."""
NOTE = "<!-- Written by tools/reference.py from the code; change the code, then `make reference`. -->"


class Name(NamedTuple):
    """One public name."""

    name: str
    """As it is imported, such as "syn2co.audit"."""
    home: str
    """The module that defines it."""
    signature: str
    text: str
    """The first paragraph of its docstring."""
    example: str
    details: tuple[str, ...]
    """A line for each argument that the docstring explains, then what is returned and raised."""
    methods: tuple[tuple[str, str], ...]
    """Signature and first sentence of each public method, for a class."""
    returned: tuple[tuple[str, str], ...] = ()
    """Module and name of each class of ours that a function returns."""


def pages() -> dict[str, str]:
    """Return the text of each generated page by its file name."""
    return {"settings.md": settings_page(), "commands.md": commands_page(), "python.md": python_page()}


def settings_page() -> str:
    """Return the page of all settings, a table for each group."""
    lines = [
        "# Settings",
        "",
        NOTE,
        "",
        "`--set NAME=VALUE` changes one setting; values are JSON or text. It takes the settings of",
        "[pretrain](#pretrain) in `syn2co pretrain`, `study`, `demo` and `estimate`, those of [generate](#generate)",
        "in `generate`, `plan` and `replay`, and those of [evaluate](#evaluate) in `evaluate`. `--evaluation` of",
        "`study` takes the latter too. `syn2co settings NAME` prints the same lines. The defaults are those of the",
        "classes; a recipe has its own, which `syn2co recipes NAME --json` prints.",
        "",
        "## pretrain",
        "",
        "Classes: `syn2co.Config` and its groups.",
    ]
    groups: dict[str, list[Setting]] = {}
    for setting in settings():
        groups.setdefault(setting.name.rpartition(".")[0], []).append(setting)
    for group, found in groups.items():
        lines += ["", f"### {group or 'top level'}", "", *_settings_table(found)]
        if group == "mix":
            lines += ["", *_schedule()]
        lines += _presets(group)
    lines += ["", "## generate", "", "Class: `syn2co.SynthesisSettings`.", "", *_settings_table(settings("generate"))]
    for name in BUILTIN:
        lines += ["", f"### generate: the {name} generator", "", *_settings_table(settings(name))]
    for name, about in ABOUT.items():
        lines += ["", f"## {name}", "", about, "", *_settings_table(settings(name))]
    return _page(lines)


def _settings_table(found: Iterable[Setting]) -> list[str]:
    rows = [(f"`{one.name}`", one.kind, f"`{one.default}`" if one.default else "", one.meaning) for one in found]
    return _table(("name", "type", "default", "meaning"), rows)


def _presets(group: str) -> list[str]:
    """Return the presets of a group of settings of `pretrain`, a line for each."""
    field = Config.model_fields.get(group)
    presets = getattr(field.annotation, "PRESETS", {}) if field is not None else {}
    if not presets:
        return []
    lines = []
    for name, values in presets.items():
        changes = (f"`{setting}={json.dumps(value)}`" for setting, value in values.items())
        lines.append(f"- `--set {group}={name}`: {', '.join(changes)}")
    return ["", "Presets, which leave all other settings of the group as they are:", "", *lines]


def _schedule() -> list[str]:
    """Return the fields of a schedule, which `--set` takes as one JSON object."""
    rows = []
    for name, field in MixSchedule.model_fields.items():
        default = "" if field.is_required() else "null" if field.default is None else str(field.default)
        rows.append((f"`{name}`", f"`{default}`" if default else "", " ".join((field.description or "").split())))
    return [
        'A schedule is a JSON object, such as `--set \'mix.ratio={"kind": "linear", "start": 0.8, "stop": 0.2,'
        ' "epochs": 50}\'`:',
        "",
        *_table(("field", "default", "meaning"), rows),
    ]


def commands_page() -> str:
    """Return the page of all commands, in the order of `syn2co --help`."""
    lines = [
        "# Commands",
        "",
        NOTE,
        "",
        "Each command is one call of the function of its name in [`syn2co`](python.md). `python -m syn2co` is the same",
        "program, for torchrun.",
        "",
        *_table(
            ("exit status", "meaning"),
            (
                ("0", "the work is done; `doctor` ends with 0 whatever it finds"),
                ("1", "cells of a `study` failed, or the reader of the output of any command has gone"),
                ("2", "an error, whose message says what to do, or a check of a set that did not pass"),
                ("130, 143", "Ctrl-C; SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2; everything is saved"),
            ),
        ),
        "",
        *_table(
            ("command", "meaning"), [(f"[{name}](#syn2co-{name})", _summary(found)) for name, found in _commands()]
        ),
    ]
    for name, found in _commands():
        lines += ["", *_command(name, found)]
    return _page(lines)


def _commands() -> list[tuple[str, click.Command]]:
    context = click.Context(cli)
    found = ((name, cli.get_command(context, name)) for name in cli.list_commands(context))
    return [(name, command) for name, command in found if command is not None]


def _summary(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "").partition("\n\n")[0].replace("\n", " ")


def _command(name: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=f"syn2co {name}")
    usage = " ".join([f"syn2co {name}", *command.collect_usage_pieces(context)])
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            rows.append((f"`{record[0]}`", " ".join(record[1].split())))
    return [
        f"## syn2co {name}",
        "",
        "```",
        usage,
        "```",
        "",
        *inspect.cleandoc(command.help or "").replace("\b\n", "").splitlines(),
        "",
        *_table(("option", "meaning"), rows),
        "",
        f"Library: [`syn2co.{name}`](python.md#syn2co{name}).",
    ]


def python_page() -> str:
    """Return the page of the public names of `PACKAGES`, read from the source without importing it."""
    lines = [
        "# Python names",
        "",
        NOTE,
        "",
        "The names listed here are promised: a change of one is named in the changelog. Everything else may change",
        "without notice. Names are imported on first use, so that `import syn2co` takes milliseconds.",
    ]
    shown: dict[str, str] = {}
    returned: dict[str, tuple[str, str]] = {}
    for package in PACKAGES:
        names = list(public_names(package))
        lines += ["", f"## {package}"]
        repeated = [
            f"`{one.name}` is [`{shown[one.home]}`](#{_anchor(shown[one.home])})" for one in names if one.home in shown
        ]
        if repeated:
            lines += ["", "; ".join(repeated) + "."]
        for one in names:
            if one.home not in shown:
                shown[one.home] = one.name
                lines += ["", *_name(one)]
                returned |= {f"{module}.{name}": (module, name) for module, name in one.returned}
    lines += [
        "",
        "## Results",
        "",
        "Classes that the functions return. What is listed of them is promised, the module that defines one is not.",
    ]
    for home in sorted(returned.keys() - shown.keys(), key=lambda home: home.rpartition(".")[2]):
        lines += ["", *_result(*returned[home])]
    return _page(lines)


def _result(module: str, name: str) -> list[str]:
    """Return the lines on a class that a function returns: its fields, properties and methods."""
    found = _class(module, name)
    text = re.split(r"\n\n(?:Args|Example):\n", inspect.cleandoc(ast.get_docstring(found) or ""))[0]
    lines, fields = [f"### {name}", "", *text.splitlines()], list(_fields(found))
    for base in (ast.unparse(base) for base in found.bases):
        home = dict(_ours(module)).get(base)
        fields = [*(_fields(_class(*home)) if home else ()), *fields]
    if fields:
        lines += ["", *(f"- `{signature}`{f': {meaning}' if meaning else ''}" for signature, meaning in fields)]
    methods = [(signature, text) for signature, text in _methods(found) if text]
    if methods:
        lines += ["", *(f"- `{signature}`: {text}" for signature, text in methods)]
    return lines


def _fields(found: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield each field of a class with the text below it."""
    for place, node in enumerate(found.body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_"):
            yield f"{node.target.id}: {_text(node.annotation)}", " ".join(_after(found.body, place).split())


def _class(module: str, name: str) -> ast.ClassDef:
    """Return the definition of a class of ours."""
    for node in _parsed(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    raise SystemExit(f"{module}.{name}: is not defined there")


def _ours(module: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield each name of our own that a module defines or imports, with the module that defines it."""
    for node in ast.walk(_parsed(module)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("syn2co."):
            yield from ((alias.asname or alias.name, (node.module, alias.name)) for alias in node.names)
        elif isinstance(node, ast.ClassDef):
            yield node.name, (module, node.name)


@functools.cache
def _parsed(module: str) -> ast.Module:
    path = SOURCE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def _anchor(name: str) -> str:
    """Return the anchor of a heading `name`, as GitHub makes it."""
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter in "-_")


def _name(one: Name) -> list[str]:
    lines = [f"### {one.name}", "", "```python", *one.signature.splitlines(), "```", "", one.text]
    if one.details:
        lines += ["", *one.details]
    if one.name.rpartition(".")[2] in TABLES:
        group = TABLES[one.name.rpartition(".")[2]]
        lines += ["", f"Its fields are the settings of [{group}](settings.md#{group})."]
    if one.methods:
        lines += ["", *(f"- `{signature}`: {text}" for signature, text in one.methods)]
    if one.example:
        lines += ["", "```python", *one.example.splitlines(), "```"]
    return lines


def public_names(package: str) -> Iterator[Name]:
    """Yield the names that a package imports into its `__init__.py`, in alphabetical order."""
    folder = SOURCE.joinpath(*package.split("."))
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    homes = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("syn2co.")
        for alias in node.names
    }
    for name in sorted(homes, key=lambda text: (text.strip("_").lower(), text)):
        module, own = homes[name]
        yield _describe(f"{package}.{name}", module, own)


def _describe(name: str, module: str, own: str) -> Name:
    """Return a public name as its module defines it."""
    source = SOURCE.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    body = ast.parse(source).body
    home = f"{module}.{own}"
    for place, node in enumerate(body):
        if isinstance(node, ast.FunctionDef) and node.name == own:
            known, returns = dict(_ours(module)), node.returns or ast.Constant(None)
            classes = (known[at.id] for at in ast.walk(returns) if isinstance(at, ast.Name) and at.id in known)
            words = _words(ast.get_docstring(node))
            return Name(name, home, _signature(name, node), *words, (), tuple(classes))
        if isinstance(node, ast.ClassDef) and node.name == own:
            return Name(name, home, _class_signature(name, node), *_words(ast.get_docstring(node)), _methods(node))
        if isinstance(node, ast.Assign) and any(isinstance(at, ast.Name) and at.id == own for at in node.targets):
            value = ast.get_source_segment(source, node.value)
            return Name(name, home, f"{name} = {value}", *_words(_after(body, place)), ())
    raise SystemExit(f"{name}: is not defined in {module}")


def _after(body: list[ast.stmt], place: int) -> str:
    """Return the text that stands below an assignment."""
    for node in body[place + 1 : place + 2]:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return str(node.value.value)
    return ""


def _words(text: str | None) -> tuple[str, str, tuple[str, ...]]:
    """Return the first paragraph of a docstring on one line, its example, and a line for each detail."""
    text = inspect.cleandoc(text or "")
    _, found, example = text.partition("\nExample:\n")
    example = inspect.cleandoc(f"\n{example}").split("\n\n")[0] if found else ""
    return " ".join(text.split("\n\n")[0].split()), example, tuple(_details(text))


def _details(text: str) -> Iterator[str]:
    """Yield a line for each entry below Args, Returns and Raises of a docstring; further lines of one are indented."""
    for title, body in re.findall(r"^(Args|Returns|Raises):\n((?:(?: .*)?\n)+)", f"{text}\n", re.MULTILINE):
        body = textwrap.dedent(body).strip()
        for entry in [body] if title == "Returns" else re.split(r"\n(?=\S)", body):
            name, colon, meaning = " ".join(entry.split()).partition(": ")
            if title == "Returns" or not colon:
                yield f"- {title}: {' '.join(entry.split())}"
            else:
                yield f"- {'Raises ' * (title == 'Raises')}`{name}`: {meaning}"


def _signature(name: str, function: ast.FunctionDef, *, bound: bool = False) -> str:
    """Return a call of a function as its `def` line spells it, over several lines if it is long."""
    pieces = list(_arguments(function.args))[bound:]
    returns = f" -> {_text(function.returns)}" if function.returns is not None else ""
    return _call(name, pieces, returns)


def _call(name: str, pieces: list[str], returns: str) -> str:
    line = f"{name}({', '.join(pieces)}){returns}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {piece}," for piece in pieces), f"){returns}"])


def _arguments(given: ast.arguments) -> Iterator[str]:
    """Yield each argument with its annotation and default, and the star before named ones."""
    placed = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(placed) - len(given.defaults)) + list(given.defaults)
    for argument, default in zip(placed, defaults, strict=True):
        yield _argument(argument, default)
    if given.vararg is not None:
        yield f"*{_argument(given.vararg, None)}"
    elif given.kwonlyargs:
        yield "*"
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield _argument(argument, default)
    if given.kwarg is not None:
        yield f"**{_argument(given.kwarg, None)}"


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f": {_text(argument.annotation)}" if argument.annotation is not None else ""
    value = "" if default is None else f" = {_text(default)}" if kind else f"={_text(default)}"
    return f"{argument.arg}{kind}{value}"


def _text(node: ast.expr) -> str:
    """Return an expression as the source spells it; an annotation in quotes without them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and "|" in node.value:
        return node.value
    return ast.unparse(node).replace("'", '"')


def _class_signature(name: str, found: ast.ClassDef) -> str:
    """Return how a class is made: by its `__init__`, or by its fields."""
    for node in found.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return _signature(name, node, bound=True).removesuffix(" -> None")
    if any(ast.unparse(base) == "Settings" for base in found.bases):
        return f"{name}(**settings)"
    fields = [
        _argument(ast.arg(node.target.id, node.annotation), _default(node.value))
        for node in found.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_")
    ]
    return _call(name, fields, "")


def _default(value: ast.expr | None) -> ast.expr | None:
    """Return the default of a field of a dataclass, `field(default_factory=dict)` as `dict()`."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "field":
        return ast.Call(value.keywords[0].value, [], [])
    return value


def _methods(found: ast.ClassDef) -> tuple[tuple[str, str], ...]:
    methods = []
    for node in found.body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        kinds = {item.id for item in node.decorator_list if isinstance(item, ast.Name)}
        text = _words(ast.get_docstring(node))[0]
        text = text.partition(". ")[0].rstrip(".") + "." if text else ""
        bound = "staticmethod" not in kinds
        signature = node.name if "property" in kinds else " ".join(_signature(node.name, node, bound=bound).split())
        methods.append((signature.replace("( ", "(").replace(",)", ")").replace(", )", ")"), text))
    return tuple(methods)


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    body = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (list(titles), ["---"] * len(titles), *body)]


def _page(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is stale")
    chosen = parser.parse_args()
    found = pages()
    stale = [
        name
        for name, text in found.items()
        if not (FOLDER / name).exists() or (FOLDER / name).read_text(encoding="utf-8") != text
    ]
    for name in stale if not chosen.check else ():
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_text(found[name], encoding="utf-8", newline="\n")
    if stale:
        print(f"docs/reference: {', '.join(stale)} {'stale; run make reference' if chosen.check else 'written'}")
    else:
        print("docs/reference: up to date")
    sys.exit(bool(stale and chosen.check))


if __name__ == "__main__":
    main()
