"""URLs of remote data, and what of them may be written down: no password, no signature."""

import re
from collections.abc import Iterable

_WEB = ("http", "https")
_WILDCARDS = ("s3", "s3a", "gs", "gcs")
"""Schemes whose ? is a wildcard; elsewhere it begins a query."""
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+"
_NEXT = rf",(?=(?:\d+bit:)*{_SCHEME}://|/)"
"""Comma between two sources; any other one belongs to the URL before it."""
_ASSIGNMENT = re.compile(r"([\w.-]+=)([^\[{\"'].*)", re.DOTALL)
_ONE_URL = re.compile(rf"(\s*[^\s\"'/?#=,]*?)({_SCHEME})://(.*)", re.DOTALL)
_PARTS_OF_A_SENTENCE = re.compile(
    r"(?<!\w)(?P<quote>[\"'])(?P<quoted>(?:\\.|(?!(?P=quote)).)*)(?P=quote)(?!\w)"
    rf"|\b(?P<scheme>{_SCHEME})://(?P<rest>(?:(?!{_NEXT})[^\s\"'])*?)(?=[:;,.?)\]]{{0,3}}(?:[\s\"']|$|{_NEXT}))",
    re.DOTALL,
)
# pathlib makes https:/host of https://host; our own kinds of sources and encoders may name an absolute path.
_COLLAPSED = re.compile(
    rf"(?:^|(?<=[\s\"'=,(\[]))((?:\d+bit:)*(?!(?:builtin|hf|procedural|timm|torchvision):){_SCHEME}:/)(?=[^/])"
)
_VERSION = re.compile(r"(?:versionId|version|generation)=[\w.-]+")
"""Part of a query that names another object, and is no secret."""
_SIGNATURE = re.compile(
    r"(?:x-[a-z]+-.*|.*(?:sig|token|auth|key|hmac|expir|access|jwt).*|exp|acl|policy|s[eiprtv]|spr|sip|srt|ses|sdd"
    r"|sk[estv]|sktid|skoid|saoid|suoid|scid)(?:=.*)?",
    re.IGNORECASE,
)
"""Part of a query that another signature of the same object changes."""
_SECRETS: dict[str, tuple[str, str]] = {}
"""User and query of the URLs that were given to this process, by their public form."""
_AMBIGUOUS: set[str] = set()


def is_url(text: str) -> bool:
    """Return whether a text begins like a URL; one letter is a drive of Windows.

    Example:
        >>> is_url("https://host/a.tar"), is_url("hf:a"), is_url("C://photos")
        (True, False, False)
    """
    return re.match(rf"{_SCHEME}://", text) is not None


def without_secrets(text: str) -> str:
    """Return a text of the user without the secrets of the URLs in it: passwords, and queries, which may be signatures.

    This process remembers them, for `full_url`. Config files, reports and messages get the public text alone, which
    keeps of a query what names a version. `pathlib` collapses https://host to https:/host, which counts as the URL.

    Args:
        text: a URL, 12bit:URL, NAME=URL,URL, an assignment, JSON, or any other text.

    Example:
        >>> without_secrets("https://me:pw@host/a.tar?X-Amz-Signature=0f"), without_secrets("s3://bucket/00?.tar")
        ('https://host/a.tar', 's3://bucket/00?.tar')
        >>> without_secrets("https:/host/a.tar?versionId=2&token=7")
        'https://host/a.tar?versionId=2'
    """
    return _clean_word(text, remember=True) if ":/" in text else text


def without_shown_secrets(sentence: str) -> str:
    """Return a sentence without the secrets of the URLs in it, none of which is remembered.

    Example:
        >>> without_shown_secrets("seed = https://me:pw@host/a.tar?token=7: must be a number")
        'seed = https://host/a.tar: must be a number'
    """
    return _clean_sentence(_COLLAPSED.sub(r"\1/", sentence), remember=False) if ":/" in sentence else sentence


def without_query(public: str) -> str:
    """Return a URL without its query.

    Args:
        public: as of `without_secrets`.

    Example:
        >>> without_query("https://host/a.tar?versionId=2"), without_query("s3://bucket/00?.tar")
        ('https://host/a.tar', 's3://bucket/00?.tar')
    """
    return public if public.partition("://")[0] in _WILDCARDS else public.partition("?")[0]


def full_url(public: str) -> str:
    """Return the URL as this process was given it, with its secrets; the public one if it was given no others.

    Args:
        public: as of `without_secrets`.

    Example:
        >>> full_url(without_secrets("https://host/b.tar?token=7"))
        'https://host/b.tar?token=7'
    """
    user, query = _SECRETS.get(public, ("", ""))
    scheme, marks, rest = (without_query(public) if query else public).partition("://")
    return f"{scheme}{marks}{user}{rest}{query}"


def is_ambiguous(public: str) -> bool:
    """Return whether this process was given a URL with queries that differ in more than a signature.

    They may be of two objects, which nothing that is written down would tell apart.

    Args:
        public: as of `without_secrets`.

    Example:
        >>> public = [without_secrets(f"https://host/get.tar?{query}") for query in ("id=1&sig=a", "id=1&sig=b")]
        >>> is_ambiguous(public[0]), is_ambiguous(without_secrets("https://host/get.tar?id=2"))
        (False, True)
    """
    return public in _AMBIGUOUS


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
        for url in urls:
            _remember(url, *_SECRETS[pattern])


def _remember(public: str, user: str, query: str) -> None:
    """Keep the secrets of a URL, and whether they may be of another object than those before."""
    objects = [_object(text) for text in (_SECRETS.get(public, ("", ""))[1], query)]
    if all(objects) and objects[0] != objects[1]:
        _AMBIGUOUS.add(public)
    _SECRETS[public] = user, query


def _object(query: str) -> list[str]:
    """Return the parts of a query that are no signature."""
    return sorted(part for part in query[1:].split("&") if part and not _SIGNATURE.fullmatch(part))


def _clean_word(text: str, *, remember: bool) -> str:
    """Return one text of a command line, or a string in one, without secrets."""
    text = _COLLAPSED.sub(r"\1/", text)
    if (assignment := _ASSIGNMENT.fullmatch(text)) is not None:
        return assignment[1] + ",".join(_clean_word(part, remember=remember) for part in re.split(_NEXT, assignment[2]))
    if (one := _ONE_URL.fullmatch(text)) is not None:
        return one[1] + _public(one[2], one[3], remember=remember)
    return _clean_sentence(text, remember=remember)


def _clean_sentence(text: str, *, remember: bool) -> str:
    """Return a text without secrets: a URL in it ends at a blank or a quote, in quotes at the second one."""

    def clean(part: re.Match[str]) -> str:
        if part["quote"] is None:
            return _public(part["scheme"], part["rest"], remember=remember)
        return part["quote"] + _clean_word(part["quoted"], remember=remember) + part["quote"]

    return _PARTS_OF_A_SENTENCE.sub(clean, text)


def _public(scheme: str, rest: str, *, remember: bool) -> str:
    """Return one URL without its secrets."""
    scheme = scheme.lower()
    ends = None if scheme in _WILDCARDS else re.search("[?#]", rest)
    query = "" if ends is None else rest[ends.start() :]
    host, slash, path = rest.removesuffix(query).partition("/")
    user, at, after = host.rpartition("@")
    name, colon, port = after.partition(":")
    no_port = "@" in (path if slash else query) or (scheme in _WEB and not re.fullmatch(r"\d*", port))
    if colon and not at and not name.startswith("[") and no_port:  # a password that is not percent-encoded
        return f"{scheme}://{name}:***"
    if scheme not in _WEB and ":" not in user:  # of abfs://container@account the container is no secret
        user, at, after = "", "", host
    version = "&".join(part for part in query.partition("#")[0][1:].split("&") if _VERSION.fullmatch(part))
    public = f"{scheme}://{after}{slash}{path}{version and f'?{version}'}"
    if remember and (user or query[1:] != version):
        _remember(public, user + at, query)
    return public
