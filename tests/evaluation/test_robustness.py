"""Robustness: drop and mCE by hand, values that are influences, cells that an oracle repeats, and what is refused."""

import dataclasses
import doctest
import importlib

import numpy as np
import pytest
import torch
from evaluation_folders import TINY, paint, task_on

from syn2co.core.errors import ConfigError, EvaluationError
from syn2co.evaluation.baselines import RawPixels
from syn2co.evaluation.evaluate import score
from syn2co.evaluation.protocols import robustness as module
from syn2co.evaluation.protocols.linear import fitted_probe
from syn2co.evaluation.protocols.protocol import NotApplicable, ProtocolResult
from syn2co.evaluation.protocols.robustness import ALEXNET, Corrupted, corrupted, mce_values, robustness
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.images.corruptions import ALEXNET_ERRORS, CORRUPTIONS, corrupt
from syn2co.images.resize import resize_and_crop
from syn2co.models.encoder import build_encoder

FEW = {"corruptions": ["gaussian_noise", "frost"], "severities": [1, 5]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Noisy colors, so that a random encoder is right about some images and wrong about others."""
    root = tmp_path_factory.mktemp("robustness")
    counts = {"blue": 6, "green": 6, "red": 6}
    return paint(root / "train", counts, noise=250), paint(root / "test", counts, seed=1, noise=250)


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(TINY, seed=1)


def made(clean, right, *, labels=None, metric="top-1") -> Corrupted:
    """Answers for two corruptions at two severities each."""
    right = torch.tensor(right, dtype=torch.bool)
    labels = torch.zeros(right.shape[-1], dtype=torch.int64) if labels is None else torch.tensor(labels)
    names, severities = ("fog", "snow"), (1, 2)
    return Corrupted(names, severities, torch.tensor(clean, dtype=torch.bool), right, labels, 2, metric)


def drop_of(found: Corrupted) -> ProtocolResult:
    accuracy = ProtocolResult(found.values(found.right.double().mean((0, 1))), {}, "")
    return next(module._drop(found, accuracy))


HALF = [[[1, 1, 0, 0], [1, 0, 0, 0]], [[1, 1, 1, 0], [0, 0, 0, 0]]]  # 2 + 1 + 3 + 0 of 16 are right


def test_relative_drop_by_hand():
    """3 of 4 right on clean images, 6 of 16 on corrupted ones: (3/4 - 3/8) / (3/4) = 1/2."""
    result = drop_of(made([1, 1, 1, 0], HALF))
    assert float(result.values.mean()) == pytest.approx(0.5)
    assert result.details == {"clean": 75.0, "corrupted": 37.5} and not result.higher_is_better


def test_mce_by_hand():
    """Errors 5/8 and 5/8; the reference makes 1/2 and 1: CE are 5/4 and 5/8, mCE 15/16."""
    errors = made([1, 1, 1, 0], HALF).errors()
    assert errors.mean(1).tolist() == [0.625, 0.625]
    values, ratios = mce_values(errors, torch.tensor([[0.5, 0.5, 0.5, 0.5], [1.0, 1.0, 1.0, 1.0]]).double())
    assert ratios.tolist() == [1.25, 0.625] and float(values.mean()) == pytest.approx(15 / 16)
    values, _ = mce_values(errors, errors)
    assert values.tolist() == pytest.approx([1.0] * 4)  # against itself there is nothing to vary


def test_values_are_the_score_and_the_influence_of_the_image():
    """An image of weight 1 + h moves the ratio of weighted means by h (v_i - score) / M, up to h squared."""
    draws = np.random.default_rng(0)
    clean, right = draws.random(20) < 0.8, draws.random((2, 2, 20)) < 0.5
    found = made(clean, right)
    reference = torch.tensor(draws.random((2, 20)))
    drop, (mce, _) = drop_of(found).values, mce_values(found.errors(), reference)
    h = 1e-6
    for image in (0, 7, 19):
        weights = torch.ones(20, dtype=torch.float64)
        weights[image] += h
        corrupted_mean = (found.right.double().mean((0, 1)) * weights).sum()
        moved = 1 - corrupted_mean / (found.clean * weights).sum()
        assert float((moved - drop.mean()) / h) == pytest.approx(float(drop[image] - drop.mean()) / 20, abs=1e-5)
        moved = ((found.errors() * weights).sum(1) / (reference * weights).sum(1)).mean()
        assert float((moved - mce.mean()) / h) == pytest.approx(float(mce[image] - mce.mean()) / 20, abs=1e-5)


def test_classes_count_alike_where_the_data_set_wants_it():
    """One class of three images, all right, and one of a single image, wrong: top-1 is 3/4, per class 1/2."""
    right = [[[1, 1, 1, 0]] * 2] * 2
    by_image = made([1, 1, 1, 0], right, labels=[0, 0, 0, 1])
    by_class = dataclasses.replace(by_image, metric="mean per class")
    assert by_image.accuracy(by_image.right[0, 0].double()) == 75.0
    assert by_class.accuracy(by_class.right[0, 0].double()) == pytest.approx(50.0)
    assert by_class.errors().mean(1).tolist() == pytest.approx([0.5, 0.5])


def test_cells_are_those_of_an_oracle(folders, encoder):
    """Each crop corrupted, encoded and classified here, one image at a time."""
    task = task_on(encoder, *folders, seed=3, robustness=FEW)
    accuracy, drop = robustness(task)
    probe, labels, images = fitted_probe(task), task.splits.test_labels, task.splits.test
    cells = {name: [0.0, 0.0] for name in FEW["corruptions"]}
    for name, row in cells.items():
        for column, severity in enumerate(FEW["severities"]):
            for index in range(len(images)):
                crop = resize_and_crop(images.read(index), 16, 1.0)
                crop = corrupt(crop, name, severity, key=(3, index), parameters="cifar-c")
                with torch.no_grad():
                    features = encoder.eval()(encoder.preprocess(torch.from_numpy(crop[None])))
                row[column] += 100 * float(probe.predict(features) == labels[index]) / len(images)
    assert list(accuracy.details["accuracy"]) == FEW["corruptions"]
    for name, row in cells.items():
        assert accuracy.details["accuracy"][name] == pytest.approx(row)
    mean = np.mean(list(cells.values()))
    assert 100 * float(accuracy.values.mean()) == pytest.approx(mean, abs=1e-4)
    assert accuracy.details["groups"] == pytest.approx({"noise": np.mean(cells["gaussian_noise"]),
                                                        "weather": np.mean(cells["frost"])})  # fmt: skip
    clean = accuracy.details["clean"]
    assert 0 < mean < clean and 100 * float(drop.values.mean()) == pytest.approx(100 * (clean - mean) / clean, abs=1e-4)
    assert accuracy.setting == "2 corruptions x 2 severities, cifar-c"
    assert accuracy.notes[0].startswith("robustness: frost is not as published: five drawn plates")
    assert list(accuracy.details["replaced"]) == ["frost"]


def test_a_subset_has_the_very_same_corrupted_images(folders, encoder):
    whole = corrupted(task_on(encoder, *folders, robustness=FEW))
    task = task_on(encoder, *folders, robustness={**FEW, "max_images": 7})
    some = corrupted(task)
    rows = module.chosen_images(18, 7, "robustness", 0)
    assert len(set(rows.tolist())) == 7 and torch.equal(some.right, whole.right[:, :, rows])
    result = robustness(task)[0]
    assert result.values.shape == (7,) and result.setting.endswith("cifar-c, 7 images")


def table(folders, encoder, protocols=("robustness",), also=(), **settings):
    chosen = EvaluationSettings.parse({"device": "cpu", "workers": 0, "cache_gib": 0, **settings})
    return score([encoder, *also], *folders, protocols=protocols, transfer=(), settings=chosen, progress=False)[0]


def test_reference_of_the_table_is_100_and_each_encoder_is_corrupted_once(folders, encoder, monkeypatch):
    calls, extract = [], module.extract
    monkeypatch.setattr(module, "extract", lambda *args, **how: calls.append(args[0]) or extract(*args, **how))
    report = table(folders, encoder, robustness={**FEW, "reference": "random init"})
    assert len(calls) == 3 * 4  # encoders x cells, although the reference is the last of them
    rows = {row.encoder: row for row in report.rows if row.protocol == "robustness mCE"}
    assert list(rows) == ["encoder", "raw pixels", "random init"]
    assert (rows["random init"].value, rows["random init"].low, rows["random init"].high) == pytest.approx((100,) * 3)
    details = {row.encoder: row.details["accuracy"] for row in report.rows if row.protocol == "robustness"}
    error = {name: {kind: 100 - np.mean(cells) for kind, cells in found.items()} for name, found in details.items()}
    wanted = np.mean([error["encoder"][kind] / error["random init"][kind] for kind in FEW["corruptions"]])
    assert rows["encoder"].value == pytest.approx(100 * wanted)
    assert rows["encoder"].n_test == 18 and not rows["encoder"].higher_is_better


def test_alexnet_is_a_reference_and_not_the_published_one_here(folders, encoder):
    results = robustness(task_on(encoder, *folders, robustness={**FEW, "reference": ALEXNET}))
    mce = results[2]
    error = [100 - np.mean(cells) for cells in results[0].details["accuracy"].values()]
    published = [np.mean([ALEXNET_ERRORS[name][severity - 1] for severity in (1, 5)]) for name in FEW["corruptions"]]
    assert float(mce.values.mean()) == pytest.approx(np.mean(np.array(error) / 100 / published), abs=1e-6)
    assert mce.name == "robustness mCE" and mce.definition["reference"] == ALEXNET
    assert "with 3 classes at 16 px and 4 corruptions, mCE compares the encoders of this table" in mce.notes[0]


def test_a_reference_without_errors_gives_a_note_and_no_mce(folders, tmp_path):
    easy = [paint(tmp_path / side, {"blue": 4, "red": 4}, seed=seed) for seed, side in enumerate(("train", "test"))]
    settings = {"corruptions": ["brightness"], "severities": [1], "reference": "raw pixels"}
    report = table(easy, build_encoder(TINY, seed=1), robustness=settings)
    assert not [row for row in report.rows if row.protocol == "robustness mCE"]
    assert any("raw pixels makes no error under brightness" in note for note in report.notes)


def test_no_clean_answer_right_gives_a_note_and_no_drop(folders, encoder):
    found = made([0, 0, 0, 0], HALF)
    assert list(module._drop(found, ProtocolResult(found.values(found.clean.double()), {}, ""))) == []
    assert module._notes(task_on(encoder, *folders), found, None) == (
        "robustness: no clean test image is right, so there is no relative drop",
    )


def test_one_table_of_strengths_for_all_encoders_of_a_table(folders, encoder):
    """Named defect: raw pixels of 32 px under CIFAR-C's strengths were compared with an encoder under ImageNet-C's."""
    large = build_encoder(TINY.model_copy(update={"size": 72}), seed=1)
    settings = {"corruptions": ["contrast"], "severities": [5]}
    for given, side in ((large, "imagenet-c"), (encoder, "imagenet-c")):
        task = task_on(given, *folders, robustness=settings)
        task = dataclasses.replace(task, encoders={"large": large, "small": encoder})
        assert robustness(task)[0].details["parameters"] == side
    alone = task_on(encoder, *folders, robustness=settings)
    assert robustness(alone)[0].details["parameters"] == "cifar-c"
    chosen = task_on(large, *folders, robustness={**settings, "parameters": "cifar-c"})
    assert robustness(chosen)[0].details["parameters"] == "cifar-c"


def test_crops_too_small_to_corrupt_are_not_applicable(folders):
    pixels = RawPixels(4, 1.0, (0.5,) * 3, (0.25,) * 3)
    with pytest.raises(NotApplicable, match="the encoder sees 4 x 4 px, and corruptions need at least 8 px"):
        robustness(task_on(pixels, *folders))


def test_an_unknown_reference_is_refused_before_the_work(folders, encoder, monkeypatch):
    monkeypatch.setattr(module, "extract", None)
    message = (
        "robustness.reference = alexnett: must be alexnet or an encoder of this table .given.; did you mean alexnet?"
    )
    with pytest.raises(EvaluationError, match=message):
        robustness(task_on(encoder, *folders, robustness={"reference": "alexnett"}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"corruptions": ["fogg"]}, "robustness.corruptions: 'fogg' is unknown; did you mean fog?"),
        ({"corruptions": ["xyz"]}, "robustness.corruptions: 'xyz' is unknown; choose from gaussian_noise, shot_noise"),
        ({"corruptions": ["fog", "fog"]}, "corruptions: fog is named twice and would count double; name it once"),
        ({"severities": [2, 2]}, "severities: 2 is named twice"),
        ({"severities": [6]}, "robustness.severities.0 = 6: input should be less than or equal to 5"),
        ({"severities": []}, "robustness.severities = \\[\\]: tuple should have at least 1 item"),
        ({"parameters": "cifar"}, "robustness.parameters = cifar: input should be 'auto', 'imagenet-c' or 'cifar-c'"),
        ({"max_images": 0}, "robustness.max_images = 0: input should be greater than or equal to 1"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        EvaluationSettings.parse({"robustness": settings})


def test_images_without_classes_are_refused(folders, encoder, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(folders[1].rglob("*.png"))):
        (flat / f"{number}.png").write_bytes(path.read_bytes())
    with pytest.raises(EvaluationError, match="--test: none of the 18 images has a label, and a score needs labels"):
        table((folders[0], flat), encoder, protocols=["robustness", "adversarial", "calibration"])


def test_all_15_are_the_default():
    assert EvaluationSettings().robustness.corruptions == () and len(CORRUPTIONS) == 15


def test_examples_run():
    assert doctest.testmod(importlib.import_module("syn2co.evaluation.protocols.robustness")).failed == 0
