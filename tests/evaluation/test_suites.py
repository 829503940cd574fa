"""Which data sets and protocols an evaluation has: what was given, transfer sets, the authors' suite."""

from pathlib import Path

import pytest
from evaluation_folders import TINY, paint
from torchvision_layouts import write_all

from syn2co.core.errors import DataError, EvaluationError
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.suites import AUTHORS_TRANSFER, choose_suite
from syn2co.models.encoder import build_encoder
from syn2co.reports.evaluation import evaluate

ALONE = EvaluationSettings(device="cpu", baselines=False)


@pytest.fixture
def empty_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SYN2CO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "root").mkdir()
    return str(tmp_path / "root")


def test_the_authors_suite_names_what_is_missing(empty_root: str) -> None:
    settings = ALONE.with_settings([f"data_root={empty_root}"])
    suite = choose_suite(["syn2co"], "a", "b", (), settings)
    assert [data.name for data in suite.data] == [""] and suite.protocols == ("linear", "variants")
    (note,) = suite.notes
    assert note.startswith(f"syn2co: not on this machine and not scored: {', '.join(AUTHORS_TRANSFER)}")
    with pytest.raises(EvaluationError, match="name no images to score on.*no ImageNet-100 given"):
        choose_suite(["syn2co"], None, None, (), settings)


def test_the_authors_suite_takes_what_is_there(empty_root: str) -> None:
    (Path(empty_root) / "cifar-10-batches-py").mkdir()
    suite = choose_suite(["syn2co", "knn"], "a", "b", (), ALONE.with_settings([f"data_root={empty_root}"]))
    assert [data.name for data in suite.data] == ["given", "cifar10"]
    assert suite.protocols == ("knn", "linear", "variants")
    assert [data.left_out for data in suite.data] == [(), ("variants",)], "CIFAR-10 has no classes of ImageNet-A"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["knn"], None, None, ()), "--train and --test: name no images to score on; give both, or data sets by name"),
        ((["knn"], "a", None, ()), "--test: is missing beside --train; give both, or neither and --transfer"),
        ((["knn"], None, "b", ()), "--train: is missing beside --test"),
        ((["knn"], None, None, ("pets",)), "--transfer: not on this machine and not scored: pets"),
        ((["knn"], None, None, ("",)), "--transfer: a name is empty; give names such as cifar10, or folders"),
        (
            (["dense", "syn2co"], "a", "b", ()),
            "dense needs folders of images and masks, syn2co needs one folder a class",
        ),
    ],
)
def test_what_cannot_be_scored_is_said(empty_root: str, arguments: tuple, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        choose_suite(*arguments, ALONE.with_settings([f"data_root={empty_root}"]))


def test_an_unknown_data_set_gets_the_nearest_name(empty_root: str) -> None:
    with pytest.raises(DataError, match="cifar11.*did you mean cifar10"):
        choose_suite(["knn"], None, None, ("cifar11",), ALONE.with_settings([f"data_root={empty_root}"]))


def test_folders_as_transfer_sets_have_rows_and_ranks(tmp_path: Path) -> None:
    for name, colors in (("two", ("blue", "red")), ("three", ("blue", "green", "white"))):
        for side, seed in (("train", 0), ("test", 1)):
            paint(tmp_path / name / side, dict.fromkeys(colors, 6 - 3 * seed), seed=seed)
    encoder = build_encoder(TINY, seed=1)
    settings = EvaluationSettings(device="cpu")
    transfer = [tmp_path / "two", tmp_path / "three"]
    report = evaluate(encoder, protocols=["knn"], transfer=transfer, settings=settings, out=tmp_path / "out")
    assert [(row.data, row.encoder) for row in report.rows] == [
        (data, name) for data in ("two", "three") for name in ("encoder", "raw pixels", "random init")
    ]
    assert report.score("raw pixels", "knn", "three").value == 100.0 and report.score("raw pixels", "knn").n_test == 6
    assert set(report.mean_ranks()["knn"]) == {"encoder", "raw pixels", "random init"}
    page = (tmp_path / "out" / "evaluation.md").read_text()
    assert "| three | raw pixels | knn, k = 18 | 100.0 |" in page and "mean rank over data sets, knn" in page
    assert str(tmp_path) not in page + report.to_json()
    assert (tmp_path / "out" / "scores-three.png").exists()


def test_two_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    """Named defect: a folder called "given" was merged with --train and --test."""
    for side, seed in (("train", 0), ("test", 1)):
        paint(tmp_path / "given" / side, {"blue": 4, "red": 4}, seed=seed)
    with pytest.raises(EvaluationError, match="--transfer: two data sets have the name given; rename a folder"):
        choose_suite(["knn"], "a", "b", (tmp_path / "given",), ALONE)


def test_the_authors_suite_from_folders_to_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Head on the given images, the same head on ImageNet-A, and a head per transfer set with the field's metric."""
    monkeypatch.setenv("SYN2CO_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "root"
    root.mkdir()
    write_all(root, monkeypatch)
    ids = {"blue": "n01498041", "red": "n01531178"}
    for folder, count, seed in (("train", 6, 0), ("test", 3, 1), ("root/imagenet-a", 2, 2)):
        paint(tmp_path / folder, dict.fromkeys(ids, count), seed=seed)
        for color, wordnet in ids.items():
            (tmp_path / folder / color).rename(tmp_path / folder / wordnet)
    settings = ALONE.with_settings([f"data_root={root}", "max_overlap=1"])
    encoder = build_encoder(TINY, seed=1)
    report = evaluate(encoder, tmp_path / "train", tmp_path / "test", protocols=["syn2co"], settings=settings)
    assert [(row.data, row.protocol, row.metric) for row in report.rows] == [
        ("given", "linear", "top-1"), ("given", "imagenet-a", "top-1"), ("cifar10", "linear", "top-1"),
        ("cifar100", "linear", "top-1"), ("flowers102", "linear", "mean per class"),
        ("pets", "linear", "mean per class"), ("food101", "linear", "top-1"),
    ]  # fmt: skip
    assert report.score("encoder", "imagenet-a").n_test == 4
    missing = [note for note in report.notes if "not there and not scored" in note]
    assert missing == [note for note in report.notes if note.startswith("given: variants: not there")]
    assert "imagenet-r, imagenet-sketch" in missing[0]


def test_a_transfer_set_of_two_sources_has_a_row(tmp_path: Path) -> None:
    """NAME=TRAIN,TEST, beside the given sides and a folder; its scores are those of the same images given alone."""
    for seed, name in enumerate(("train", "test", "cars", "cars-test")):
        paint(tmp_path / name, {"blue": 6, "red": 6}, seed=seed, noise=200)
    for side, seed in (("train", 4), ("test", 5)):
        paint(tmp_path / "birds" / side, {"blue": 4, "red": 4}, seed=seed)
    given = [str(tmp_path / "train"), str(tmp_path / "test")]
    transfer = [tmp_path / "birds", f"cars={tmp_path}/cars,{tmp_path}/cars-test"]
    encoder = build_encoder(TINY, seed=1)
    report = evaluate(encoder, *given, protocols=["knn"], transfer=transfer, settings=ALONE)
    assert [row.data for row in report.rows] == ["given", "cars", "birds"]
    alone = evaluate(encoder, str(tmp_path / "cars"), str(tmp_path / "cars-test"), protocols=["knn"], settings=ALONE)
    assert report.score("encoder", "knn", "cars").values.tolist() == alone.rows[0].values.tolist()
    assert str(tmp_path) not in report.to_json() and report.metadata["train"] == ["train", "cars", "train"]


def test_a_comma_in_a_query_parts_no_sides() -> None:
    suite = choose_suite(["knn"], None, None, ("cars=https://suites/a.tar?sig=1,2,https://suites/b.tar?sig=3",), ALONE)
    assert [(data.train, data.test) for data in suite.data] == [("https://suites/a.tar", "https://suites/b.tar")]


@pytest.mark.parametrize("text", ["cars=a", "cars=a,", "cars=,b", "=a,b", "cars=", "two words=a,b", "a/b=c,d"])
def test_a_transfer_set_of_half_a_name_is_refused(text: str) -> None:
    with pytest.raises(EvaluationError, match="must be NAME=TRAIN,TEST, a name of letters and digits with two sources"):
        choose_suite(["knn"], "a", "b", (text,), ALONE)


def test_a_folder_may_have_an_equals_sign_in_its_name(tmp_path: Path) -> None:
    """Named defect: the folder lr=0.1 was read as NAME=TRAIN,TEST."""
    for side in ("train", "test"):
        paint(tmp_path / "lr=0.1" / side, {"blue": 2, "red": 2})
    (given, data) = choose_suite(["knn"], "a", "b", (tmp_path / "lr=0.1",), ALONE).data
    assert (given.name, data.name) == ("given", "lr=0.1")


def test_two_transfer_sets_of_one_name_are_refused() -> None:
    with pytest.raises(EvaluationError, match="two data sets have the name cars"):
        choose_suite(["knn"], "a", "b", ("cars=a,b", "cars=c,d"), ALONE)
