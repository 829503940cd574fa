"""The README's blocks run, and its commands exist with the options that it shows."""

import re
import shlex
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_blocks_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("python")[number], f"README block {number}", "exec"), {})


def test_commands_take_the_options_that_the_readme_shows() -> None:
    from syn2co.cli.main import cli

    seen = set()
    for line in "\n".join(blocks("sh")).splitlines():
        words = shlex.split(line, comments=True)
        if "syn2co" not in words or words[0] == "pip":
            continue
        name, *arguments = words[words.index("syn2co") + 1 :]
        command = cli.commands[name]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= known, line
        assert any(isinstance(parameter, click.Option) for parameter in command.params) or not arguments
        seen.add(name)
    assert {"pretrain", "evaluate", "doctor", "recipes"} <= seen


def test_first_screen_names_the_two_commands_and_shows_a_picture() -> None:
    screen = "\n".join(README.splitlines()[:25])
    assert "make demo" in screen and "make test" in screen
    picture = re.search(r"!\[.+\]\((.+?)\)", screen)
    assert picture is not None
    assert (ROOT / picture.group(1)).stat().st_size > 10_000


def test_every_relative_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
