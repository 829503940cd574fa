"""The README's first screen, and the commands that it must show."""

import re

from pages import ROOT, commands

PAGE = ROOT / "README.md"


def test_it_shows_the_main_commands() -> None:
    assert {"pretrain", "evaluate", "doctor", "recipes"} <= {words[0] for words in commands(PAGE)}


def test_first_screen_names_the_two_commands_and_shows_a_picture() -> None:
    screen = "\n".join(PAGE.read_text(encoding="utf-8").splitlines()[:25])
    assert "make demo" in screen and "make test" in screen
    picture = re.search(r"!\[.+\]\((.+?)\)", screen)
    assert picture is not None
    assert (ROOT / picture.group(1)).stat().st_size > 10_000
