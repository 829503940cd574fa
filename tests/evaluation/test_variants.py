"""Variants of ImageNet: folders that are given or found, the head's answers by hand, and what is noted or refused."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from evaluation_folders import COLORS, TINY, paint, task_on

from syn2co.core.errors import ConfigError, EvaluationError
from syn2co.data.open import open_images
from syn2co.evaluation.baselines import RawPixels
from syn2co.evaluation.evaluate import score
from syn2co.evaluation.imagenet_classes import imagenet_classes
from syn2co.evaluation.protocols.linear import fitted_probe
from syn2co.evaluation.protocols.protocol import NotApplicable
from syn2co.evaluation.protocols.variants import variants
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.models.encoder import build_encoder

IN_A = imagenet_classes("imagenet-a")
ONLY_1K = next(name for name in imagenet_classes() if name not in {*IN_A, *imagenet_classes("imagenet-r")})
IDS = dict(zip(COLORS, (IN_A[0], IN_A[1], ONLY_1K, IN_A[2]), strict=True))  # blue, green, red, white


def wear_ids(folder: Path) -> Path:
    """Rename the folders of colors to WordNet ids: red is no class of ImageNet-A, and white is not trained on."""
    for path in folder.iterdir():
        path.rename(folder / IDS[path.name])
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Training and test images of blue, green and red, and below data/ an ImageNet-A with blue, green and white."""
    root = tmp_path_factory.mktemp("variants")
    for seed, side in enumerate(("train", "test")):
        wear_ids(paint(root / side, {"blue": 5, "green": 5, "red": 5}, seed=seed))
    wear_ids(paint(root / "data" / "imagenet-a", {"blue": 3, "green": 2, "white": 4}, seed=2))
    return root


def pixels() -> RawPixels:
    return RawPixels(16, 1.0, (0.5,) * 3, (0.25,) * 3)


def task(root: Path, **settings):
    return task_on(pixels(), root / "train", root / "test", **settings)


def test_a_variant_found_below_the_data_root(root):
    (row,) = variants(task(root, data_root=str(root / "data")))
    assert (row.name, row.setting, len(row.values)) == ("imagenet-a", "2 of 3 classes", 5)
    assert float(row.values.mean()) == 1.0  # colors, and raw pixels see them
    assert row.details == {"classes": 2, "of": 3, "among": 2, "images": 5}
    assert "imagenet-a: 4 images of 1 classes that the head does not know are left out" in row.notes
    assert row.notes[0].startswith("variants: not there and not scored: imagenet-r, imagenet-sketch, imagenet-v2")
    assert "--set variants.imagenet-r=PATH" in row.notes[0]


def test_the_head_chooses_among_the_classes_of_the_variant(root, tmp_path):
    """Red images in a folder that says green: the head says red on -Sketch, and on -A, which has no red, a color that
    the logits alone decide."""
    wrong = paint(tmp_path / "wrong", {"red": 4}, seed=3)
    for name in ("imagenet-a", "sketch"):
        shutil.copytree(wrong / "red", tmp_path / name / IDS["green"])
    one = task(root, variants={"imagenet-a": str(tmp_path / "imagenet-a"), "imagenet-sketch": str(tmp_path / "sketch")})
    on_a, on_sketch = variants(one)
    assert float(on_sketch.values.mean()) == 0.0 and on_sketch.details["among"] == 3
    logits = fitted_probe(one).logits(one.extract(open_images([tmp_path / "imagenet-a"]), ""))
    blue, green, red = (one.splits.classes.index(IDS[color]) for color in ("blue", "green", "red"))
    assert logits.argmax(1).tolist() == [red] * 4
    assert on_a.values.tolist() == (logits[:, green] > logits[:, blue]).float().tolist()
    assert on_a.details["among"] == 2


def test_a_given_folder_comes_before_a_found_one(root, tmp_path):
    given = wear_ids(paint(tmp_path / "mine", {"blue": 7}, seed=4))
    (row,) = variants(task(root, data_root=str(root / "data"), variants={"imagenet-a": str(given)}))
    assert len(row.values) == 7


def test_rows_have_their_own_number_of_images_and_fingerprint(root):
    settings = EvaluationSettings.parse({"device": "cpu", "workers": 0, "data_root": str(root / "data")})
    report, _ = score(
        [build_encoder(TINY, seed=1)], root / "train", root / "test",
        protocols=["linear", "variants"], transfer=(), settings=settings, progress=False,
    )  # fmt: skip
    on_test, on_a = (report.score("raw pixels", name) for name in ("linear", "imagenet-a"))
    assert (on_test.n_test, on_a.n_test) == (15, 5)
    assert on_test.data_fingerprint != on_a.data_fingerprint and len(on_a.data_fingerprint) == 32
    assert on_a.data_fingerprint == report.score("encoder", "imagenet-a").data_fingerprint


def test_environment_variable_is_looked_into(root, monkeypatch):
    monkeypatch.setenv("SYN2CO_DATA", str(root / "data"))
    assert [row.name for row in variants(task(root))] == ["imagenet-a"]


def test_nothing_there_is_not_applicable(root, tmp_path):
    with pytest.raises(NotApplicable, match="not there and not scored: imagenet-a, .*--set variants.imagenet-a=PATH"):
        variants(task(root, data_root=str(tmp_path)))


def test_other_classes_are_not_applicable(root, tmp_path):
    sides = [paint(tmp_path / side, {"blue": 2, "red": 2}, seed=seed) for seed, side in enumerate(("train", "test"))]
    message = r"2 of 2 training classes are no WordNet ids of ImageNet \(first: blue\), and ImageNet-A, -R"
    with pytest.raises(NotApplicable, match=message):
        variants(task_on(pixels(), *sides, data_root=str(root / "data")))


def test_a_variant_with_too_few_classes_is_noted_and_others_go_on(root, tmp_path):
    """A head on one class of ImageNet-A and red: nothing to choose on -A, two classes on -Sketch."""
    for side in ("train", "test"):
        for color in ("blue", "red"):
            shutil.copytree(root / side / IDS[color], tmp_path / side / IDS[color])
    shutil.copytree(root / "data" / "imagenet-a", tmp_path / "data" / "imagenet-a")
    wear_ids(paint(tmp_path / "data" / "sketch", {"blue": 2, "red": 3}, seed=5))
    settings = {"data_root": str(tmp_path / "data")}
    (row,) = variants(task_on(pixels(), tmp_path / "train", tmp_path / "test", **settings))
    assert row.name == "imagenet-sketch"
    assert any(note.startswith("variants: imagenet-a: the head knows 1 of its 200 classes") for note in row.notes)


def test_training_images_in_a_variant_are_refused(root, tmp_path):
    shutil.copytree(root / "train", tmp_path / "sketch")
    message = "variants.imagenet-sketch: 15 of 15 images are training images too, byte for byte.*--set max_overlap=1"
    with pytest.raises(EvaluationError, match=message):
        variants(task(root, variants={"imagenet-sketch": str(tmp_path / "sketch")}))


def test_training_images_stored_again_in_a_variant_are_counted_and_refused_above_a_share(root, tmp_path):
    """Four of 14 sketches are training images as JPEG, one of them mirrored."""
    for name in (IDS["blue"], IDS["green"]):
        for side, seed in (("train", 0), ("sketch", 1)):
            (tmp_path / side / name).mkdir(parents=True, exist_ok=True)
            for number in range(5):
                coarse = np.random.default_rng((seed, number, *name.encode())).integers(0, 256, (6, 6, 3), np.uint8)
                image = cv2.resize(coarse, (32, 32), interpolation=cv2.INTER_CUBIC)
                assert cv2.imwrite(str(tmp_path / side / name / f"{number}.png"), image)
                if side == "train" and number < 2:
                    (tmp_path / "sketch" / name).mkdir(parents=True, exist_ok=True)
                    again = image[:, ::-1] if number else image
                    assert cv2.imwrite(str(tmp_path / "sketch" / name / f"again{number}.jpg"), again)
    given = {"variants": {"imagenet-sketch": str(tmp_path / "sketch")}}
    test = wear_ids(paint(tmp_path / "test", {"blue": 2, "green": 2}, seed=3))
    message = "variants.imagenet-sketch: 4 of 14 test images look like training images.*--set max_overlap=0.286"
    with pytest.raises(EvaluationError, match=message):
        variants(task_on(pixels(), tmp_path / "train", test, **given))
    (row,) = variants(task_on(pixels(), tmp_path / "train", test, **given, max_overlap=0.286))
    assert "imagenet-sketch: 4 of 14 test images look like training images stored again" in row.notes


def test_an_unknown_variant_is_refused(root):
    with pytest.raises(ConfigError, match="variants.imagenet-b: there is no such variant.*did you mean imagenet-a?"):
        variants(task(root, variants={"imagenet-b": "x"}))


def test_a_name_with_a_dot_can_be_set():
    settings = EvaluationSettings().with_settings(["variants.imagenet-v2-threshold-0.7=a/b", "variants.imagenet-a=c"])
    assert settings.variants == {"imagenet-v2-threshold-0.7": "a/b", "imagenet-a": "c"}


def test_labels_are_those_of_the_head(root):
    """Predictions and labels count the classes of the head, whatever the folders of the variant are."""
    (row,) = variants(task(root, data_root=str(root / "data"), variants={}))
    assert row.values.tolist() == torch.ones(5).tolist() and row.predicted is None
