"""Remote objects: fetched by range, resumed, tried again, never half, into a bounded cache that processes share."""

import base64
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from remote_servers import WebServer, web_server

from syn2co.core.errors import ConfigError, DataError
from syn2co.core.urls import without_secrets
from syn2co.images.objects import cache as cache_module
from syn2co.images.objects import fetch, store
from syn2co.images.objects.cache import BOUND, ObjectCache
from syn2co.images.objects.fetch import fetch_objects
from syn2co.images.objects.store import RemoteObject

DATA = bytes(range(256)) * 400


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A server of /a.tar, of which a part is 10,000 bytes; nothing waits before it tries again."""
    monkeypatch.setattr(fetch, "PART", 10_000)
    monkeypatch.setattr(store, "PAUSES", (0.0, 0.0))
    with web_server({"/a.tar": DATA}) as served:
        yield served


def fetched(server: WebServer, folder: Path, query: str = "") -> bytes:
    """Return what is fetched of /a.tar."""
    (file,) = fetch_objects([without_secrets(f"{server.url}/a.tar{query}")], folder)
    return file.read_bytes()


def test_an_object_is_read_by_range_and_once(server: WebServer, tmp_path: Path) -> None:
    assert fetched(server, tmp_path) == DATA
    starts = range(0, len(DATA), 10_000)
    assert sorted(server.bodies) == sorted(f"bytes={n}-{min(n + 10_000, len(DATA)) - 1}" for n in starts)
    server.asked.clear()
    assert fetched(server, tmp_path) == DATA and server.bodies == []


def test_a_fetch_goes_on_where_it_ended(server: WebServer, tmp_path: Path) -> None:
    server.cut_at = 45_000
    with pytest.raises(DataError, match=r"a\.tar: cannot be fetched in 3 tries \(fewer or more bytes came"):
        fetched(server, tmp_path)
    (part,) = tmp_path.glob("*/data.*")
    assert (part.name, part.read_bytes()) == ("data.part", DATA[:40_000])  # one round of four parts
    server.cut_at = None
    server.asked.clear()
    assert fetched(server, tmp_path) == DATA
    assert min(int(asked.removeprefix("bytes=").split("-")[0]) for asked in server.bodies) == 40_000


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("fault", [{}, {"cut_at": 25_000, "cuts": 2}, {"stalls": 1}, {"failures": 2}])
def test_what_passes_is_tried_again(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranges: bool, fault: dict[str, int]
) -> None:
    monkeypatch.setattr(store, "STALLED_SECONDS", 0.1)
    vars(server).update(fault, ranges=ranges)
    assert fetched(server, tmp_path) == DATA


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("fault, message", [
    ({"stalls": 99}, r"cannot be fetched in 3 tries \(no byte came for 0.1 seconds; try again"),
    ({"lies": 1}, r"cannot be fetched in 3 tries \(fewer or more bytes came than the object has"),
    ({"head_lies": 1, "etag": None}, r"cannot be fetched in 3 tries \(fewer or more bytes came than the object has"),
    ({"head_lies": -1, "etag": None}, r"cannot be fetched in 3 tries \(fewer or more bytes came than the object has"),
    ({"cut_at": 5}, r"cannot be fetched in 3 tries \(fewer or more bytes came than the object has"),
    ({"status": 404}, r"cannot be fetched \(status 404: there is no such object; correct the URL\)$"),
    ({"status": 500}, r"cannot be fetched in 3 tries \(status 500: its server fails; try later"),
    ({"status": 410}, r"cannot be fetched \(status 410: there is no such object; correct the URL"),
    ({"secret": "right"}, r"cannot be fetched \(status 403: access is denied; set credentials in the environment"),
    ({"content_type": "text/html; charset=utf-8"}, "answers with an HTML page, a login say, and no tar"),
    ({"files": {"/a.tar": b""}}, "this object is empty"),
    ({"status": 302, "location": "file:///etc/hostname"}, "cannot be fetched .it is no URL of the web, or leads to no"),
    ({"status": 302, "location": "/a.tar"}, "cannot be fetched .it is no URL of the web, or leads to no"),
    ({"status": 302, "location": "ftp://host/a.tar"}, "cannot be fetched .it is no URL of the web, or leads to no"),
])  # fmt: skip
def test_a_server_that_fails_is_named_and_nothing_half_is_used(
    server: WebServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ranges: bool,
    fault: dict[str, int],
    message: str,
) -> None:
    monkeypatch.setattr(store, "STALLED_SECONDS", 0.1)
    vars(server).update(fault, ranges=ranges)
    with pytest.raises(DataError, match=rf"^{server.url}/a\.tar: .*{message}") as caught:
        fetched(server, tmp_path, "?sig=SECRET")
    assert "SECRET" not in str(caught.value) and not list(tmp_path.glob("*/data.tar"))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_trickles_is_not_waited_for_without_end(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    """Named defect: without ranges it had no limit, and with them it was said that no byte had come."""
    monkeypatch.setattr(store, "PART_SECONDS", 0.3)
    monkeypatch.setitem(store.tried.__kwdefaults__, "seconds", 0.3)
    server.trickles, server.ranges = True, ranges
    with pytest.raises(
        DataError, match=r"cannot be fetched in 3 tries \(it was not done in 0\.3 seconds, so its server or"
    ):
        fetched(server, tmp_path)
    assert not list(tmp_path.glob("*/data.tar"))


def test_an_object_that_is_read_whole_has_its_time_for_each_part(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large object on a slow but steady server takes longer than a part may, and arrives."""
    monkeypatch.setattr(store, "PART_SECONDS", 0.5)
    monkeypatch.setattr(store, "LEAST", 1)
    server.files, server.trickles, server.ranges = {"/a.tar": DATA[:60]}, True, False
    assert fetched(server, tmp_path) == DATA[:60]


@pytest.mark.parametrize("shift, cut", [(1, 0), (0, 1)])
def test_a_server_that_sends_other_parts_is_read_whole(server: WebServer, tmp_path: Path, shift: int, cut: int) -> None:
    server.shift, server.shorter = shift, cut
    assert fetched(server, tmp_path) == DATA


def test_a_store_that_fsspec_opens_is_read_by_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setattr(fetch, "PART", 10_000)
    monkeypatch.setattr(store, "PAUSES", ())
    asked: list[tuple[int, int]] = []
    cat = MemoryFileSystem.cat_file

    def part(files: MemoryFileSystem, path: str, start: int, end: int) -> bytes:
        asked.append((start, end))
        return cat(files, path, start=start, end=end)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", part)
    MemoryFileSystem().pipe_file("/set/a.tar", DATA)
    assert fetch_objects(["memory://set/a.tar"], tmp_path)[0].read_bytes() == DATA
    assert sorted(asked)[:2] == [(0, 10_000), (10_000, 20_000)] and len(asked) == 11
    with pytest.raises(
        DataError, match=r"^memory://set/b.tar: cannot be fetched \(status 404: there is no such object"
    ):
        fetch_objects(["memory://set/b.tar"], tmp_path)
    with pytest.raises(DataError, match=r"^memory://set: this is a folder; remote images are read from .tar files"):
        fetch_objects(["memory://set"], tmp_path)
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda *_, **__: DATA[:9_999])
    with pytest.raises(DataError, match="cannot be fetched in 1 tries .fewer or more bytes came than the object has"):
        fetch_objects(["memory://set/a.tar"], tmp_path / "another")


def test_a_changed_object_is_fetched_again(server: WebServer, tmp_path: Path) -> None:
    assert fetched(server, tmp_path) == DATA
    server.files["/a.tar"], server.etag = DATA[::-1], '"2"'
    assert fetched(server, tmp_path) == DATA[::-1]


def test_an_object_that_changes_under_the_fetch_is_refused(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def change(*arguments: object) -> None:
        await fetch_parts(*arguments)  # type: ignore[arg-type]
        server.etag = '"2"'

    fetch_parts = fetch._fetch_parts
    monkeypatch.setattr(fetch, "_fetch_parts", change)
    with pytest.raises(DataError, match=r"a\.tar: it was changed while it was fetched; run the same command again"):
        fetched(server, tmp_path)
    assert not list(tmp_path.glob("*/data.*"))


def as_a_new_process() -> None:
    """Let go of what this process has claimed: the lock goes with the object."""
    cache_module._claims.cache_clear()


def test_an_object_without_a_version_is_one_copy_and_fetched_anew_once_nobody_reads_it(
    server: WebServer, tmp_path: Path
) -> None:
    server.etag = None
    assert fetched(server, tmp_path) == fetched(server, tmp_path) == DATA and len(server.bodies) == 11
    (key,) = (path.parent.name for path in tmp_path.glob("*/data.tar"))
    (tmp_path / "in-use" / "other.json").write_text(f'{{"keys": ["{key}"]}}')
    as_a_new_process()
    with cache_module.hold(tmp_path / "in-use" / "other.lock", wait=False):  # rank 0, say
        assert fetched(server, tmp_path) == DATA and len(server.bodies) == 11
    as_a_new_process()
    server.files["/a.tar"] = DATA[::-1]
    assert fetched(server, tmp_path) == DATA[::-1] and len(list(tmp_path.glob("*/data.*"))) == 1
    as_a_new_process()
    server.status = 403
    assert fetched(server, tmp_path) == DATA[::-1]


def test_what_is_left_of_an_object_without_a_version_is_no_beginning(server: WebServer, tmp_path: Path) -> None:
    server.etag, server.cut_at = None, 45_000
    with pytest.raises(DataError, match="fewer or more bytes came"):
        fetched(server, tmp_path)
    server.files["/a.tar"], server.cut_at = DATA[::-1], None
    assert fetched(server, tmp_path) == DATA[::-1]


def test_a_server_that_names_another_version_each_time_is_read(server: WebServer, tmp_path: Path) -> None:
    server.etag = "new each time"
    assert fetched(server, tmp_path) == DATA


@pytest.mark.parametrize("status", [404, 410, 416])
def test_an_object_that_is_gone_is_not_taken_from_the_cache(server: WebServer, tmp_path: Path, status: int) -> None:
    assert fetched(server, tmp_path) == DATA
    server.status = status
    with pytest.raises(DataError, match=rf"a.tar: cannot be fetched .status {status}"):
        fetched(server, tmp_path)


def test_the_cache_stands_in_for_a_server_that_does_not_answer(
    server: WebServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.secret = "SECRET"
    assert fetched(server, tmp_path, "?sig=SECRET") == DATA
    server.secret = "another"
    assert fetched(server, tmp_path) == DATA
    assert "(status 403: access is denied;" in (told := capsys.readouterr().err)
    assert "1 of 1 objects are taken from the cache as they are" in told and "SECRET" not in told
    with pytest.raises(DataError, match="b.tar: cannot be fetched .status 404"):
        fetch_objects([f"{server.url}/a.tar", f"{server.url}/b.tar"], tmp_path)


def test_a_server_that_is_down_is_asked_for_one_object_alone(server: WebServer, tmp_path: Path) -> None:
    server.files["/b.tar"] = DATA
    urls = [f"{server.url}/a.tar", f"{server.url}/b.tar"]
    files = fetch_objects(urls, tmp_path)
    server.status = 500
    server.asked.clear()
    assert fetch_objects(urls, tmp_path) == files
    assert {path for _, path, _ in server.asked} == {"/a.tar"}


def test_a_password_goes_to_the_server_alone(server: WebServer, tmp_path: Path) -> None:
    server.secret = base64.b64encode(b"me:PASSWORD").decode()
    url = without_secrets(server.url.replace("//", "//me:PASSWORD@") + "/a.tar")
    assert fetch_objects([url], tmp_path)[0].read_bytes() == DATA
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 6 and not any(b"PASSWORD" in path.read_bytes() or "PASSWORD" in str(path) for path in files)


def test_many_objects_are_fetched_side_by_side(server: WebServer, tmp_path: Path) -> None:
    server.files |= {f"/{number}.tar": bytes([number]) * 25_000 for number in range(6)}
    files = fetch_objects([f"{server.url}/{number}.tar" for number in range(6)], tmp_path)
    assert [file.read_bytes() for file in files] == [bytes([number]) * 25_000 for number in range(6)]


def test_processes_that_want_the_same_object_fetch_it_once(server: WebServer, tmp_path: Path) -> None:
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(fetched(server, tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [DATA] * 3 and len(server.bodies) == 11


def test_a_full_cache_loses_the_longest_unused_object_and_none_in_use(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BOUND, "0.00025")  # 250,000 bytes: two objects of 102,400
    server.files |= {f"/{number}.tar": DATA for number in range(4)}

    def fetch_as_a_new_process(number: int) -> str:
        as_a_new_process()
        return fetch_objects([f"{server.url}/{number}.tar"], tmp_path)[0].parent.name

    def kept() -> set[str]:
        return {path.parent.name for path in tmp_path.glob("*/data.tar")}

    zero, one = fetch_as_a_new_process(0), fetch_as_a_new_process(1)
    os.utime(tmp_path / zero / "object.json", (1, 1))
    os.utime(tmp_path / one / "object.json", (2, 2))
    two = fetch_as_a_new_process(2)
    assert kept() == {one, two}
    (tmp_path / "in-use" / "other.json").write_text(f'{{"keys": ["{one}"]}}')
    with cache_module.hold(tmp_path / "in-use" / "other.lock", wait=False):
        three = fetch_as_a_new_process(3)
        assert kept() == {one, three}
        message = (
            rf"{BOUND} = 0.00025: leaves no room beside 0.000102 GB in use for .*/2.tar and 1 more \(0.000205 GB\)"
        )
        as_a_new_process()
        with pytest.raises(DataError, match=rf"{message}; set it to at least 0.00031"):
            fetch_objects([f"{server.url}/{number}.tar" for number in (2, 0)], tmp_path)
    assert kept() == {one, three}


@pytest.mark.parametrize("text", ["0", "-1", "nan", "many", "inf"])
def test_a_bound_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BOUND, text)
    with pytest.raises(ConfigError, match=rf"{BOUND} = {text}: must be a number of gigabytes above 0"):
        cache_module.bound()


def test_a_full_disk_is_said(server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = cache_module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: usage._replace(free=9))
    with pytest.raises(DataError, match=r"has no room for .*/a.tar \(0.000102 GB to fetch, 9e-09 GB free\); free some"):
        fetched(server, tmp_path)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_disk_that_fills_up_is_said(server: WebServer, tmp_path: Path, ranges: bool) -> None:
    server.ranges = ranges
    entry = ObjectCache(tmp_path).entry(RemoteObject(f"{server.url}/a.tar", len(DATA), '"1"'))
    entry.folder.mkdir()
    entry.part.symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"cannot be written \(.*"):
        fetched(server, tmp_path)
    assert not entry.file.exists() and len(server.bodies) <= 5


@pytest.mark.parametrize("content", [b"", b"{", b'{"url": 1}', b"[]", b'{"url":"a","size":-1,"version":"","more":1}'])
def test_a_damaged_record_is_no_object(server: WebServer, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0a").mkdir()
    (tmp_path / "0a" / "object.json").write_bytes(content)
    assert fetched(server, tmp_path) == DATA


def test_a_file_that_was_cut_in_the_cache_is_fetched_again(server: WebServer, tmp_path: Path) -> None:
    assert fetched(server, tmp_path) == DATA
    (file,) = tmp_path.glob("*/data.tar")
    os.truncate(file, 100)
    assert fetched(server, tmp_path) == DATA


def test_a_removal_that_was_cut_off_is_finished(server: WebServer, tmp_path: Path) -> None:
    fetched(server, tmp_path)
    as_a_new_process()
    (record,) = tmp_path.glob("*/object.json")
    record.unlink()
    (tmp_path / "photos").mkdir()  # of somebody else
    ObjectCache(tmp_path).clear()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["in-use", "photos"]


@pytest.mark.parametrize("change", [lambda text: "", lambda text: text.replace("{", '{"newer": 1, ')])
def test_a_look_at_the_cache_removes_nothing(server: WebServer, tmp_path: Path, change: Callable[[str], str]) -> None:
    fetched(server, tmp_path)
    (record,) = tmp_path.glob("*/object.json")
    record.write_text(change(text := record.read_text()))
    assert ObjectCache(tmp_path).content()[0] == (1 if record.read_text() else 0)
    assert fetched(server, tmp_path) == DATA and len(server.bodies) == 11
    assert record.read_text() == text  # of the last use


@pytest.mark.parametrize("fault", ["damaged claims", "a lock of another user"])
def test_whoever_cannot_be_asked_reads_all(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    fetched(server, tmp_path)
    (record,) = tmp_path.glob("*/object.json")
    as_a_new_process()
    other, hold = tmp_path / "in-use" / "other.json", cache_module.hold
    other.write_text("" if fault == "damaged claims" else f'{{"keys": ["{record.parent.name}"]}}')

    def refused(path: Path, *, wait: bool) -> AbstractContextManager[bool]:
        if path.stem == "other":
            raise PermissionError(13, "Permission denied")
        return hold(path, wait=wait)

    with ExitStack() as stack:
        if fault == "damaged claims":
            stack.enter_context(hold(other.with_suffix(".lock"), wait=False))
        else:
            monkeypatch.setattr(cache_module, "hold", refused)
        ObjectCache(tmp_path).clear()
        assert record.exists()
    monkeypatch.setattr(cache_module, "hold", hold)
    ObjectCache(tmp_path).clear()
    assert not record.parent.exists()


def test_a_cache_that_cannot_be_written_is_read(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> AbstractContextManager[bool]:
        raise PermissionError(13, "Permission denied")

    fetched(server, tmp_path)
    monkeypatch.setattr(cache_module, "hold", refuse)
    assert fetched(server, tmp_path) == DATA
    assert "cannot be written, so what is read there may be removed" in capsys.readouterr().err
    server.etag = '"2"'
    message = r"cannot be written \(Permission denied; let all users .*, or set SYN2CO_CACHE to your own\)"
    with pytest.raises(DataError, match=message):
        fetched(server, tmp_path)
    with pytest.raises(DataError, match=message):
        ObjectCache(tmp_path).clear()


def test_a_name_that_is_looked_up_for_ever_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end, ended = threading.Event(), threading.Event()

    def look_up(*_: object, **__: object) -> None:
        end.wait(5)
        ended.set()
        raise OSError

    monkeypatch.setattr(store, "PAUSES", ())
    monkeypatch.setattr(store, "STALLED_SECONDS", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(
        DataError, match=r"cannot be fetched in 1 tries \(it was not done in 0.2 seconds, so its server or the network"
    ):
        fetch_objects(["http://host.invalid/a.tar"], tmp_path)
    assert not ended.is_set() and "fetch" not in {thread.name for thread in threading.enumerate()}
    end.set()


def test_an_interrupt_ends_the_thread(server: WebServer, tmp_path: Path) -> None:
    server.stalls = 99

    def interrupt() -> None:
        while not server.bodies:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        fetched(server, tmp_path)
    assert "fetch" not in {thread.name for thread in threading.enumerate()}


def test_a_thread_that_stays_writes_nothing(server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck(store: object, remote: object, start: int, write: Callable[[int, bytes], None]) -> None:
        begun.set()
        go_on.wait(5)
        write(0, b"late")

    def interrupt(*_: object) -> None:
        begun.wait(5)
        raise KeyboardInterrupt

    begun, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(fetch, "_fetch_parts", stuck)
    monkeypatch.setattr(fetch, "_LEAVE_SECONDS", 0.1)
    with pytest.raises(KeyboardInterrupt):
        fetch_objects([f"{server.url}/a.tar"], tmp_path, interrupt)
    (thread,) = (each for each in threading.enumerate() if each.name == "fetch")
    go_on.set()
    thread.join(5)
    (part,) = tmp_path.glob("*/data.part")
    assert part.stat().st_size == 0 and not thread.is_alive()


def test_a_signal_ends_the_wait_and_no_thread_stays(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.stalls = 99

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_objects([f"{server.url}/a.tar"], tmp_path, interrupt)
    assert "fetch" not in {thread.name for thread in threading.enumerate()}
