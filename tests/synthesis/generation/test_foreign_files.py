"""Pipes, links to nothing or to themselves and stray names in a data set: no command hangs, each says one sentence."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import syn2co
from syn2co.core.errors import DataError, Syn2CoError

SETTINGS = syn2co.SynthesisSettings.parse({"size": 16, "work": {"shard_size": 4}})
IN_ITS_PLACE: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "set"
    syn2co.generate(SETTINGS, out, count=12)
    return out


@pytest.fixture
def in_time() -> Iterator[None]:
    """Fail a test that hangs."""

    def late(*_: object) -> None:
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", ["000001.tar", "000001.jsonl", "recipe.json", "skipped.jsonl", "999999999999.jsonl"])
@pytest.mark.parametrize("kind", IN_ITS_PLACE)
def test_what_is_no_file_hangs_nothing(name: str, kind: str, made: Path, tmp_path: Path, in_time: None) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("pipes are of POSIX")
    image = syn2co.plan(SETTINGS, count=12)[5].id
    commands: dict[str, Callable[[Path], Any]] = {
        "open": lambda folder: syn2co.open_images(folder, cache="never", cache_dir=tmp_path / "cache"),
        "verify": syn2co.verify,
        "replay": lambda folder: syn2co.replay(folder, image),
        "generate": lambda folder: syn2co.generate(SETTINGS, folder, count=12),
        "grow": lambda folder: syn2co.generate(SETTINGS, folder, count=16),
    }
    for command, call in commands.items():
        folder = Path(shutil.copytree(made, tmp_path / command))
        (folder / name).unlink(missing_ok=True)
        IN_ITS_PLACE[kind](folder / name)
        try:
            call(folder)
        except Syn2CoError as error:
            assert "\n" not in str(error)


def test_a_stray_shard_is_named(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "set"))
    for name in ("999999999999.jsonl", "0000001.tar"):
        (folder / name).touch()
        with pytest.raises(
            DataError, match=rf"set: holds {name[:-6].rstrip('.')}\d*, and its recipe.json plans 3 shards"
        ):
            syn2co.open_images(folder)
        (folder / name).unlink()
    assert len(syn2co.open_images(folder)) == 12
