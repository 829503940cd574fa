"""Every public name says what its annotation cannot, and shows it by an example that runs."""

import ast
import doctest
import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("syn2co", "syn2co.objective", "syn2co.synthesis")
SOURCE = Path(__file__).parents[2] / "src"
SELF_EXPLAINING = {"progress", "device", "seed", "dtype"}
"""Parameters that mean the same everywhere: their annotation says it all."""


def _homes(package: str) -> dict[str, str]:
    """Return the module that defines each public name of a package, by its `__init__.py`."""
    text = SOURCE.joinpath(*package.split("."), "__init__.py").read_text(encoding="utf-8")
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module for node in imports for alias in node.names if node.module is not None}


def _public() -> dict[str, Any]:
    """Return every public object under the first name that it has."""
    found: dict[str, Any] = {}
    for package in PACKAGES:
        module = import_module(package)
        for name in module.__all__:
            if not any(getattr(module, name) is other for other in found.values()):
                found[f"{package}.{name}"] = getattr(module, name)
    return found


PUBLIC = _public()
FUNCTIONS = {name: found for name, found in PUBLIC.items() if inspect.isfunction(found)}
CLASSES = {name: found for name, found in PUBLIC.items() if inspect.isclass(found)}
CONSTANTS = sorted(PUBLIC.keys() - FUNCTIONS.keys() - CLASSES.keys())


def _sections(docstring: str | None) -> dict[str, str]:
    """Return the indented blocks of a docstring by their titles, the text before the first one as ""."""
    found, title = {"": ""}, ""
    for line in inspect.cleandoc(docstring or "").splitlines():
        if line in ("Args:", "Returns:", "Raises:", "Example:"):
            title = line.removesuffix(":")
            found[title] = ""
        elif line and not line.startswith(" "):
            title = ""
        found[title] += f"{line}\n"
    return found


def _examples(name: str, text: str | None) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(text or "", name)


def _below_assignment(module: str, name: str) -> str | None:
    """Return the string that stands under the assignment of a name in a module."""
    path = SOURCE.joinpath(*module.split(".")).with_suffix(".py")
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node, after in zip(body, body[1:], strict=False):
        targets = node.targets if isinstance(node, ast.Assign) else []
        is_it = any(isinstance(target, ast.Name) and target.id == name for target in targets)
        if is_it and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            return str(after.value.value)
    return None


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_explains_arguments_result_and_use(name: str) -> None:
    function = FUNCTIONS[name]
    sections = _sections(function.__doc__)
    parameters = set(inspect.signature(function).parameters)
    assert sections[""].partition("\n")[0].endswith((".", ":")), "the first line is not a sentence"
    explained = {line.strip().partition(":")[0] for line in sections.get("Args", "").splitlines() if ":" in line}
    assert bool(parameters) == ("Args" in sections)
    if parameters:
        assert explained & parameters, f"Args explains none of {', '.join(parameters)}"
    returns = inspect.signature(function).return_annotation
    assert ("Returns" in sections) == (returns not in (None, "None"))
    assert _examples(name, sections.get("Example")), "there is no example"


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.count(".") == 1])
def test_a_call_of_the_front_door_explains_every_argument(name: str) -> None:
    arguments = _sections(FUNCTIONS[name].__doc__).get("Args", "")
    missing = [
        parameter
        for parameter in inspect.signature(FUNCTIONS[name]).parameters
        if f"    {parameter}: " not in arguments and parameter not in SELF_EXPLAINING
    ]
    assert not missing


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_shows_its_use_and_explains_its_fields(name: str) -> None:
    found = CLASSES[name]
    assert _examples(name, _sections(found.__doc__).get("Example")), "there is no example"
    undescribed = _undescribed(found)
    assert not undescribed, f"{', '.join(undescribed)}: no docstring"


def _undescribed(found: type) -> list[str]:
    """Return the fields of a class without a docstring under them."""
    (definition,) = ast.parse(inspect.getsource(found)).body
    assert isinstance(definition, ast.ClassDef)
    return [
        node.target.id
        for node, after in zip(definition.body, [*definition.body[1:], None], strict=True)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id not in SELF_EXPLAINING
        and not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
    ]


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_is_described_and_used_in_an_example(name: str) -> None:
    package, _, own = name.rpartition(".")
    home = _homes(package)[own]
    assert (_below_assignment(home, own) or "").endswith(".")
    assert any(own in example.source for example in _examples(name, import_module(home).__doc__))


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.usefixtures("few_patches")
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    import torch

    import syn2co

    monkeypatch.chdir(tmp_path)
    package, _, own = name.rpartition(".")
    module = import_module(_homes(package)[own])
    found = module if name in CONSTANTS else PUBLIC[name]
    names = {"torch": torch, "np": np, "syn2co": syn2co, **_names_of(package), **vars(module)}
    finder = doctest.DocTestFinder(exclude_empty=True, recurse=name not in CONSTANTS)
    tests = finder.find(found, name, module=module, globs=names)
    failures = [failure for test in tests for failure in _failures(test)]
    assert not failures, "\n".join(failures)
    examples = [example for test in tests for example in test.examples]
    assert examples and not any(example.options.get(doctest.SKIP) for example in examples)


def _names_of(package: str) -> dict[str, Any]:
    module = import_module(package)
    return {name: getattr(module, name) for name in module.__all__}


def _failures(test: doctest.DocTest) -> list[str]:
    """Return what doctest says of each example of one docstring that fails."""
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append, clear_globs=False)
    return said


def test_a_wrong_example_is_found() -> None:
    """The check can fail: a wrong result and an exception are reported, a right result is not."""
    for source, wrong in (("1 + 1\n2", False), ("1 + 1\n3", True), ("nobody\n2", True)):
        test = doctest.DocTestParser().get_doctest(f">>> {source}\n", {}, "example", None, None)
        assert bool(_failures(test)) == wrong, source
    sections = _sections("One.\n\nArgs:\n    a: b.\n\nSource: c.\n\nExample:\n    >>> 1 + 1\n    2\n")
    assert list(sections) == ["", "Args", "Example"] and "    a: b.\n" in sections["Args"]
    assert "Source" not in sections["Args"] and len(_examples("one", sections["Example"])) == 1
    assert _undescribed(_Described) == ["missing"]


class _Described:
    given: int
    """With a docstring."""
    missing: int
