"""One text or path in place of several, wherever several are taken: every public function, every setting."""

import inspect
import json
import typing
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

import syn2co
from syn2co.core.errors import ConfigError
from syn2co.core.settings import Settings
from syn2co.images.image_set import ImageSet
from syn2co.synthesis.generation.plan import open_real

FUNCTIONS = {name: getattr(syn2co, name) for name in syn2co.__all__ if inspect.isfunction(getattr(syn2co, name))}


def _several(hint: object) -> bool:
    """Return whether an annotation takes a sequence of texts or paths."""
    return any(
        typing.get_origin(part) in (Sequence, Iterable, list, tuple) and {str, Path} & {*_leaves(part)}
        for part in typing.get_args(hint) or (hint,)
    ) or typing.get_origin(hint) in (Sequence, Iterable, list, tuple)


def _leaves(hint: object) -> Iterator[object]:
    parts = typing.get_args(hint)
    yield from (leaf for part in parts for leaf in _leaves(part)) if parts else [hint]


def test_every_public_function_takes_one() -> None:
    checked = 0
    for name, function in FUNCTIONS.items():
        for parameter, hint in typing.get_type_hints(function, localns={"ImageSet": ImageSet}).items():
            if parameter != "return" and _several(hint):
                assert str in typing.get_args(hint), f"{name}({parameter}: {hint})"
                checked += 1
    assert checked > 15


def _kinds() -> list[type[Settings]]:
    for module in walk_packages(syn2co.__path__, "syn2co."):
        if module.name.endswith((".settings", ".config", ".options", ".grid", ".inputs")):
            import_module(module.name)
    kinds: list[type[Settings]] = []
    waiting = [Settings]
    while waiting:
        kinds += (children := [kind for kind in waiting.pop().__subclasses__() if kind.__module__.startswith("syn2co")])
        waiting += children
    return kinds


def test_every_setting_takes_one() -> None:
    validated = 0
    for kind in _kinds():
        several = [name for name, field in kind.model_fields.items() if field.annotation == tuple[str, ...]]
        for name in several:
            values = [kind._one_or_many({name: given})[name] for given in ("a", Path("a"), ["a"], (Path("a"),))]
            assert all(list(value) == ["a"] for value in values), f"{kind.__name__}.{name}"
        validated += len(several)
    assert validated > 10
    digits = "builtin:digits:test"
    one = syn2co.StudyInputs(real=digits, train=digits, test=digits, settings="seed=1")  # pyright: ignore[reportArgumentType]
    assert one == syn2co.StudyInputs(real=(digits,), train=(digits,), test=(digits,), settings=("seed=1",))


def test_a_wrong_list_is_told_how_it_is_written() -> None:
    """The example in the sentence has numbers that the setting takes, as many as it takes."""
    told = 0
    for kind in _kinds():
        fields = {} if any(field.is_required() for field in kind.model_fields.values()) else kind.model_fields
        for name, field in fields.items():
            listed = [part for part in (field.annotation, *typing.get_args(field.annotation)) if _is_plain_list(part)]
            if not listed:
                continue
            with pytest.raises(ConfigError, match=f"^{name} = 7: must be a list of ") as refused:
                kind.parse({name: 7})
            example = json.loads(str(refused.value).partition("such as ")[2])
            if example != ["a", "b"]:  # texts may be names of which there are some alone
                kind.parse({name: example})
            told += 1
    assert told > 20


def _is_plain_list(part: object) -> bool:
    return typing.get_origin(part) is tuple and bool({int, float, str} & {*_leaves(part)})


def test_one_source_is_not_its_letters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = syn2co.SynthesisSettings(generator="fitted", size=16)
    plans = [syn2co.plan(settings, count=1, real=real) for real in ("builtin:digits:test", ["builtin:digits:test"])]
    assert plans[0].recipe_hash == plans[1].recipe_hash
    assert open_real("", settings) is None
    from syn2co.reports import evaluation

    given: list[dict[str, object]] = []

    def score(*_: object, **options: object) -> None:
        given.append(options)
        raise InterruptedError

    monkeypatch.setattr(evaluation, "score", score)
    for protocols, transfer in (("knn", Path("pets")), (["knn"], ["pets"])):
        with pytest.raises(InterruptedError):
            evaluation.evaluate("run", protocols=protocols, transfer=transfer)
    assert given[0] == given[1] and given[0]["protocols"] == ("knn",)
    with pytest.raises(syn2co.core.errors.ConfigError, match="PATH nowhere: is no folder"):
        syn2co.compare("nowhere")
