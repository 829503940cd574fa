"""docs/architecture.md names every package and module, the floors are those of the contract, and sizes are kept."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "syn2co"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def rooms() -> dict[str, set[str]]:
    """Return the modules of each package in the source, `__init__` left out."""
    found = {}
    for marker in SOURCE.rglob("__init__.py"):
        name = ".".join(marker.parent.relative_to(SOURCE).parts) or "syn2co"
        found[name] = {path.stem for path in marker.parent.glob("*.py")} - {"__init__"}
    return found


def named_rooms() -> dict[str, set[str]]:
    """Return the modules that the page names under each package."""
    found, package = {}, None
    for line in PAGE.partition("\n## Modules\n")[2].partition("\n## ")[0].splitlines():
        if heading := re.fullmatch(r"### `([\w.]+)`", line):
            package = heading[1]
            assert package not in found, f"{package}: named twice"
            found[package] = set()
        elif package is not None and (entry := re.match(r"- `(\w+)`: \S", line)):
            found[package].add(entry[1])
    return found


def test_every_package_and_module_is_named() -> None:
    named, there = (
        {f"{package}.{name}" for package, names in found.items() for name in names}
        for found in (named_rooms(), rooms())
    )
    assert named - there == set(), "on the page and not in the source"
    assert there - named == set(), "in the source and not on the page"
    assert named_rooms().keys() == rooms().keys()


def test_every_package_has_a_sentence() -> None:
    for package in rooms():
        assert re.search(rf"^### `{re.escape(package)}`\n[A-Z].*\.$", PAGE, flags=re.MULTILINE), package


def test_the_floors_are_those_of_the_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = project["tool"]["importlinter"]["contracts"]
    block = "```\n" + "\n".join(contract["layers"]) + "\n```\n"
    assert block in PAGE
    floors = {name for floor in contract["layers"] for name in floor.split(" | ")}
    tops = {package.partition(".")[0] for package in rooms()} - {"syn2co"}
    assert {name.partition(".")[0] for name in floors} == tops


def test_tests_mirror_the_packages() -> None:
    packages = [name for name in rooms() if name != "syn2co"]
    floors = [name for name in packages if "." not in name or name in ("synthesis.sets", "synthesis.generation")]
    for name in [*floors, "synthesis.generators"]:
        folder = ROOT.joinpath("tests", *name.split("."))
        assert list(folder.glob("**/test_*.py")), f"tests/{name.replace('.', '/')} has no tests"


def test_sizes_are_kept_and_the_page_states_the_promises() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools" / "sizes.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (ROOT / "tools" / "sizes.py").read_text(encoding="utf-8")
    numbers = re.search(r"LONGEST, ARGUMENTS, SHARE, LOOP = (\d+), (\d+), (0\.\d+), (\d+)", text)
    assert numbers is not None
    longest, arguments, share, loop = numbers.groups()
    assert f"at most {longest} lines, docstring not counted, and at most {arguments} arguments" in PAGE
    assert f"the loop has at most {loop} lines" in PAGE
    assert f"at most {100 * float(share):.0f} % of all lines" in PAGE
