"""URLs of remote data, and what of them may be written down: no password, no signature."""

import re
from collections.abc import Iterable

_WEB = ("http", "https")
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+"
# Of several URLs in one text, a comma ends a query, and a path where the next URL follows.
_URL = re.compile(rf"\b({_SCHEME})://((?:(?!,{_SCHEME}://)[^\s\"'?#])*)([?#][^\s\"',]*)?")
_ONE_URL = re.compile(r"(?:\d+bit:)?(https?)://([^?#]*)([?#].*)?", re.IGNORECASE | re.DOTALL)
_SECRETS: dict[str, tuple[str, str]] = {}
"""User and query of the URLs that were given to this process, by their public form."""


def is_url(text: str) -> bool:
    """Return whether a text begins like a URL; one letter is a drive of Windows.

    Example:
        >>> is_url("https://host/a.tar"), is_url("hf:a"), is_url("C://photos")
        (True, False, False)
    """
    return re.match(rf"{_SCHEME}://", text) is not None


def without_secrets(text: str) -> str:
    """Return a text without the secrets of the URLs in it: passwords, and queries of HTTP, which may be signatures.

    This process remembers them, for `full_url`. Config files, reports and messages get the public text alone.

    Args:
        text: any text: a URL, 12bit:URL, NAME=URL,URL or an assignment.

    Example:
        >>> without_secrets("https://me:pw@host/a.tar?X-Amz-Signature=0f"), without_secrets("s3://bucket/00?.tar")
        ('https://host/a.tar', 's3://bucket/00?.tar')
    """
    if "://" not in text:
        return text
    if (one := _ONE_URL.fullmatch(text)) is not None:
        return text[: one.start(1)] + _public(one)
    return _URL.sub(_public, text)


def full_url(public: str) -> str:
    """Return the URL as this process was given it, with its secrets; the public one if it was given no others.

    Args:
        public: as of `without_secrets`.

    Example:
        >>> full_url(without_secrets("https://host/b.tar?token=7"))
        'https://host/b.tar?token=7'
    """
    user, query = _SECRETS.get(public, ("", ""))
    scheme, marks, rest = public.partition("://")
    return f"{scheme}{marks}{user}{rest}{query}"


def share_secrets(pattern: str, urls: Iterable[str]) -> None:
    """Let the secrets of a pattern be those of the URLs that it names.

    Args:
        pattern: as of `without_secrets`.
        urls: as of `without_secrets`.

    Example:
        >>> share_secrets(without_secrets("https://host/{1,2}.tar?token=7"), ["https://host/1.tar"])
        >>> full_url("https://host/1.tar")
        'https://host/1.tar?token=7'
    """
    if pattern in _SECRETS:
        _SECRETS.update(dict.fromkeys(urls, _SECRETS[pattern]))


def _public(url: re.Match[str]) -> str:
    """Return one URL without its secrets, and remember these."""
    scheme, rest, query = url[1].lower(), url[2], url[3] or ""
    host, slash, path = rest.partition("/")
    user, at, after = host.rpartition("@")
    if scheme not in _WEB:
        path, query = path + query, ""
        if ":" not in user:  # of abfs://container@account the container is no secret
            user, at, after = "", "", host
    elif re.search(r"^[^\[]*:(?!\d*$)", after):  # no port: the beginning of a password that is not percent-encoded
        return f"{scheme}://{after.partition(':')[0]}:***"
    public = f"{scheme}://{after}{slash}{path}"
    if user or query:
        _SECRETS[public] = user + at, query
    return public
