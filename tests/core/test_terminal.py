"""Names from outside on the terminal: rich's markup in them is text, in tables, notes and bars."""

import pytest
from rich.console import Console

from syn2co.core.progress import Bar, note
from syn2co.core.terminal import text_table

NAMES = ("[/x]", "[red]sun", "[link=http://example.org]a[/link]", ":smile: [b", "[/red]")


@pytest.mark.parametrize("name", NAMES)
def test_markup_in_a_name_is_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=200).print(text_table([name], [[name]], title=name))
    note(name)
    with Bar(name, 2, quiet_seconds=0) as bar:
        bar.advance(1, name)
        bar.say(name)
    shown = capsys.readouterr()
    assert shown.out.count(name) == 3
    assert f"note: {name}" in shown.err and shown.err.count(name) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_markup_in_a_name_is_text_on_a_live_bar(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    screen = io.StringIO()
    monkeypatch.setattr(
        "syn2co.core.progress.Console", lambda **_: Console(file=screen, force_terminal=True, width=300, no_color=True)
    )
    with Bar(name, 2) as bar:
        bar.advance(1, name)
    assert screen.getvalue().count(name) >= 2
