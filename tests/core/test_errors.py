"""Errors for the user: which class they are of, and that nothing passes over them."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
from synthetic_folders import picture, write_set

import syn2co
from syn2co.core.errors import ConfigError, Syn2CoError, SynthesisError
from syn2co.synthesis.generation.plan import plan
from syn2co.synthesis.sets.dataset_folder import is_done
from syn2co.synthesis.sets.settings import SynthesisSettings


def _kinds(kind: type[Syn2CoError]) -> Iterator[type[Syn2CoError]]:
    yield kind
    for inner in kind.__subclasses__():
        yield from _kinds(inner)


def test_no_error_of_ours_is_one_of_pythons() -> None:
    """`except ValueError` around a parser, or `except OSError` around a file, must not pass over the user's error."""
    for module in walk_packages(syn2co.__path__, "syn2co."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    usual = (ValueError, OSError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, AssertionError)
    kinds = list(_kinds(Syn2CoError))
    assert len(kinds) > 10 and [kind for kind in kinds if issubclass(kind, usual)] == []


def test_a_damaged_list_of_skipped_images_is_no_missing_shard(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", [picture(0), picture(1)], [{}, {}])
    (folder / "skipped.jsonl").write_text("garbage\n")
    wanted = plan(SynthesisSettings(), count=2)
    with pytest.raises(SynthesisError, match="skipped.jsonl: line 1 is not JSON; delete skipped.jsonl and generate"):
        is_done(folder, wanted, 0)


def test_an_error_stays_in_one_line_whatever_is_in_a_name() -> None:
    assert str(ConfigError("--recipe a\nb\x1b[2J\u2028c: is none")) == r"--recipe a\nb\x1b[2J\u2028c: is none"
