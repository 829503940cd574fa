"""Tars at a URL as a source: the URL is checked before anything is asked, then the tars are fetched into the cache."""

from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from syn2co.core.errors import DataError
from syn2co.core.hints import nearest
from syn2co.core.urls import is_ambiguous, share_secrets, without_query
from syn2co.data.patterns import expand_braces
from syn2co.images.source import Source

Progress = Callable[[str, int, int], None]
FOLDER = "remote"
"""Folder of fetched objects in the cache."""
_WEB, _LOCAL = ("http", "https"), ("file", "local")
_USUAL = (*_WEB, "s3")


def check_url(url: str) -> None:
    """Refuse a URL that cannot be a source; nothing is asked of the network.

    Args:
        url: without secrets, with patterns.

    Raises:
        DataError: if its scheme is unknown or local, it does not end in .tar, or it may be one of two objects.
    """
    _refuse_ambiguous([url])
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    if scheme in _LOCAL:
        raise DataError(f"{url}: {scheme}:// is a path of this machine; give the path alone")
    if not _known(scheme):
        hint = nearest(scheme, _USUAL) or "; correct it"
        raise DataError(f"{url}: {scheme}:// is no scheme of a remote source; known are {', '.join(_USUAL)}{hint}")
    if not _is_host(host, web=scheme in _WEB):
        raise DataError(
            f"{url}: this URL names no host or bucket, or no port behind its colon; correct it, and write / ? # of a "
            "password, and every @ but that before the host, as %2F %3F %23 %40"
        )
    if scheme in _WEB and any(mark in path for mark in "*["):
        raise DataError(f"{url}: servers of HTTP list no files; name them by {{000..009}}.tar, or one by one")
    for part in expand_braces(url):
        if "%00" in part or "\0" in part:
            raise DataError(f"{part}: no name of a file holds a NUL (%00); correct the URL")
        if not without_query(part).endswith(".tar"):
            raise DataError(
                f"{part}: remote images are read from .tar files alone, and this is no .tar; pack the images (tar -cf) "
                "and give the URL of the tar"
            )


def open_remote(url: str, *, cache_dir: Path, report: Progress | None = None) -> Source:
    """Return the images in the tars at a URL, which are fetched unless the cache has them.

    The source is what it would be if the tars lay on this machine, but for its identity, the URL.

    Args:
        url: without secrets; braces and, but for HTTP, wildcards name several.

    Raises:
        DataError: if an object cannot be had, or is no tar with images.
        ConfigError: if the bound of the cache is no number.
    """
    from syn2co.images.objects.fetch import fetch_objects, list_objects
    from syn2co.images.sources.tar import open_tars

    check_url(url)
    web, folder = url.partition(":")[0] in _WEB, cache_dir / FOLDER
    parts, urls = list(expand_braces(url)), []
    share_secrets(url, parts)
    _refuse_ambiguous(parts)
    for part in parts:
        pattern = not web and any(mark in without_query(part) for mark in "*?[")
        urls += list_objects(part, folder) if pattern else [part]
    files = fetch_objects(urls, folder, report)
    names = [_name(text) if web else text for text in urls]
    return open_tars(files, cache_dir=cache_dir, report=report, names=names)


def _name(url: str) -> str:
    """Return a URL of the web as people read it, if that is text."""
    try:
        return unquote(url, errors="strict")
    except UnicodeDecodeError:
        return url


def _refuse_ambiguous(urls: Iterable[str]) -> None:
    """Refuse a URL that this process was given with queries that may name two objects."""
    for url in urls:
        if is_ambiguous(url):
            raise DataError(
                f"{url}: this URL was given with two queries that differ in more than a signature, and no file would "
                "tell their objects apart; give the tars names of their own, or in Python start it again for each"
            )


def _is_host(text: str, *, web: bool) -> bool:
    """Return whether a text is a host with its port, or a bucket."""
    try:
        split = urlsplit(f"http://{text}")
        return bool(split.hostname and split.port != 0) if web else bool(text)
    except ValueError:
        return False


def _known(scheme: str) -> bool:
    """Return whether fsspec opens a scheme."""
    if scheme in _USUAL:
        return True
    from fsspec.registry import known_implementations

    return scheme in known_implementations
