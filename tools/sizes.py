"""Sizes of the code that `docs/architecture.md` promises: lines, functions, arguments, circles, the largest package.

python tools/sizes.py          # prints them; exit status 1 if a promise is broken
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median
from typing import NamedTuple

SOURCE = Path(__file__).resolve().parents[1] / "src" / "syn2co"
LONGEST, ARGUMENTS, SHARE, LOOP = 45, 8, 0.25, 60


class Function(NamedTuple):
    """One function: where it stands, its lines without the docstring, its arguments without self and cls."""

    where: str
    lines: int
    arguments: int


def functions(path: Path) -> Iterator[Function]:
    """Yield every function of a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
            lines = (node.end_lineno or 0) - node.lineno + 1
            if text is not None:
                lines -= (text.end_lineno or 0) - text.lineno + 1
            given = node.args
            names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            where = f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}"
            yield Function(where, lines, len([name for name in names if name not in ("self", "cls")]))


def imports(path: Path, modules: set[str]) -> Iterator[str]:
    """Yield the modules of the package that a module imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("syn2co"):
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield whole if whole in modules else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("syn2co"))


def circle(files: dict[str, Path]) -> list[str]:
    """Return a circle of imports, empty if there is none."""
    graph = {name: set(imports(path, set(files))) - {name} for name, path in files.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def main() -> None:
    paths = sorted(SOURCE.rglob("*.py"))
    parts = {path: path.relative_to(SOURCE.parent).with_suffix("").parts for path in paths}
    names = {path: ".".join(part[:-1] if part[-1] == "__init__" else part) for path, part in parts.items()}
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    every = [function for path in paths for function in functions(path)]
    packages: Counter[str] = Counter()
    for path, count in lines.items():
        packages[path.relative_to(SOURCE).parts[0]] += count
    total = sum(lines.values())
    classes = Counter(
        node.name
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    print(f"files {len(paths)}, lines {total}, median file {median(lines.values()):g}, longest {max(lines.values())}")
    print(f"functions {len(every)}, median {median(function.lines for function in every):g} lines")
    print("packages: " + ", ".join(f"{name} {100 * count / total:.0f} %" for name, count in packages.most_common()))
    broken = [f"{f.where}: {f.lines} lines" for f in every if f.lines > LONGEST]
    broken += [f"{f.where}: {f.arguments} arguments" for f in every if f.arguments > ARGUMENTS]
    broken += [
        f"package {name}: {100 * count / total:.0f} % of the lines"
        for name, count in packages.items()
        if count > SHARE * total and name != "synthesis"
    ]
    broken += [f"class {name}: {count} times" for name, count in classes.items() if count > 1]
    broken += [
        f"{path.name}: a loose module" for path in SOURCE.glob("*.py") if path.stem not in ("__init__", "__main__")
    ]
    broken += [f"circle: {' -> '.join(found)}"] if (found := circle({names[path]: path for path in paths})) else []
    loop = lines[SOURCE / "pretraining" / "loop.py"]
    broken += [f"the loop: {loop} lines"] if loop > LOOP else []
    print("\n".join(broken) or "every promise is kept")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
