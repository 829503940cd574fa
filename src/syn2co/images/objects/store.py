"""Objects of a remote store by fsspec: what they are, which there are, and their bytes by range."""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from syn2co.core.errors import DataError
from syn2co.core.urls import full_url

T = TypeVar("T")
STALLED_SECONDS = 30
"""Seconds without a byte after which a connection of HTTP or S3 counts as stalled."""
PART_SECONDS = 600
"""Seconds for a part of any store, and for `LEAST` bytes of an object that is read whole: 14 kB a second."""
LEAST = 8 * 2**20
PAUSES = (0.5, 2.0, 8.0)
"""Seconds before each further try."""
_VERSIONS = ("ETag", "etag", "Last-Modified", "LastModified", "last_modified", "updated", "mtime", "created")
_DENIED = "access is denied; set credentials in the environment, and give a signed URL again: no run keeps it"
_GONE = "there is no such object; correct the URL"
_REASONS = {401: _DENIED, 403: _DENIED, 404: _GONE, 410: _GONE}


class RemoteObject(NamedTuple):
    """One version of an object."""

    url: str
    """Without secrets."""
    size: int
    """In bytes."""
    version: str
    """A text that changes with the content: ETag or time of change; empty if the server tells neither."""


class NoRanges(Exception):
    """A server sends the whole object, or another part, where a part was asked for."""


class Unanswered(DataError):
    """A store did not answer, or failed, each time that it was asked."""


class Denied(DataError):
    """A store refuses the credentials, or wants some."""


NO_ANSWER = (Unanswered, Denied)
"""Errors that say nothing about the object."""


class CutOff(Exception):
    """Fewer or more bytes came than the object has."""


class TooSlow(Exception):
    """A call was not done in the seconds that are its argument."""


@asynccontextmanager
async def opened_store(url: str) -> AsyncIterator[Any]:
    """Yield the asynchronous file system of a URL, closed afterwards; inside a running event loop.

    Raises:
        DataError: if a package for it lacks.
    """
    import fsspec
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

    scheme = url.partition(":")[0]
    try:
        kind: Any = fsspec.get_filesystem_class(scheme)
    except ImportError:
        raise DataError(
            f"{url}: {scheme}:// needs a package that is not installed; run pip install 'syn2co[remote]', which reads "
            "http, https and s3, or install fsspec's package for it"
        ) from None
    try:
        if kind.async_impl:
            store = kind(asynchronous=True, skip_instance_cache=True, **_options(scheme))
            store.retries = 1  # s3fs's own, of which each would wait for the time-out
        else:
            store = AsyncFileSystemWrapper(kind(skip_instance_cache=True), asynchronous=True)
    except Exception as error:  # archives and caches, which need a file system below them
        raise DataError(
            f"{url}: fsspec cannot open {scheme}:// by a URL alone ({type(error).__name__}); copy the tar to a disk"
        ) from None
    try:
        yield store
    finally:
        session = getattr(store, "_s3", None) or getattr(store, "_session", None)
        if session is not None:
            await session.close()


def _options(scheme: str) -> dict[str, Any]:
    """Return the options of a file system: its time-outs, and proxies and passwords of the environment."""
    if scheme in ("http", "https"):
        import aiohttp

        wait = aiohttp.ClientTimeout(total=None, connect=STALLED_SECONDS, sock_read=STALLED_SECONDS)
        headers = {"Accept-Encoding": "identity"}  # sizes and ranges are of the file, not of what is sent
        options = {"timeout": wait, "trust_env": True, "headers": headers, "requote_redirect_url": False}
        return {"client_kwargs": options, "encoded": True}  # a signature may be of the URL as it is written
    if scheme in ("s3", "s3a"):
        wait = {"connect_timeout": STALLED_SECONDS, "read_timeout": STALLED_SECONDS}
        return {"config_kwargs": {**wait, "retries": {"max_attempts": 0}}}
    return {}


async def look_at(store: Any, url: str) -> RemoteObject:
    """Return the present version of an object.

    Raises:
        DataError: if it cannot be asked for, is none, or its server does not tell the size.
    """
    info = await tried(url, lambda: store._info(_address(store, url)), seconds=2 * STALLED_SECONDS)
    if info.get("type") != "file":
        raise DataError(
            f"{url}: this is a folder; remote images are read from .tar files alone: pack it (tar -cf) and give its URL"
        )
    if info.get("mimetype") == "text/html":
        raise DataError(f"{url}: the server answers with an HTML page, a login say, and no tar; correct the URL")
    if info.get("size") is None:
        raise DataError(f"{url}: the server does not tell the size (Content-Length); give a server that does")
    if not info["size"]:
        raise DataError(f"{url}: this object is empty; correct the URL, or make it again")
    return RemoteObject(url, int(info["size"]), next((str(info[key]) for key in _VERSIONS if info.get(key)), ""))


async def changed(store: Any, remote: RemoteObject) -> bool:
    """Return whether an object is another by now; a server that names another version each time tells of no change.

    Raises:
        DataError: if it cannot be asked for.
    """
    now = await look_at(store, remote.url)
    return now.size != remote.size or (now != remote and now == await look_at(store, remote.url))


async def listed(store: Any, pattern: str) -> list[str]:
    """Return the sorted URLs that a pattern with * or ? names.

    Raises:
        DataError: if the store cannot be listed, or nothing matches.
    """
    names = await tried(pattern, lambda: store._glob(pattern))
    urls = sorted(store.unstrip_protocol(name) for name in names)
    if not urls:
        raise DataError(f"{pattern}: no object matches; correct the pattern")
    return urls


async def read_part(store: Any, remote: RemoteObject, start: int, stop: int) -> bytes:
    """Return the bytes [start, stop) of an object.

    Raises:
        NoRanges: if its server has no ranges.
        DataError: if they do not come.
    """

    async def read() -> bytes:
        url = _address(store, remote.url)
        if not hasattr(store, "encode_url"):
            block = await store._cat_file(url, start=start, end=stop)
        else:
            async with _response(store, url, {"Range": f"bytes={start}-{stop - 1}"}) as response:
                parts = (f"bytes {start}-{stop - 1}/{size}" for size in (remote.size, "*"))
                if response.status != 206 or response.headers.get("Content-Range") not in parts:
                    raise NoRanges  # fsspec would read all of it, or another part
                block = await response.read()
        if len(block) != stop - start:
            raise CutOff
        return block

    return await tried(remote.url, read)


async def read_whole(store: Any, remote: RemoteObject, write: Callable[[int, bytes], None]) -> None:
    """Hand the bytes of an object, from the first on, to write(offset, block); a further try begins with the first.

    Raises:
        DataError: if they do not come.
    """

    async def read() -> None:
        offset = due = 0
        async with _in_time(PART_SECONDS) as limit, _response(store, _address(store, remote.url), {}) as response:
            async for block in response.content.iter_chunked(2**20):
                if offset + len(block) > remote.size:
                    raise CutOff
                write(offset, block)
                offset += len(block)
                if offset >= due + LEAST:
                    due = offset
                    limit.reschedule(asyncio.get_running_loop().time() + PART_SECONDS)
        if offset != remote.size:
            raise CutOff

    await tried(remote.url, read, seconds=None)


def _address(store: Any, public: str) -> str:
    """Return the URL that a store is asked for, with its secrets; of one of the web only what must be is quoted."""
    url = full_url(public)
    if not hasattr(store, "encode_url"):
        return url
    from yarl import URL

    origin, rest = re.findall(r"(\w+://[^/?#]*)(.*)", url, re.DOTALL)[0]
    rest = re.sub("%(?![0-9A-Fa-f]{2})", "%25", rest)
    return str(URL(origin)).rstrip("/") + quote(rest, safe="%/?#[]@:!$&'()*+,;=~")


@asynccontextmanager
async def _response(store: Any, url: str, headers: dict[str, str]) -> AsyncIterator[Any]:
    """Yield the answer of a server of HTTP, none of which is read yet."""
    session = await store.set_session()
    async with session.get(store.encode_url(url), headers=headers) as response:
        response.raise_for_status()
        yield response


@asynccontextmanager
async def _in_time(seconds: float | None) -> AsyncIterator[asyncio.Timeout]:
    """Run the block for so many seconds at most, which it may change; None is no limit.

    Raises:
        TooSlow: when they are over; a TimeoutError is of a connection on which nothing comes.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield limit
    except TimeoutError:
        if limit.expired():
            raise TooSlow(seconds) from None
        raise


async def tried(url: str, call: Callable[[], Awaitable[T]], *, seconds: float | None = PART_SECONDS) -> T:
    """Return what a call to a store gives, tried again after a failure that may pass.

    Raises:
        DataError: if no try succeeds; it names the public URL and nothing that the store says, which may hold secrets.
    """
    for pause in (*PAUSES, None):
        try:
            async with _in_time(seconds):
                return await call()
        except (NoRanges, DataError):
            raise
        except Exception as error:  # every store raises others
            reason, kind = _judged(error)
            if kind is not Unanswered:
                raise kind(f"{url}: cannot be fetched ({reason})") from None
            if pause is None:
                raise kind(f"{url}: cannot be fetched in {len(PAUSES) + 1} tries ({reason})") from None
        await asyncio.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _judged(error: Exception) -> tuple[str, type[DataError]]:
    """Return why a store failed, with what to do, and the error that it is: `Unanswered` may pass."""
    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        return _judged(error.__cause__)  # fsspec calls everything that a server of HTTP answers so
    kinds = {kind.__name__ for kind in inspect.getmro(type(error))}
    status = getattr(error, "status", None) or {FileNotFoundError: 404, PermissionError: 403}.get(type(error))
    if isinstance(response := getattr(error, "response", None), dict):  # of botocore
        status = status or response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if status:
        fails = "its server fails; try later, or ask whoever runs it"
        passes = status in (408, 429) or status >= 500
        reason = _REASONS.get(status, fails if passes else "its server refuses the request; ask whoever runs it")
        return f"status {status}: {reason}", Unanswered if passes else Denied if status in (401, 403) else DataError
    if "TimeoutError" in kinds or "ReadTimeoutError" in kinds or "ConnectTimeoutError" in kinds:
        return f"no byte came for {STALLED_SECONDS} seconds; try again, it goes on where it stopped", Unanswered
    if isinstance(error, TooSlow):
        return (
            f"it was not done in {error.args[0]:g} seconds, so its server or the network is too slow; try again later",
            Unanswered,
        )
    if isinstance(error, CutOff) or "ClientPayloadError" in kinds:
        return "fewer or more bytes came than the object has; try again, or ask whoever runs the server", Unanswered
    if "NoCredentialsError" in kinds:
        return "there are no credentials; set them in the environment, or FSSPEC_S3_ANON=true for a public one", Denied
    if {"InvalidURL", "RedirectClientError", "TooManyRedirects"} & kinds:
        return "it is no URL of the web, or leads to none; correct it", DataError
    return f"{type(error).__name__}; check the name of the host and the network", Unanswered
