"""Locks: held by one, told to the others, freed by the end of the block and by the death of the process."""

import errno
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from syn2co.core import files, locks
from syn2co.core.errors import ConfigError
from syn2co.core.locks import hold, is_held, only_run_in

HOLDER = """
import sys, time
from pathlib import Path
from syn2co.core.locks import hold
with hold(Path(sys.argv[1]), wait=True):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_in_other_hands_is_told_at_once(tmp_path: Path) -> None:
    with hold(tmp_path / "lock", wait=True) as first:
        with hold(tmp_path / "lock", wait=False) as second:
            assert (first, second) == (True, False)
        with hold(tmp_path / "lock", wait=False) as third:
            assert not third, "a refused holder must not free the lock of another one"
    with hold(tmp_path / "lock", wait=False) as free:
        assert free


def test_an_error_in_the_block_frees_it_and_comes_out(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="of the block"), hold(tmp_path / "lock", wait=True):
        raise OSError("of the block")
    assert not is_held(tmp_path / "lock")


def test_waiting_ends_when_it_is_freed(tmp_path: Path) -> None:
    order: list[str] = []

    def wait() -> None:
        with hold(tmp_path / "lock", wait=True):
            order.append("second")

    waiting = threading.Thread(target=wait)
    with hold(tmp_path / "lock", wait=True):
        waiting.start()
        waiting.join(0.2)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert is_held(path)
        holder.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        holder.wait()
    assert not is_held(path)
    with hold(path, wait=False) as held:
        assert held


def test_asking_makes_no_file(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_may_not_be_opened_counts_as_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(locks.FileLock):
        def acquire(self, *arguments: object, **named: object) -> None:  # type: ignore[override]
            raise PermissionError(13, "Permission denied")

    (tmp_path / "lock").write_text("")
    monkeypatch.setattr(locks, "FileLock", Refused)
    assert not is_held(tmp_path / "lock")
    with pytest.raises(PermissionError), hold(tmp_path / "lock", wait=False):
        pass


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")])
def test_a_disk_without_locks_is_no_error(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Unsupported(locks.FileLock):
        def acquire(self, *arguments: object, **named: object) -> None:  # type: ignore[override]
            raise error

    monkeypatch.setattr(locks, "FileLock", Unsupported)
    monkeypatch.setattr(files, "_NOTED", set())
    for wait in (False, True):
        with hold(tmp_path / "lock", wait=wait) as held:
            assert held
    assert capsys.readouterr().err.count("note: files cannot be locked on this disk") == 1


def test_a_lock_that_is_left_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.1)
    waiting = threading.Thread(target=lambda: hold(tmp_path / "lock", wait=True).__enter__(), daemon=True)
    with hold(tmp_path / "lock", wait=True):
        waiting.start()
        waiting.join(0.5)
    waiting.join(5)
    said = capsys.readouterr().err
    assert said.startswith(f"note: waiting for another process that holds {tmp_path / 'lock'}; if that was killed on")
    assert said.endswith(f"another machine and its lock is left, delete {tmp_path.name}/lock\n")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = pytest.raises(ConfigError, match=r"--out run: cannot be written \(.*\); choose another folder")
    with refused, only_run_in(tmp_path / "file" / "run"):
        pass


def test_defect_12_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    refused = pytest.raises(ConfigError, match=r"another run is writing to this .* delete run/\.lock$")
    with only_run_in(tmp_path / "run"), refused, only_run_in(tmp_path / "run"):
        pass
    with only_run_in(tmp_path / "run"):
        pass
