"""Names of sources on other machines: short, distinct, and no folder of this one."""

from pathlib import Path

import pytest

from syn2co.studies.portable import distinct_names, paths_in, portable_settings, portable_source


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["/me/photos", "/me/train"], ["photos", "train"]),
        (["/me/photos/train", "/me/labeled/train", "/me/cars/train"], ["photos/train", "labeled/train", "cars/train"]),
        (["/me/a/x/train", "/me/b/x/train", "/me/c/y/train"], ["a/x/train", "b/x/train", "y/train"]),
        (["/h/me/train", "/h/me/train/train"], ["me/train", "train/train"]),
        (["/h/a/set", "/h/b/set/train", "/h/c/train"], ["set", "b/set/train", "c/train"]),
        (["/me/a", "/me/a", "/me/a/"], ["a", "a", "a"]),
        (["/a/train", "/b/train", "/c/d/train"], ["train", "train-2", "d/train"]),
        (["/a/x/train", "/b/x/train", "/me/train-2"], ["train", "train-3", "train-2"]),
        (["/train", "/"], ["train", "/"]),
        (["train", "/me/labeled/train"], ["train", "labeled/train"]),
        (["https://host/sets/train", "/me/labeled/train"], ["train", "labeled/train"]),
        (["12bit:/me/a/scans", "/me/b/scans", "12bit:/me/b/scans"], ["12bit:a/scans", "b/scans", "12bit:b/scans"]),
        (["builtin:digits:train", "hf:/me/sets/cars", "/me/cars"], ["builtin:digits:train", "hf:cars", "cars"]),
        (["/me/sets/images", "/me/runs/run"], ["sets/images", "runs/run"]),
    ],
)
def test_names_tell_sources_apart_and_say_no_more(sources: list[str], names: list[str]) -> None:
    told = distinct_names(sources, reserved=("images", "run"))
    assert [told[source] for source in sources] == names


def test_links_and_relative_paths_are_the_folder_that_they_lead_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos" / "train").mkdir(parents=True)
    (tmp_path / "labeled" / "train").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "labeled" / "train")
    monkeypatch.chdir(tmp_path)
    sources = [f"{tmp_path}/photos/train", "link", "labeled/train", "photos/../labeled/train"]
    assert list(distinct_names(sources).values()) == ["photos/train", *["labeled/train"] * 3]


def test_names_are_those_of_data_sets_and_settings_too() -> None:
    names = distinct_names(["/me/cars/train", "/me/labeled/train", "/me/test"])
    assert portable_source("cars=/me/cars/train,/me/test", names) == "cars=cars/train,test"
    settings = ["init_from=/me/labeled/train", 'online_knn.train=["/me/cars/train", "/me/pets"]', "data_root=/me"]
    assert paths_in(settings) == ["/me/labeled/train", "/me/cars/train", "/me/pets"]
    assert portable_settings(settings, names) == [
        "init_from=labeled/train",
        'online_knn.train=["cars/train", "pets"]',
    ]
