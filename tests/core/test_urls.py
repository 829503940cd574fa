"""URLs: what of them may be written down, and what this process keeps for itself."""

import pytest

from syn2co.core.settings import one_or_many
from syn2co.core.urls import full_url, is_url, share_secrets, without_secrets
from syn2co.data.settings import DataSettings
from syn2co.models.provenance import source_name


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
    ("/data/what?.tar", "/data/what?.tar"),
    ("C://photos?x", "C://photos?x"),
])  # fmt: skip
def test_a_text_without_secrets_has_none(given: str, public: str) -> None:
    assert without_secrets(given) == public
    assert without_secrets(public) == public


def test_the_secrets_are_there_for_who_asks_the_server() -> None:
    for url in ("https://me:pw@secrets/a.tar", "https://secrets/b.tar?sig=1", "sftp://me:pw@secrets/c.tar"):
        assert full_url(without_secrets(url)) == url
    assert full_url("https://secrets/none.tar") == "https://secrets/none.tar"
    share_secrets(without_secrets("https://me@secrets/{1,2}.tar?sig=2"), ["https://secrets/1.tar"])
    assert full_url("https://secrets/1.tar") == "https://me@secrets/1.tar?sig=2"


@pytest.mark.parametrize("text", ["s3://b", "gs+x://b", "HTTP://h"])
def test_a_url_begins_with_a_scheme(text: str) -> None:
    assert is_url(text) and not is_url(f"/{text}") and not is_url(text.replace("//", ""))


def test_settings_and_names_of_sources_hold_no_secret() -> None:
    url = "https://me:SECRET@host/sets/a.tar?SECRET"
    assert one_or_many(url) == one_or_many([url]) == ("https://host/sets/a.tar",)
    assert DataSettings(real=(url,)).real == ("https://host/sets/a.tar",)
    assert source_name(url) == "a.tar"
