"""URLs: what of them may be written down, and what this process keeps for itself."""

from pathlib import Path

import pytest

from syn2co.core.errors import ConfigError, DataError
from syn2co.core.hints import shortened
from syn2co.core.settings import one_or_many
from syn2co.core.urls import full_url, is_ambiguous, is_url, share_secrets, without_secrets
from syn2co.data.settings import DataSettings
from syn2co.models.provenance import source_name
from syn2co.pretraining.config import Config


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the URLs of other tests."""
    monkeypatch.setattr("syn2co.core.urls._SECRETS", {})
    monkeypatch.setattr("syn2co.core.urls._AMBIGUOUS", set())


@pytest.mark.parametrize("given, public", [
    ("https://host/a.tar?X-Amz-Signature=SECRET", "https://host/a.tar"),
    ("HTTPS://me:SECRET@host:8080/a b.tar", "https://host:8080/a b.tar"),
    ("https://SECRET@host/a.tar#SECRET", "https://host/a.tar"),
    ("12bit:https://host/{a,b}.tar?x=1,SECRET 'and'", "12bit:https://host/{a,b}.tar"),
    ("sftp://me:SECRET@host/a.tar", "sftp://host/a.tar"),
    ("abfs://container@account/a.tar", "abfs://container@account/a.tar"),
    ("s3://bucket/00?.tar", "s3://bucket/00?.tar"),
    ("birds=https://host/a.tar?SECRET,https://me:SECRET@host/b.tar?SECRET", "birds=https://host/a.tar,https://host/b.tar"),
    ("birds=https://host/a.tar?SECRET,/data/test", "birds=https://host/a.tar,/data/test"),
    ('data.real=["https://host/a.tar?SECRET", "https://u:SECRET@h/b.tar"]', 'data.real=["https://host/a.tar", "https://h/b.tar"]'),
    ("simplecache::https://host/a.tar?SECRET", "simplecache::https://host/a.tar"),
    ("cars=https://host/a.tar?sig=a,SECRET,12bit:https://host/b.tar?SECRET", "cars=https://host/a.tar,12bit:https://host/b.tar"),
    ('data.real=["https://me:SEC RET@host/my a.tar?sig=a,SECRET"]', 'data.real=["https://host/my a.tar"]'),
    ("data.real=https://me:SEC'RET@host/it's a.tar?sig=SECRET", "data.real=https://host/it's a.tar"),
    ("evaluation.x=12bit:https://host/a.tar?a,SECRET", "evaluation.x=12bit:https://host/a.tar"),
    ("16bit:12bit:https://host/a.tar?a,SECRET", "16bit:12bit:https://host/a.tar"),
    ("\thttps://me:SECRET@host/a.tar?SECRET=1 2SECRET", "\thttps://host/a.tar"),
    ("see https://host/a.tar?a,SECRET, or 'https://host/b c.tar?SECRET'.",
     "see https://host/a.tar, or 'https://host/b c.tar'."),
    ("az://container/a.tar?sv=1&sig=SECRET", "az://container/a.tar"),
    ("http+unix://me:SECRET@host/a.tar?SECRET", "http+unix://host/a.tar"),
    ("https://me:123/SECRET@host/a.tar", "https://me:***"),
    ("https://me:12#SECRET@host/a.tar", "https://me:***"),
    ("sftp://me:SEC/RET@host/a.tar", "sftp://me:***"),
    ("https://host:80/a.tar?mail=SECRET@x", "https://host:80/a.tar"),
    ("https://[::1]:80/@a.tar", "https://[::1]:80/@a.tar"),
    ("https://host/a.tar?versionId=a_1.&sig=SECRET&generation=7#SECRET", "https://host/a.tar?versionId=a_1.&generation=7"),
    ("https://host/a.tar?version={1,SECRET}", "https://host/a.tar"),
    ("https:/me:SECRET@host/a.tar?SECRET", "https://host/a.tar"),
    ("12bit:s3:/bucket/a.tar", "12bit:s3://bucket/a.tar"),
    ("cars=https:/host/a.tar?SECRET,https://host/b.tar", "cars=https://host/a.tar,https://host/b.tar"),
    ("hf:/data/sets", "hf:/data/sets"),
    ("C:/photos", "C:/photos"),
    ("/a:/usr/lib:/usr/bin", "/a:/usr/lib:/usr/bin"),
    ("/data/what?.tar", "/data/what?.tar"),
    ("C://photos?x", "C://photos?x"),
])  # fmt: skip
def test_a_text_without_secrets_has_none(given: str, public: str) -> None:
    assert without_secrets(given) == public
    assert without_secrets(public) == public
    assert "SECRET" not in str(DataError(f"source {given!r}, of {shortened(given)}: is bad."))
    assert " " in given or "SECRET" not in str(DataError(f"source = {given}: is bad."))
    assert str(DataError(f"{public.strip()}: is bad (x).")) == f"{public.strip()}: is bad (x)."


def test_the_secrets_are_there_for_who_asks_the_server() -> None:
    for url in ("https://me:pw@secrets/a.tar", "https://secrets/b.tar?sig=1", "sftp://me:pw@secrets/c.tar"):
        assert full_url(without_secrets(url)) == url
    assert full_url("https://secrets/none.tar") == "https://secrets/none.tar"
    share_secrets(without_secrets("https://me@secrets/{1,2}.tar?sig=2"), ["https://secrets/1.tar"])
    assert full_url("https://secrets/1.tar") == "https://me@secrets/1.tar?sig=2"
    version = "https://secrets/a.tar?sig=3&versionId=4"
    assert full_url(without_secrets(version)) == version


@pytest.mark.parametrize("one, other, ambiguous", [
    ("?id=1", "?id=2", True),
    ("?id=1&sig=2", "?id=1&sig=3", False),
    ("?X-Amz-Date=1&X-Amz-Signature=2&partNumber=1", "?partNumber=1&X-Amz-Signature=5&X-Amz-Date=7", False),
    ("?sv=1&se=2&sr=b&sp=r&sig=3", "?sv=1&se=5&sr=b&sp=r&sig=6", False),
    ("?Expires=1&Signature=2&Key-Pair-Id=3&Policy=4", "?Expires=5&Signature=6&Key-Pair-Id=7", False),
    ("?versionId=1", "?versionId=2", False),
    ("?id=1", "", False),
])  # fmt: skip
def test_queries_that_may_name_two_objects_are_told(one: str, other: str, ambiguous: bool) -> None:
    publics = {without_secrets(f"https://host/a.tar{query}") for query in (one, other, one)}
    assert any(map(is_ambiguous, publics)) is ambiguous
    assert len(publics) == 1 + ("versionId" in one)  # versions are two sources
    assert not any(map(is_ambiguous, ("https://host/b.tar", without_secrets("https://host/c.tar?id=1"))))


def test_errors_show_no_secret() -> None:
    with pytest.raises(ConfigError, match=r"^seed = https://host/my a.tar: input should be a valid integer") as caught:
        Config.parse({"seed": "https://me:SECRET@host/my a.tar?s=SECRET"})
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("text", ["s3://b", "gs+x://b", "HTTP://h"])
def test_a_url_begins_with_a_scheme(text: str) -> None:
    assert is_url(text) and not is_url(f"/{text}") and not is_url(text.replace("//", ""))


def test_settings_and_names_of_sources_hold_no_secret() -> None:
    url = "https://me:SECRET@host/sets/a.tar?SECRET"
    assert one_or_many(url) == one_or_many([url]) == one_or_many(Path(url)) == ("https://host/sets/a.tar",)
    assert DataSettings(real=(url,)).real == ("https://host/sets/a.tar",)
    assert source_name(url) == "a.tar"
