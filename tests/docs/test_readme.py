"""The README's first screen, and the commands that it must show."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pages import ROOT, blocks, check_command, commands

PAGE = ROOT / "README.md"
STUB = """#!/bin/sh
{ basename "$0"; printf '%s\\n' "$@"; echo; } >> "$WORDS"
"""


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`shell(text)`: the words of each `syn2co` command that bash starts for a text, without "syn2co" itself."""
    if shutil.which("bash") is None:
        pytest.skip("here is no bash")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("syn2co", "torchrun", "make"):
        (programs / name).write_text(STUB, encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("WORDS", str(tmp_path / "words"))

    def run(text: str) -> list[list[str]]:
        (tmp_path / "words").write_text("", encoding="utf-8")
        subprocess.run(["bash", "-ec", text], check=True, cwd=tmp_path)
        started = (tmp_path / "words").read_text(encoding="utf-8").split("\n\n")[:-1]
        lines = [words.split("\n") for words in started if not words.startswith("make")]
        return [words[words.index("syn2co") + 1 :] for words in lines]

    return run


def test_it_shows_the_main_commands() -> None:
    assert {"pretrain", "evaluate", "doctor", "recipes"} <= {words[0] for words in commands(PAGE)}


def test_first_screen_names_the_two_commands_and_shows_a_picture() -> None:
    screen = "\n".join(PAGE.read_text(encoding="utf-8").splitlines()[:25])
    assert "make demo" in screen and "make test" in screen
    picture = re.search(r"!\[.+\]\((.+?)\)", screen)
    assert picture is not None
    assert (ROOT / picture.group(1)).stat().st_size > 10_000


def test_a_real_shell_hands_every_command_to_the_program(shell) -> None:
    started = [words for block in blocks(PAGE, "sh") for words in shell(block.text)]
    assert started == list(commands(PAGE)) and len(started) > 10
    for words in started:
        check_command(words)


def test_sources_may_be_expanded_by_the_shell(shell, tmp_path: Path) -> None:
    """Without its quotes too, the command for many GPUs is understood, and so is a pattern that the shell expands."""
    from syn2co.cli.main import cli

    [line] = [line for line in blocks(PAGE, "sh")[-1].text.splitlines() if line.startswith("torchrun")]
    [words] = shell(line.replace("'", ""))
    given = cli.commands["pretrain"].make_context("pretrain", words[1:]).params
    assert given["real"] == tuple(f"shards/{number:06d}.tar" for number in range(1000))
    for name in ("a 1", "b"):
        (tmp_path / "sets" / name).mkdir(parents=True)
    [words] = shell("syn2co evaluate run --train sets/* --test sets/b/")
    given = cli.commands["evaluate"].make_context("evaluate", words[1:]).params
    assert (given["train"], given["test"]) == (("sets/a 1", "sets/b"), ("sets/b/",))
