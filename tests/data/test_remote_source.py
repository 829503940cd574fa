"""Tars at a URL as sources: the images and bits of the files, and no secret anywhere."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from remote_servers import WebServer, tar_of, web_server
from tiny_images import write_images

from syn2co.core import urls
from syn2co.core.errors import DataError
from syn2co.data.named_source import look_up
from syn2co.data.open import open_images
from syn2co.images.image_set import ImageSet
from syn2co.images.objects import fetch, store


@pytest.fixture(scope="module")
def shards(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two tars of class folders."""
    folder = tmp_path_factory.mktemp("shards")
    return [tar_of(image_folder, folder / f"{number} a.tar") for number in range(2)]


@pytest.fixture
def server(shards: list[Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A server of both tars below /set/, by their names as a URL spells them."""
    monkeypatch.setattr(store, "PAUSES", ())
    with web_server({f"/set/{number}%20a.tar": path.read_bytes() for number, path in enumerate(shards)}) as served:
        yield served


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the URLs of other tests."""
    monkeypatch.setattr(urls, "_SECRETS", {})
    monkeypatch.setattr(urls, "_AMBIGUOUS", set())


def same(one: ImageSet, other: ImageSet) -> bool:
    """Return whether two sets have equal names, labels, groups and contents."""
    names = [[images.name(number) for number in range(len(images))] for images in (one, other)]
    pixels = all(np.array_equal(one.read(number), other.read(number)) for number in range(len(one)))
    labels = np.array_equal(one.labels, other.labels) and one.classes == other.classes
    return names[0] == names[1] and pixels and labels and one.fingerprint == other.fingerprint


@pytest.mark.parametrize("pattern, numbers", [("0 a.tar", "0"), ("{0..1} a.tar", "01"), ("{1,0} a.tar", "10")])
def test_a_source_at_a_url_is_the_source_of_the_files(
    server: WebServer, shards: list[Path], tmp_path: Path, pattern: str, numbers: str
) -> None:
    remote = open_images(f"{server.url}/set/{pattern.replace(' ', '%20')}?sig=1", cache_dir=tmp_path)
    assert same(remote, open_images(shards[0].parent / pattern, cache_dir=tmp_path))
    assert remote.sources[0].identity == "\0".join(f"{server.url}/set/{number} a.tar" for number in numbers)
    assert {path.partition("?")[2] for _, path, _ in server.asked} == {"sig=1"}  # every object is asked for with it


def test_objects_of_s3_are_listed_by_a_pattern(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from botocore.session import get_session
    from moto.server import ThreadedMotoServer

    monkeypatch.setattr(store, "PAUSES", ())
    monkeypatch.setattr(fetch, "PART", 20_000)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        variables = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
        for name, value in zip(variables, ("AKIA", "SECRET", "us-east-1"), strict=True):
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        client = get_session().create_client("s3")
        client.create_bucket(Bucket="bucket")
        for path in shards:
            client.put_object(Bucket="bucket", Key=f"set/{path.name}", Body=path.read_bytes())
        local = open_images([shards[0].parent / "*.tar"], cache_dir=tmp_path)
        assert same(open_images("s3://bucket/set/*.tar", cache_dir=tmp_path), local)
        with pytest.raises(DataError, match=r"^s3://bucket/set/no.\.tar: no object matches; correct the pattern"):
            open_images("s3://bucket/set/no?.tar", cache_dir=tmp_path)
        with pytest.raises(DataError, match=r"^s3://another/0.tar: cannot be fetched \(status 404: there is no such"):
            open_images("s3://another/0.tar", cache_dir=tmp_path)
    finally:
        server.stop()
    capsys.readouterr()
    assert same(open_images("s3://bucket/set/*.tar", cache_dir=tmp_path), local)  # from the cache
    told = capsys.readouterr().err
    assert "the 2 objects of the last time are taken" in told and "2 of 2 objects are taken from the cache" in told
    assert "SECRET" not in told and not any(b"SECRET" in path.read_bytes() for path in tmp_path.rglob("*.json"))


def test_an_object_of_s3_of_which_nothing_comes_is_named(
    server: WebServer, shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that tells of an object and then stalls, or ends in the middle of it, from where it is fetched later."""
    for name, value in {"ACCESS_KEY_ID": "AKIA", "SECRET_ACCESS_KEY": "SECRET", "ENDPOINT_URL": server.url}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(store, "STALLED_SECONDS", 2)
    monkeypatch.setattr(fetch, "PART", 5_000)  # four at once
    url, server.stalls = "s3://set/0 a.tar", 99
    with pytest.raises(
        DataError, match=r"^s3://set/0 a\.tar: cannot be fetched in 1 tries \(no byte came for 2 seconds"
    ):
        open_images(url, cache_dir=tmp_path)
    server.stalls, server.cut_at = 0, 22_000
    with pytest.raises(DataError, match=r"^s3://set/0 a\.tar: cannot be fetched in 1 tries"):
        open_images(url, cache_dir=tmp_path)
    server.cut_at = None
    server.asked.clear()
    assert same(open_images(url, cache_dir=tmp_path), open_images(shards[0], cache_dir=tmp_path))
    assert min(int(part.removeprefix("bytes=").split("-")[0]) for part in server.bodies) == 20_000


@pytest.mark.parametrize("url, message", [
    ("file:///etc/a.tar", "file:// is a path of this machine; give the path alone"),
    ("htps://host/a.tar", r"htps:// is no scheme of a remote source; known are http, https, s3; did you mean https\?"),
    ("http:///a.tar", "this URL names no host or bucket, or no port behind its colon"),
    ("https://host:99999/a.tar", "this URL names no host or bucket, or no port behind its colon"),
    ("https://host:port/a.tar", "this URL names no host or bucket, or no port behind its colon"),
    ("https://[::1/a.tar", "this URL names no host or bucket, or no port behind its colon"),
    ("https://me:pa/SECRET@host/a.tar", r"^https://me:\*\*\*: this URL names no host"),
    ("https://me:pa?SECRET@host/a.tar", r"^https://me:\*\*\*: this URL names no host"),
    ("s3:///a.tar", "this URL names no host or bucket, or no port behind its colon"),
    ("https://host/*.tar", r"servers of HTTP list no files; name them by \{000..009\}.tar, or one by one"),
    ("https://host/[ab].tar", "servers of HTTP list no files"),
    ("https://host/photos/", "read from .tar files alone, and this is no .tar; pack the images"),
    ("https://host", "read from .tar files alone"),
    ("https://host/a.tar.gz", "read from .tar files alone"),
    ("https://host/get?file=a.tar", "read from .tar files alone"),
    ("https://me:123/SECRET@host/a.tar", r"^https://me:\*\*\*: this URL names no host.* as %2F %3F %23 %40$"),
    ("https://host/a%00.tar", r"^https://host/a%00.tar: no name of a file holds a NUL \(%00\); correct the URL"),
    ("s3://bucket/{0..2}", "^s3://bucket/0: remote images are read from .tar files alone"),
    ("s3://bucket/" + "{1,2}" * 60 + ".tar", "a pattern may hold at most 50 braces"),
    ("s3://bucket/{0..9999999}.tar", "a range may name at most 1,000,000 files"),
])  # fmt: skip
def test_a_url_that_can_be_no_source_is_refused_before_anything_is_asked(url: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        look_up(url)
    assert "SECRET" not in str(caught.value)


def test_a_store_whose_package_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(
        DataError, match=r"gs:// needs a package that is not installed; run pip install 'syn2co\[remote\]"
    ):
        open_images("gs://bucket/a.tar", cache_dir=tmp_path)


def test_a_scheme_that_fsspec_cannot_open_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^zip://set/a.tar: fsspec cannot open zip:// by a URL alone \(\w+\)"):
        open_images("zip://set/a.tar", cache_dir=tmp_path)


def test_an_object_that_is_named_twice_is_fetched_once_and_refused(server: WebServer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 a.tar: this source is given twice; name it once"):
        open_images(f"{server.url}/set/{{0,0}}%20a.tar", cache_dir=tmp_path)
    assert len(server.bodies) == 1


def test_a_url_is_asked_for_as_it_was_written(server: WebServer, shards: list[Path], tmp_path: Path) -> None:
    target = "/%2Fs%7E%ff%25.tar?exp=1,2&acl=%2Fset%2F*&sig=a%3D%3D+'b'&x=~"
    with web_server({"/%2Fs%7E%ff%25.tar": shards[0].read_bytes()}) as other:
        images = open_images(other.url.replace("//", "//m%40e:pw@") + target.replace("%25.", "%."), cache_dir=tmp_path)
        server.status, server.location = 302, other.url + target
        assert images.fingerprint == open_images(f"{server.url}/a.tar", cache_dir=tmp_path).fingerprint
    assert {path for _, path, _ in other.asked} == {target}


def test_names_that_are_no_text_are_told_apart(server: WebServer, shards: list[Path], tmp_path: Path) -> None:
    server.files |= {f"/%{number}.tar": path.read_bytes() for number, path in zip(("fe", "ff"), shards, strict=True)}
    images = open_images([f"{server.url}/%fe.tar", f"{server.url}/%ff.tar"], cache_dir=tmp_path)
    assert [source.identity for source in images.sources] == [f"{server.url}/%fe.tar", f"{server.url}/%ff.tar"]


def test_versions_of_an_object_are_two_sources_and_unknown_queries_are_refused(
    server: WebServer, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    url = f"{server.url}/set/0%20a.tar?sig=1"
    images = open_images([f"{url}&versionId=1", Path(f"{url}&versionId=2")], cache_dir=tmp_path)
    assert [source.identity[-17:] for source in images.sources] == ["a.tar?versionId=1", "a.tar?versionId=2"]
    assert {path.partition("?")[2] for _, path, _ in server.asked} == {"sig=1&versionId=1", "sig=1&versionId=2"}
    server.asked.clear()
    pattern = url.replace("0%20a", "{0,1}%20a")
    code, _, told = run("pretrain", "--real", f"{pattern}&id=1", f"{pattern}&id=2", "--out", tmp_path / "run")
    assert code == 2 and "%20a.tar: this URL was given with two queries that differ in more than a sig" in told
    urls._AMBIGUOUS.clear()
    with pytest.raises(DataError, match=r"/1%20a.tar: this URL was given with two queries"):
        open_images([f"{server.url}/set/1%20a.tar?id=1", f"{server.url}/set/{{1,2}}%20a.tar?id=2"], cache_dir=tmp_path)
    assert "id=2" not in str(server.asked)


def test_a_command_repeats_no_secret(run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, told = run("https://host/a.tar?SECRET")
    assert code == 2 and "there is no command 'https://host/a.tar'" in told and "SECRET" not in told
    code, _, told = run("pretrain", "--real", "https://me:SECRET@host/a.zip?SECRET", "--out", "run")
    assert code == 2 and told.startswith("DataError: https://host/a.zip: remote images are") and "SECRET" not in told


def test_a_page_in_the_place_of_a_tar_is_named_by_its_url(server: WebServer, tmp_path: Path) -> None:
    server.files["/page.tar"] = b"<html>log in</html>"
    with pytest.raises(DataError, match=rf"^{server.url}/page.tar: this file cannot be read as a tar"):
        open_images(f"{server.url}/page.tar", cache_dir=tmp_path)


def test_a_run_from_a_url_is_the_run_from_the_file_and_resumes_offline(
    server: WebServer,
    shards: list[Path],
    tiny: Callable[..., object],
    tmp_path: Path,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from runs import assert_same_run

    monkeypatch.setenv("SYN2CO_CACHE", str(tmp_path / "cache"))
    config = tmp_path / "config.json"
    config.write_text(tiny("training.steps=3", "negatives.start=0", "machine.save_steps=2").to_json())  # type: ignore[attr-defined]
    server.secret = "SECRET"
    url, out = f"{server.url}/set/0%20a.tar?X-Amz-Signature=SECRET", tmp_path / "remote"
    words = ("pretrain", "--config", config, "--quiet")
    code, _, told = run(*words, "--real", url, "--out", out)
    assert code == 0, told
    assert run(*words, "--real", shards[0], "--out", tmp_path / "local")[0] == 0
    assert_same_run(out, tmp_path / "local", state=False)  # the config in it names the source
    assert json.loads((out / "config.json").read_text())["data"]["real"] == [f"{server.url}/set/0%20a.tar"]
    assert not any(b"SECRET" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for checkpoint in (out / "checkpoints").glob("*3*"):
        checkpoint.unlink()
    urls._SECRETS.clear()  # another process
    code, _, told = run("pretrain", "--config", out / "config.json", "--quiet", "--out", out)
    assert (code, "1 of 1 objects are taken from the cache as they are" in told) == (0, True)
    assert_same_run(out, tmp_path / "local", state=False)  # the config in it names the source
    asked = len(server.asked)
    assert run("report", out)[0] == 0
    assert "they lie at a URL, and a report fetches nothing" in next(out.glob("*.html")).read_text(encoding="utf-8")
    assert len(server.asked) == asked
    changed = write_images(tmp_path / "changed", 9, seed=5)
    server.files["/set/0%20a.tar"], server.etag = tar_of(changed, tmp_path / "c.tar").read_bytes(), '"2"'
    code, _, told = run(*words, "--real", url, "--out", out)
    assert code == 2 and "data.real: the images are not those that the run began with (26 then, 9 now" in told
