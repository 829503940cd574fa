"""A short form of `make fuzz`: inputs that nobody should give are answered in one sentence."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = spec_from_file_location("fuzz", TOOL)
    assert spec is not None and spec.loader is not None
    module = sys.modules["fuzz"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What inputs are made from lies there: images, a run, a set."""
    return tmp_path_factory.mktemp("fuzz")


def test_strange_inputs_are_answered_in_one_sentence(
    fuzz: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    findings = fuzz.fuzz(list(fuzz.KINDS), folder, count=12 * len(fuzz.KINDS), seconds=300.0, patience=60.0)
    assert findings.tried == dict.fromkeys(fuzz.KINDS, 12)
    assert findings.bad == {}


def test_raw_answers_and_hanging_ones_are_found(
    fuzz: ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bad(draws: object, folder: Path, work: Path) -> None:
        while (tmp_path / "hang").exists():
            pass
        raise KeyError("raw")

    monkeypatch.setitem(fuzz.KINDS, "bad", bad)
    (raw,) = fuzz.fuzz(["bad"], folder, count=1, seconds=9.0, patience=5.0).bad
    (tmp_path / "hang").touch()
    (hangs,) = fuzz.fuzz(["bad"], folder, count=1, seconds=9.0, patience=0.1).bad
    assert raw.endswith("KeyError: 'raw'") and hangs.endswith("Hangs: no answer within 0.1 s")
