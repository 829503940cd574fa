"""docs/reference says what the code says: every command, setting and public name has its line there."""

import dataclasses
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import syn2co
from syn2co.audits.report import FORMAT as AUDIT_FORMAT
from syn2co.cli.main import cli
from syn2co.evaluation.results import FORMAT as EVALUATION_FORMAT
from syn2co.evaluation.scores import Score
from syn2co.reports.reference import settings
from syn2co.studies.results import FORMAT as STUDY_FORMAT
from syn2co.studies.results import CellResult, Cost, FailedCell
from syn2co.synthesis.sets.spec import BUILTIN

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "reference"
GROUPS = (None, "generate", "evaluate", "audit", *BUILTIN)


def page(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


def test_generated_pages_are_up_to_date() -> None:
    words = [sys.executable, ROOT / "tools" / "reference.py", "--check"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_page_is_found(tmp_path: Path) -> None:
    tool = tmp_path / "tools" / "reference.py"
    tool.parent.mkdir()
    tool.write_text((ROOT / "tools" / "reference.py").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "src").symlink_to(ROOT / "src", target_is_directory=True)
    subprocess.run([sys.executable, tool], check=True, capture_output=True, timeout=120)
    settings_page = tmp_path / "docs" / "reference" / "settings.md"
    settings_page.write_text(
        settings_page.read_text(encoding="utf-8").replace("| `queue.size` |", "| `queue.length` |")
    )
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "settings.md stale" in done.stdout and "commands.md" not in done.stdout


@pytest.mark.parametrize("group", GROUPS)
def test_every_setting_has_a_line_and_a_description(group: str | None) -> None:
    text = page("settings.md")
    for setting in settings(group):
        assert f"| `{setting.name}` | " in text, setting.name
        assert setting.meaning.endswith((".", ")")), f"{setting.name} has no description"


def test_every_command_has_its_lines_and_a_function_of_its_name() -> None:
    text = page("commands.md")
    for name, command in cli.commands.items():
        assert f"## syn2co {name}\n" in text
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert f"`{option}" in text, f"{name} {option}"
        assert name in syn2co.__all__ and callable(getattr(syn2co, name)), f"syn2co.{name}"


@pytest.mark.parametrize("package", ["syn2co", "syn2co.synthesis", "syn2co.objective"])
def test_every_public_name_has_its_line(package: str) -> None:
    text = page("python.md")
    for name in import_module(package).__all__:
        full = f"{package}.{name}"
        assert re.search(rf"^### {re.escape(full)}$|`{re.escape(full)}` is \[", text, flags=re.MULTILINE), full


def test_every_public_name_has_a_sentence() -> None:
    names, _, results = page("python.md").partition("\n## Results\n")
    for entry in re.split(r"^### ", results, flags=re.MULTILINE)[1:]:
        assert re.fullmatch(r"\w+\n\n[^-\s].*[.:].*\n", entry.partition("\n- ")[0], flags=re.DOTALL), entry[:80]
    for entry in re.split(r"^### ", names, flags=re.MULTILINE)[1:]:
        name, _, rest = entry.partition("\n")
        sentence = rest.split("```")[2].strip().partition("\n")[0]
        assert sentence.endswith((".", ")", ":")) and len(sentence) > 20, f"{name}: {sentence!r}"


def test_what_a_function_returns_has_its_lines() -> None:
    """Named defect: the page named `EvaluationReport` and never said what it has."""
    names, _, results = page("python.md").partition("\n## Results\n")
    seen = 0
    for name in syn2co.__all__:
        returned = getattr(getattr(syn2co, name), "__annotations__", {}).get("return")
        if not isinstance(returned, type) or not returned.__module__.startswith("syn2co."):
            continue
        if not re.search(rf"^### .*\b{returned.__name__}$", names, flags=re.MULTILINE):
            entry = results.partition(f"### {returned.__name__}\n")[2].partition("\n### ")[0]
            assert "- `" in entry, f"{name}: {returned.__name__}"
            seen += 1
    assert seen > 10


def test_links_to_python_names_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", page("python.md"), flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}
    links = re.findall(r"python\.md#([\w-]+)\)", page("commands.md")) + re.findall(r"\(#([\w-]+)\)", page("python.md"))
    assert len(links) > len(cli.commands) and set(links) <= anchors


def test_file_formats_name_what_a_run_and_a_set_leave() -> None:
    text = page("file-formats.md")
    for name in (
        "config.json", "metrics.jsonl", "quarantine.jsonl", "mix.json", "nonfinite-step-", "recipe.json",
        "skipped.jsonl", "contact.png", "evaluation.json", "audit.json", "study.json", "pictures.json",
    ):  # fmt: skip
        assert f"`{name}" in text, name


def test_file_formats_name_every_field_of_results() -> None:
    """Named defect: the page stayed at format 1 of the evaluation, without its new fields."""
    sections = {part.partition("\n")[0]: part for part in page("file-formats.md").split("\n## ")}
    packed = {"predicted", "labels"}  # are not stored
    fields = {
        "Evaluation": [field.name for field in dataclasses.fields(Score) if field.name not in packed],
        "Study": [field.name for kind in (CellResult, FailedCell, Cost) for field in dataclasses.fields(kind)],
    }
    for title, names in fields.items():
        missing = [name for name in names if name != "report" and f"`{name}`" not in sections[title]]
        assert not missing, f"{title}: {missing}"
    assert f"| `format` | {EVALUATION_FORMAT}: " in sections["Evaluation"]
    assert f"`audit.json` has format {AUDIT_FORMAT}: " in sections["Audit"]
    assert f"| `format` | | {STUDY_FORMAT} |" in sections["Study"]
