"""Paths from outside: ~ expanded wherever a path is taken, and one sentence where the system refuses to look."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from syn2co.cli.main import cli
from syn2co.cli.options import UserPath
from syn2co.core.files import write_atomically
from syn2co.core.paths import PathError, is_file, is_folder, lies_there, names_in, printable, status_of, user_path

SOURCE = Path(__file__).parents[2] / "src" / "syn2co"
LONG = "x" * 300


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own, seen from an empty folder."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SYN2CO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "home"


def test_home_folders(home: Path) -> None:
    assert user_path("~/a") == home / "a" and user_path("a/~") == Path("a/~")
    Path("~").mkdir()
    Path("~/a").touch()
    assert user_path("~/a") == Path("~/a"), "something of this very name"
    with pytest.raises(
        PathError, match="~nobodyatall/x: this machine knows no home folder of this name; give the whole path"
    ):
        user_path("~nobodyatall/x")


def test_tilde_is_expanded_in_one_place() -> None:
    users = [path.name for path in SOURCE.rglob("*.py") if ".expanduser(" in path.read_text(encoding="utf-8")]
    assert users == ["paths.py"]


def test_every_path_on_the_command_line_is_expanded(home: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    paths = [
        parameter
        for command in cli.commands.values()
        for parameter in command.params
        if "path" in parameter.type.name and parameter.metavar != "SRC"
    ]
    assert len(paths) > 15 and all(isinstance(parameter.type, UserPath) for parameter in paths)
    assert not any(isinstance(parameter.type, click.Path) for c in cli.commands.values() for parameter in c.params)
    assert run("generate", "--count", "2", "--size", "16", "--quiet", "--out=~/set")[0] == 0
    assert run("plan", "--count", "2", "--size", "16", "--out=~/plan.jsonl")[0] == run("verify", "~/set")[0] == 0
    assert {"plan.jsonl", "set"} <= set(os.listdir(home)) and os.listdir(".") == []


def test_paths_in_python_are_expanded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import syn2co

    monkeypatch.setenv("SYN2CO_CACHE", "~/cache")
    info = syn2co.generate(syn2co.SynthesisSettings(size=16), "~/set", count=2)
    assert info.folder == home / "set" and syn2co.verify("~/set").valid
    assert len(syn2co.open_images("~/set/*.tar")) == len(syn2co.open_images("~/set")) == 2
    assert syn2co.cache().folder.is_relative_to(home / "cache") and os.listdir(".") == []


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        (LONG, r"x{199,}\.\.\.: cannot be reached \(File name too long\); this file system takes no name as long"),
        ("a\0b", r"no path holds this character; correct the path"),
        (
            "loop",
            r"loop: cannot be reached \(Too many levels .*\); a link on the way leads to itself; correct the link",
        ),
    ],
)
def test_names_that_no_path_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, advice: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    for ask in (status_of, is_folder, is_file):
        with pytest.raises(PathError, match=advice):
            ask(Path(name))
    assert not lies_there(Path(name))


def test_what_lies_at_a_path(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    asked = [
        tmp_path,
        tmp_path / "pipe",
        tmp_path / "dangling",
        tmp_path / "no" / "where",
        SOURCE / "__init__.py" / "x",
    ]
    assert [is_folder(path) for path in asked] == [True, False, False, False, False]
    assert [is_file(path) for path in asked] == [False] * 5 and is_file(SOURCE / "__init__.py")
    assert names_in(tmp_path) == ["dangling", "pipe"]
    with pytest.raises(PathError, match=r"pipe: cannot be reached \(Not a directory\); fix that, or give another path"):
        names_in(tmp_path / "pipe")


def test_a_folder_of_weights_has_a_name_in_utf_8(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    """The readers of safetensors and TensorBoard take no other; it is said before the work."""
    for words in (("pretrain", "--recipe", "demo", "--quiet"), ("generate", "--count", "2", "--size", "16")):
        code, _, error = run(*words, "--out", f"{tmp_path}/o\udcff")
        assert code == 2 and r"o\xff: has a name that is not UTF-8" in error
    assert os.listdir(tmp_path) == []


def test_output_of_another_alphabet_escapes(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """Of Windows, say; and names of odd bytes reach files."""
    import io
    import sys

    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for encoding in ("latin-1", "cp1252")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        assert run("doctor", "\u732b\udcff")[0] == 2
        assert run("generate", "--count", "2", "--size", "16", "--quiet", "--out", str(tmp_path / "\u732b"))[0] == 0
    for stream in streams:
        stream.flush()
    written = [stream.buffer.getvalue() for stream in streams]  # type: ignore[attr-defined]
    assert rb"\u732b" in written[0] and rb"\u732b\udcff" in written[1]
    write_atomically(tmp_path / "text", "\u732b\udcff")
    assert (tmp_path / "text").read_text(encoding="utf-8") == "\u732b\\udcff"


def test_names_can_be_written() -> None:
    for name, written in (("caf\udce9", "caf\\xe9"), ("a\ud800", "a\\ud800"), ("é猫", "é猫")):
        assert printable(name) == written == printable(printable(name))
        printable(name).encode()


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that nobody may enter or list; for root too, whom permissions do not stop."""
    folder = tmp_path / "locked"
    folder.mkdir()
    stat = os.stat

    def refusing(call: Callable[..., object]) -> Callable[..., object]:
        def refuse(path: object = ".", *arguments: object, **options: object) -> object:
            named = "" if isinstance(path, int) else os.fspath(path)  # type: ignore[call-overload]
            if named.startswith(f"{folder}/") or (named == str(folder) and call is not stat):
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return call(path, *arguments, **options)

        return refuse

    import builtins
    import io

    for module, name in ((os, "stat"), (os, "lstat"), (os, "open"), (os, "listdir"), (os, "scandir"), (os, "mkdir")):
        monkeypatch.setattr(module, name, refusing(getattr(module, name)))
    for module in (builtins, io):
        monkeypatch.setattr(module, "open", refusing(module.open))
    yield folder


COMMANDS = {
    "source": ("embed", "reference", "PATH", "--out", "features.parquet", "--quiet"),
    "audited": ("audit", "PATH", "--quiet", "--out", "audit"),
    "transfer": ("evaluate", "reference", "--transfer", "PATH", "--quiet"),
    "encoder": ("evaluate", "PATH", "--train", "builtin:digits:train", "--test", "builtin:digits:test", "--quiet"),
    "weights": ("evaluate", "timm:test_vit:PATH", "--train", "builtin:digits:train", "--test", "builtin:digits:test"),
    "begin": ("pretrain", "--recipe", "demo", "--init-from", "PATH", "--out", "run", "--quiet"),
    "config": ("pretrain", "--config", "PATH", "--out", "run", "--quiet"),
    "run": ("doctor", "PATH"),
    "report": ("report", "PATH"),
    "compare": ("compare", "PATH", "PATH"),
    "export": ("export", "PATH", "--to", "timm"),
    "verify": ("verify", "PATH"),
    "replay": ("replay", "PATH", "0" * 32),
    "learn": ("generate", "--generator", "fitted", "--count", "2", "--real", "PATH", "--out", "set", "--quiet"),
    "study": ("study", "PATH.py", "--real", "a", "--train", "a", "--test", "a", "--out", "study"),
    "make": ("generate", "--count", "2", "--size", "16", "--out", "PATH", "--quiet"),
}


@pytest.mark.parametrize("name", ["locked", "locked/x", "locked/x.tar", "locked/*.tar", LONG, "~nobodyatall/x"])
def test_unreachable_paths_are_one_sentence(
    locked: Path, name: str, run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    path = name if name.startswith("~") else str(tmp_path / name)
    for command, words in COMMANDS.items():
        if "*" in name and command not in ("source", "audited", "learn"):
            continue
        code, _, error = run(*(word.replace("PATH", path) for word in words))
        assert code == 2 and error.count("\n") <= 2, f"{command}: {error}"
        assert re.search(r"Error: ", error), f"{command}: {error}"


def test_an_empty_path_is_not_the_current_folder(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `--out "$OUT"` is where the variable is not set."""
    monkeypatch.chdir(tmp_path)
    for command in (["plan", "--generator", "procedural", "--count", "1", "--out", ""], ["doctor", ""]):
        code, _, error = run(*command)
        assert (code, error.startswith("PathError: a path is empty; name a file or folder")) == (2, True)
    assert list(tmp_path.iterdir()) == []
    assert user_path(".") == tmp_path, "its name stands in messages"
    assert run("plan", "--generator", "procedural", "--count", "1", "--out", ".")[2].startswith(
        f"SynthesisError: --out {tmp_path.name}: cannot be written: Is a directory"
    )
