"""The scripts of benchmarks/ are those of this source: each can be loaded, and the contenders of a step take steps."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPTS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


def _load(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    monkeypatch.syspath_prepend(path.parent)  # as where it is run: a script may import another one
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_can_be_loaded(path, monkeypatch):
    module = _load(path, monkeypatch)
    assert callable(module.plain if path.stem == "peers" else module.main)


def test_contenders_of_a_step_take_steps(tiny, monkeypatch):
    module = _load(Path(SCRIPTS[0].parent, "step.py"), monkeypatch)
    views = torch.randint(0, 256, (2, 4, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    taken = list[str]()
    take = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: taken.append("AdamW") or take(self))
    for make in (module.ours, module.plain, module.released):
        step = make(tiny("negatives.start=0"), views)
        step()
        step()
    assert taken == ["AdamW"] * 6


def test_every_target_names_a_section_and_no_run_of_the_benchmarks_loses_the_targets(monkeypatch):
    module = _load(Path(SCRIPTS[0].parent, "results.py"), monkeypatch)
    page = module.PAGE.read_text(encoding="utf-8")
    assert page.startswith(f"{module.HEAD}\n## {module.BY_HAND}\n")
    targets = page.partition(f"## {module.BY_HAND}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in targets.splitlines() if line.startswith("| ")]
    assert len(rows) > 10 and {row[3] for row in rows[1:]} <= {"", *module.COMMANDS}
    assert all(row[4].startswith(("met", "missed")) for row in rows[1:])


def test_a_section_that_is_run_again_leaves_the_others_and_the_targets(monkeypatch, tmp_path):
    module = _load(Path(SCRIPTS[0].parent, "results.py"), monkeypatch)
    page, before = tmp_path / "RESULTS.md", module.PAGE.read_text(encoding="utf-8")
    page.write_text(before, encoding="utf-8")
    monkeypatch.setattr(module, "PAGE", page)
    monkeypatch.setattr(module, "section", lambda name, words: f"## {name}\n\nrun again\n")
    monkeypatch.setattr(sys, "argv", ["results.py", "--only", "start"])
    module.main()
    old, new = (
        {part.splitlines()[0]: part.strip() for part in text.split("\n## ")} for text in (before, page.read_text())
    )
    assert list(new) == list(old) and new["start"] == "start\n\nrun again"
    assert {name: part for name, part in new.items() if name != "start"} == {
        name: part for name, part in old.items() if name != "start"
    }
