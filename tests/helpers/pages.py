"""Pages of the documentation: their blocks, the commands in them, and their links."""

import importlib
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = ROOT / "docs" / "reference"
"""Pages made from docstrings, whose examples run where they stand in the code."""
NOT_RUN = "<!-- not run -->"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
_PLACEHOLDER = re.compile(r"\$|\.\.\.|<|^SRC$")


class Block(NamedTuple):
    """A fenced block of a page."""

    text: str
    line: int
    """Line of the page on which the text begins."""
    runs: bool
    """Whether no `<!-- not run -->` stands right above."""


def name(page: Path) -> str:
    """Return the path of a page as tests are named by it."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[Block]:
    """Return the blocks of a language."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        if match[1] == language:
            runs = not text[: match.start()].rstrip().endswith(NOT_RUN)
            found.append(Block(match[2], text.count("\n", 0, match.start(2)) + 1, runs))
    return found


def run_python(page: Path) -> None:
    """Run the Python blocks of a page in order, in one namespace; a traceback names the lines of the page.

    A block that begins with `# file.py` is that file too, in the working directory.
    """
    names: dict[str, Any] = {"__name__": "__page__"}
    for block in blocks(page, "python"):
        if not block.runs:
            continue
        if file := re.match(r"# (\w+\.py)\n", block.text):
            Path(file[1]).write_text(block.text, encoding="utf-8")
        exec(compile("\n" * (block.line - 1) + block.text, name(page), "exec"), names)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every `syn2co` command in the shell blocks of a page, without "syn2co" itself."""
    for block in blocks(page, "sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            yield from _commands_in(line)


def _commands_in(line: str) -> Iterator[list[str]]:
    """Yield the commands of one line, those behind `;` and `|` and inside `--wrap "..."` too."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    part: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set(";&|()<>"):
            yield from _command_of(part)
            part = []
        else:
            part.append(word)


def _command_of(words: list[str]) -> Iterator[list[str]]:
    for place, word in enumerate(words):
        before = words[place - 1] if place else "do"
        if word == "syn2co" and (before in {"-m", "do", "time", "srun"} or "=" in before):
            yield words[place + 1 :]
            return
        if word.startswith("syn2co "):
            yield from _commands_in(word)


def check_command(words: list[str]) -> None:
    """Fail unless the command exists and takes these options, and its recipe and settings exist.

    A command with a placeholder (`$J`, `...`) is asked for its options alone.
    """
    from syn2co.cli.main import cli

    if words in (["--help"], ["--version"]):
        return
    command = cli.commands[words[0]]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
    assert used <= options | {"--help"}, f"{words[0]} has no {', '.join(sorted(used - options))}"
    if any(_PLACEHOLDER.search(word) for word in words) or "--help" in used:
        return
    given = command.make_context(words[0], words[1:]).params
    if words[0] in ("pretrain", "demo", "estimate"):
        _check_run(given)
    elif words[0] == "evaluate":
        _check_scores(given["assignments"], given["protocols"].split(","))
    elif words[0] == "study" and not given["study"].endswith(".py"):
        _check_study(given)
    elif words[0] in ("plan", "generate"):
        _check_set(given)
    elif words[0] == "settings":
        import syn2co

        assert syn2co.settings(given["name"])


def _check_run(given: dict[str, Any]) -> None:
    from syn2co.pretraining.recipes import recipe

    recipe(given.get("recipe") or "demo").with_settings(given["settings"])


def _check_scores(settings: Iterable[str], protocols: Iterable[str]) -> None:
    from syn2co.evaluation.protocols.registry import PROTOCOLS
    from syn2co.evaluation.settings import EvaluationSettings

    EvaluationSettings().with_settings(settings)
    unknown = {*protocols} - {*PROTOCOLS, "syn2co"}
    assert not unknown, f"no protocol is called {', '.join(unknown)}"


def _check_study(given: dict[str, Any]) -> None:
    from syn2co.pretraining.recipes import recipe
    from syn2co.studies.load import load_study

    study = load_study(given["study"])
    recipe(given["recipe"] or study.recipe).with_settings(given["settings"])
    _check_scores(given["evaluation"], study.protocols)


def _check_set(given: dict[str, Any]) -> None:
    from syn2co.synthesis.generators.registry import load_generator
    from syn2co.synthesis.sets.settings import SynthesisSettings

    settings = SynthesisSettings.parse({"generator": given["generator"] or "procedural"})
    settings = settings.with_settings(given["settings"])
    if ":" not in settings.generator:
        load_generator(settings.generator).options.parse(settings.options, under="options.")


def unknown_settings(page: Path) -> list[str]:
    """Return the settings (`queue.size`, `queue.size=64`) that a page names in backticks and that do not exist."""
    known = _settings()
    groups = {setting.partition(".")[0] for setting in known if "." in setting}
    named = re.findall(r"`(?:--set )?'?([a-z_]+\.[\w.-]+)(?=[=`' ])", page.read_text(encoding="utf-8"))
    return [
        found
        for found in named
        if found.partition(".")[0] in groups
        and found not in known
        and not found.startswith("encoder.options.")  # timm's, not ours
        and not found.endswith((".NAME", ".json", ".part", ".py"))
        and not _exists(f"syn2co.{found}")
    ]


@cache
def _settings() -> frozenset[str]:
    from syn2co.reports.reference import settings
    from syn2co.synthesis.sets.spec import BUILTIN

    named = {setting.name for group in (None, "generate", "evaluate", "audit", *BUILTIN) for setting in settings(group)}
    return frozenset(named | {name.rpartition(".")[0] for name in named})


def unknown_names(page: Path) -> list[str]:
    """Return the Python names, tests and test files that a page names in backticks and that do not exist."""
    text = page.read_text(encoding="utf-8")
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    names = [found for found in re.findall(r"`(syn2co(?:\.\w+)+)[`(]", text) if not _exists(found)]
    names += [found for found in re.findall(r"`(test_\w+)`", text) if f"def {found}(" not in tests]
    files = re.findall(r"`((?:src|tests|tools|examples|benchmarks)/[\w/.]+)`", text)
    return names + [found for found in files if not (ROOT / found).exists()]


def _exists(dotted: str) -> bool:
    """Return whether a dotted name is a module or something in one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def broken_links(page: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere: no such file, or no such heading in it."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for target in _LINK.findall(text):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        exact = os.path.normpath(file)
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(target)
        assert not path.startswith("/") and Path(exact).is_relative_to(ROOT), f"{target} leaves the repository"
    return broken


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
