"""Disks that refuse what a program can do without, as network shares and containers do: every command works on them."""

import errno
import fcntl
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_images import write_images

from syn2co.core import files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other calls")
REFUSED = {"chmod": os, "fchmod": os, "utime": os, "link": os, "symlink": os, "flock": fcntl}


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the calls that were refused; a flush of a folder is refused too, that of a file is not."""
    asked: list[str] = []

    def refuse(name: str, number: int) -> Any:
        def refused(*_: object, **__: object) -> None:
            asked.append(name)
            raise OSError(number, os.strerror(number))

        return refused

    for name, module in REFUSED.items():
        monkeypatch.setattr(module, name, refuse(name, errno.ENOLCK if name == "flock" else errno.EPERM))
    fsync = os.fsync

    def flush(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            refuse("fsync of a folder", errno.EINVAL)()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(files, "_NOTED", set())
    return asked


def test_every_command_works_on_a_disk_that_refuses(refusing: list[str], run: Any, tiny: Any, tmp_path: Path) -> None:
    real, out = write_images(tmp_path / "real", 12), tmp_path / "run"
    (tmp_path / "tiny.json").write_text(tiny("training.steps=2", "negatives.start=0").to_json())
    commands = (
        ("pretrain", "--config", tmp_path / "tiny.json", "--out", out, "--quiet"),
        ("generate", "--generator", "procedural", "--size", "16", "--count", "2", "--out", tmp_path / "set", "--quiet"),
        ("export", out, "--to", "timm", "--out", tmp_path / "export"),
        ("embed", out, real, "--out", tmp_path / "features.parquet"),
    )
    for command in commands:
        code, _, error = run(*command)
        assert code == 0, (command[0], error)
    assert {"chmod", "flock", "fsync of a folder"} <= set(refusing)
    assert len(files._NOTED) < len(refusing), "each kind is said once"
