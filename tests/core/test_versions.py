"""Versions: of syn2co and of what decides the last bits, by the names of the projects."""

import sys
from importlib.metadata import version
from pathlib import Path

import numpy
import pytest

from syn2co.core import versions
from syn2co.core.versions import __version__, package_versions, python_version, source_hash


def test_each_package_is_named_as_its_project() -> None:
    found = package_versions("numpy", "cv2")
    assert found == {"syn2co": __version__, "numpy": numpy.__version__, "opencv": found["opencv"]}
    assert found["opencv"].split(".")[0] == version("opencv-python-headless").split(".")[0]


def test_syn2co_comes_first_and_alone_if_nothing_is_asked() -> None:
    assert list(package_versions("numpy"))[0] == "syn2co"
    assert package_versions() == {"syn2co": __version__}


def test_a_package_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        package_versions("no_such_package")


def test_the_version_of_python_has_three_parts() -> None:
    assert python_version() == ".".join(str(part) for part in sys.version_info[:3])


def test_the_hash_of_the_files_follows_their_content_and_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hash_of(package: str, **files: str) -> str:
        folder = tmp_path / package / "core"
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)
        (folder / "notes.txt").write_text(package)
        monkeypatch.setattr(versions, "__file__", str(folder / "versions.py"))
        return source_hash.__wrapped__()

    hashes = [hash_of("1", a="x = 1"), hash_of("2", a="x = 2"), hash_of("3", b="x = 1"), hash_of("4", a="x = ", b="1")]
    assert len({*hashes}) == 4 and hash_of("5", a="x = 1") == hashes[0]
    assert all(len(one) == 12 for one in hashes)
    monkeypatch.setattr(versions, "__file__", str(tmp_path / "1" / "core" / "versions.py"))
    (tmp_path / "1" / "core" / ".#a.py").symlink_to("somebody@somewhere")  # as an editor locks a file
    assert source_hash.__wrapped__() == hashes[0]
    windows = hash_of("6", a="x = 1\r\ny = 2")
    assert windows == hash_of("7", a="x = 1\ny = 2")
