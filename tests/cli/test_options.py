"""Options of the command line: several values behind a source, settings given as options, whole summaries."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from syn2co.cli.main import cli
from syn2co.cli.options import Duration, SourceCommand


def _given(command: str, *words: str) -> dict[str, object]:
    return cli.commands[command].make_context(command, list(words)).params


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("pretrain", ("--recipe", "demo", "--out", "x")),
        ("plan", ()),
        ("generate", ("--out", "x")),
        ("evaluate", ("run", "--test", "t")),
        ("evaluate", ("run", "other", "--train", "t")),
        ("study", ("small", "--train", "t", "--test", "t", "--out", "x")),
        ("replay", ("set", "id")),
        ("audit", ("set",)),
    ],
)
def test_every_source_takes_several_values(command: str, words: tuple[str, ...]) -> None:
    sources = [option for option in cli.commands[command].params if getattr(option, "metavar", None) == "SRC"]
    assert sources
    for source in sources:
        option, name = source.opts[0], str(source.name)
        if option in words:
            continue
        once = _given(command, *words, option, "a", option, "b c", option, "d")
        assert once[name] == ("a", "b c", "d")
        assert _given(command, *words, option, "a", "b c", "d") == once
        assert _given(command, *words, f"{option}=a", "b c", f"{option}=d") == once


def test_every_command_with_a_source_takes_several() -> None:
    sources = {
        name
        for name, command in cli.commands.items()
        if "SRC" in {o.metavar for o in command.params if o.param_type_name == "option"}
    }
    assert len(sources) > 6 and all(isinstance(cli.commands[name], SourceCommand) for name in sources)


def test_arguments_behind_a_source_stay_arguments() -> None:
    given = _given("study", "--real", "a", "--train", "b", "--test", "c", "small", "--out", "x")
    assert (given["real"], given["test"], given["study"]) == (("a",), ("c",), "small")
    given = _given("evaluate", "--train", "a", "--test", "b", "run")
    assert (given["encoders"], given["test"]) == (("run",), ("b",))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("pretrain", "--batch", "8"), "No such option: --batch; it is a setting: --set training.batch=8"),
        (("pretrain", "--epochs=3"), "No such option: --epochs; it is a setting: --set training.epochs=3"),
        (("pretrain", "--base-lr", "--quiet"), "--set optimizer.base_lr=VALUE"),
        (("pretrain", "--queue.size", "64"), "--set queue.size=64"),
        (("pretrain", "--size", "32"), "--set views.size=32 or --set encoder.size=32 or --set queue.size=32"),
        (("demo", "--steps", "3"), "--set training.steps=3"),
        (("evaluate", "run", "--draws", "3"), "--set few_shot.draws=3"),
        (("generate", "--program", "leaves"), "--set options.program=leaves"),
        (("generate", "--per-subject", "2"), "--set per_subject=2"),
        (("pretrain", "--lr", "0.1"), "No such option: --lr; it is a setting: --set optimizer.base_lr=0.1"),
        (("pretrain", "--real", "--out", "x"), "Option '--real' requires an argument; behind it stands --out"),
    ],
)
def test_a_setting_given_as_an_option_is_pointed_to(run, words, sentence) -> None:
    code, out, error = run(*words)
    assert (code, out) == (2, "") and sentence in error


def test_an_option_of_the_generator_given_as_a_setting_is_pointed_to(run) -> None:
    code, _, error = run("plan", "--set", "program=leaves")
    assert code == 2 and error.endswith("has an option of this name: --set options.program=leaves\n")
    code, _, error = run("plan", "--set", "progran=leaves")
    assert code == 2 and "--set progran: there is no such setting" in error


@pytest.mark.parametrize(
    ("text", "seconds"), [("1.5h", 5400), ("1h 30m", 5400), ("2 H", 7200), (".5m", 30), ("45s", 45)]
)
def test_times(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["0h", "90", "1.2.3h", "-1h", "1d", "5m30", "nan", ""])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(
        click.BadParameter, match=f"'{text}' is no time; give hours, minutes or seconds, such as 2h, 90m"
    ):
        Duration().convert(text, None, None)


def test_the_summaries_are_whole_sentences(run) -> None:
    _, out, _ = run("--help")
    listed = " ".join(out.split("Commands:")[1].split())
    assert "..." not in listed
    for name, command in cli.commands.items():
        first = " ".join((command.help or "").split("\n\n")[0].split())
        assert f"{name} {first}" in listed


MISTAKES = (
    ("doctor", "nothing"),
    ("report", "nothing"),
    ("compare", "nothing"),
    ("audit", "nothing"),
    ("audit", "SOME", "--real", "nothing"),
    ("pretrain", "--real", "nothing", "--out", "run"),
    ("evaluate", "run", "--train", "nothing", "--test", "nothing"),
    ("generate", "--generator", "fitted", "--real", "nothing", "--out", "set"),
    ("study", "small", "--real", "nothing", "--train", "nothing", "--test", "nothing", "--out", "study"),
)


def test_what_is_not_there_is_said_before_torch_is_imported(tmp_path: Path) -> None:
    """A mistake costs a tenth of a second, not the import of a library of gigabytes."""
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from syn2co.cli.main import cli\n"
        f"for words in {MISTAKES}:\n"
        f"    words = ['{tmp_path}' if word == 'SOME' else word for word in words]\n"
        "    print(words[0], CliRunner().invoke(cli, words).exception)\n"
        "print('torch' in sys.modules, 'timm' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    *answers, imported = done.stdout.splitlines()
    assert imported == "False False"
    assert len(answers) == len(MISTAKES)
    assert all(
        "nothing: does not exist" in answer or "nothing: there is no such folder" in answer for answer in answers
    )
