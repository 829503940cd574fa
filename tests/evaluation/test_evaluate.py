"""`evaluate` from folder to report: labels, refusals, baselines, what every score carries, and the files."""

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from evaluation_folders import TINY, paint
from rich.console import Console

from syn2co.core.errors import CheckpointError, ConfigError, DataError, EvaluationError
from syn2co.data.open import open_images
from syn2co.evaluation import near_overlap as near_overlap_module
from syn2co.evaluation.evaluate import _names
from syn2co.evaluation.near_overlap import hashed_sample, near_overlap
from syn2co.evaluation.protocols.protocol import Protocol, ProtocolResult
from syn2co.evaluation.protocols.registry import PROTOCOLS
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.splits import make_splits
from syn2co.models.encoder import build_encoder
from syn2co.reports.evaluation import evaluate
from syn2co.runtime import device
from syn2co.runtime.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(TINY, seed=1)


@pytest.fixture
def train(tmp_path) -> Path:
    return paint(tmp_path / "train", {"blue": 9, "green": 8, "red": 10})


@pytest.fixture
def test(tmp_path) -> Path:
    return paint(tmp_path / "test", {"blue": 3, "green": 4, "red": 5}, seed=1)


def quick(encoder, train, test, **options):
    """k-NN alone, unless told otherwise."""
    named = {key: options.pop(key) for key in list(options) if key in EvaluationSettings.model_fields}
    settings = EvaluationSettings.parse({"device": "cpu", **named})
    return evaluate(encoder, [train], [test], **{"protocols": ("knn",), "settings": settings, **options})


def test_whole_table(encoder, train, test, tmp_path):
    report = evaluate(
        encoder, [train], [test], settings=EvaluationSettings(seed=3, device="cpu"), out=tmp_path / "new" / "out"
    )
    assert [(row.encoder, row.protocol) for row in report.rows] == [
        (name, protocol) for name in ("encoder", "raw pixels", "random init") for protocol in ("knn", "linear")
    ]
    for row in report.rows:
        assert (row.n_train, row.n_test, row.seed, row.metric) == (27, 12, 3, "top-1")
        assert row.low <= row.value <= row.high
        assert row.value == pytest.approx(100 * row.values.mean())
        assert {len(row.protocol_hash), len(row.data_fingerprint), len(row.encoder_hash)} == {32}
    assert len({row.protocol_hash for row in report.rows}) == 2
    assert len({row.encoder_hash for row in report.rows}) == 3
    assert report.score("raw pixels", "knn").value == report.score("raw pixels", "linear").value == 100.0
    assert "k-NN: k = 100, 200 capped by the bank of 27 training images" in report.notes
    assert sorted(path.name for path in (tmp_path / "new" / "out").glob("evaluation*")) == [
        "evaluation.csv",
        "evaluation.json",
        "evaluation.md",
    ]


def test_files_say_the_same_and_name_no_place(encoder, train, test, tmp_path):
    report = quick(encoder, train, test, out=tmp_path / "out")
    text, page = ((tmp_path / "out" / f"evaluation.{kind}").read_text() for kind in ("json", "md"))
    assert text == report.to_json() and page == report.to_markdown()
    assert str(tmp_path) not in text + page
    body = json.loads(text)
    assert body["train"] == ["train"] and body["test"] == ["test"] and body["classes"] == {"": ["blue", "green", "red"]}
    for entry, row in zip(body["scores"], report.rows, strict=True):
        right = np.unpackbits(np.frombuffer(bytes.fromhex(entry["correct"]), np.uint8), count=entry["n_test"])
        assert 100 * right.mean() == pytest.approx(entry["value"]) and entry["value"] == row.value
        assert f"| {row.encoder} | knn, k = 20 | {row.value:.1f} | {row.low:.1f} to {row.high:.1f} |" in page
    assert body["machine"]["ranks"] == 1 and body["encoders"]["encoder"]["image_size"] == 16


def test_table_shows_the_paired_lead(encoder, tmp_path):
    train = paint(tmp_path / "train", {"blue": 9, "red": 9}, noise=250)
    test = paint(tmp_path / "test", {"blue": 12, "red": 12}, seed=1, noise=250)
    report = quick(encoder, train, test)
    lead = report.compare("encoder", "raw pixels")
    assert lead.value < 0
    values = [report.score(name, "knn").values for name in ("encoder", "raw pixels")]
    assert lead.value == pytest.approx(100 * (values[0] - values[1]).mean())
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report.table())
    assert f"{lead.value:+.1f} ({lead.low:+.1f} to {lead.high:+.1f})" in capture.get()
    assert "capped by the bank" in capture.get()
    with pytest.raises(
        EvaluationError, match="mine, knn: the report has no such score; it has encoder, knn; raw pixels"
    ):
        report.compare("mine", "raw pixels")


def test_same_call_same_numbers_another_seed_another_random_init(encoder, train, test):
    first, again, other = (quick(encoder, train, test, seed=seed) for seed in (0, 0, 1))
    assert first.to_json() == again.to_json()
    assert first.score("random init", "knn").encoder_hash != other.score("random init", "knn").encoder_hash
    assert first.score("encoder", "knn").encoder_hash == other.score("encoder", "knn").encoder_hash


def test_hashes_follow_what_they_name(encoder, train, test, tmp_path):
    base = quick(encoder, train, test, baselines=False).rows[0]
    half = quick(encoder, train, test, baselines=False, precision="bfloat16").rows[0]
    assert base.protocol_hash != half.protocol_hash and base.data_fingerprint == half.data_fingerprint
    moved = quick(encoder, train, shutil.copytree(test, tmp_path / "elsewhere"), baselines=False).rows[0]
    assert moved.data_fingerprint == base.data_fingerprint
    (test / "red" / "0.png").unlink()
    fewer = quick(encoder, train, test, baselines=False).rows[0]
    assert fewer.data_fingerprint != base.data_fingerprint and fewer.protocol_hash == base.protocol_hash


@pytest.mark.parametrize("emulates", [True, False])
def test_a_precision_that_is_only_emulated_is_noted(emulates, encoder, train, test, monkeypatch):
    monkeypatch.setattr(device, "emulates_bfloat16", lambda kind: emulates)
    reports = [quick(encoder, train, test, baselines=False, precision=name) for name in ("bfloat16", "float32")]
    line = "precision = bfloat16: is only emulated by this device, slower than float32"
    assert [line in report.notes for report in reports] == [emulates, False]


def test_classes_match_by_name_when_one_is_missing_from_test(encoder, train, tmp_path):
    """Without blue in the test set, green is class 0 there and 1 in training: matched by number all would be wrong."""
    test = paint(tmp_path / "some", {"green": 4, "red": 4}, seed=1)
    report = quick(encoder, train, test)
    assert report.score("raw pixels", "knn").value == 100.0
    assert "1 of 3 classes have no test images (blue)" in report.notes


def test_gaps_in_labels_close(train, test):
    whole, tests = open_images([train]), open_images([test])
    names = np.array(whole.classes)
    gap = whole.subset(np.flatnonzero(names[whole.labels] != "green"))
    tests = tests.subset(np.flatnonzero(names[tests.labels] != "green"))
    assert set(gap.labels) == {0, 2}
    splits = make_splits(gap, tests)
    assert splits.classes == ("blue", "red")
    assert splits.train_labels.unique().tolist() == splits.test_labels.unique().tolist() == [0, 1]
    assert splits.test_labels.tolist() == [0] * 3 + [1] * 5


def test_images_without_a_label_are_left_out_and_counted(encoder, train, test):
    shutil.copy(train / "red" / "0.png", train / "loose.png")
    report = quick(encoder, train, test, baselines=False)
    assert report.rows[0].n_train == 27
    assert "1 of 28 images of --train have no label and are left out" in report.notes


def test_an_empty_class_folder_is_said(encoder, train, test):
    (train / "white").mkdir()
    (train / "white" / "notes.txt").write_text("no image")
    report = quick(encoder, train, test, baselines=False)
    assert "class folders of --train without an image: 1 (white)" in report.notes
    assert not any("folders of --test" in note for note in report.notes)


def test_no_labels_at_all_are_refused(encoder, train, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(train.rglob("*.png"))):
        shutil.copy(path, flat / f"{number}.png")
    message = "--test: none of the 27 images has a label.*one subfolder a class, such as cat/1.jpg and dog/2.jpg"
    with pytest.raises(EvaluationError, match=message):
        quick(encoder, train, flat)


def test_one_class_is_refused(train, test):
    """The classes of a source stay known in a subset, so this is also a gap of all classes but one."""
    images = open_images([train])
    only = images.subset(np.flatnonzero(images.labels == images.classes.index("red")))
    with pytest.raises(EvaluationError, match="--train: all 10 images have the class 'red'.*at least two classes"):
        make_splits(only, open_images([test]))


def test_a_test_class_that_training_lacks_is_refused(encoder, train, tmp_path):
    test = paint(tmp_path / "more", {"red": 2, "white": 3}, seed=1)
    message = r"--test: 3 of 5 images have a class that no training image has \(white; --train has blue, green, red\)"
    with pytest.raises(EvaluationError, match=message):
        quick(encoder, train, test)


def test_the_same_folder_twice_is_refused(encoder, train, test):
    with pytest.raises(EvaluationError, match="train: this source is given as --train and as --test"):
        quick(encoder, train, train)
    with pytest.raises(EvaluationError, match="train: this source is given as --train and as --test"):
        evaluate(encoder, [train, test], [train])


def test_a_copy_of_the_training_images_is_refused(encoder, train, tmp_path):
    copy = shutil.copytree(train, tmp_path / "copy")
    with pytest.raises(EvaluationError, match="--train and --test are the same 27 images"):
        quick(encoder, train, copy)


@pytest.mark.parametrize("swap", [False, True])
def test_a_folder_inside_the_other_is_refused(encoder, tmp_path, swap):
    outer = tmp_path / "all"
    inner = paint(outer / "held", {"blue": 2, "red": 2})
    paint(outer, {"blue": 4, "red": 4}, seed=1)
    sides = (inner, outer) if swap else (outer, inner)
    with pytest.raises(EvaluationError, match="all: this folder holds held, which is given as the other side"):
        quick(encoder, *sides)


def test_single_copied_images_are_counted(encoder, train, test):
    shutil.copy(train / "red" / "0.png", test / "red" / "copy.png")
    message = r"1 of 13 test images are training images too.*copy.png.*--set max_overlap=0.0769"
    with pytest.raises(EvaluationError, match=message):
        quick(encoder, train, test)
    report = quick(encoder, train, test, max_overlap=0.08)
    assert "1 of 13 test images are training images too, byte for byte" in report.notes
    (test / "red" / "copy.png").unlink()
    assert not any("byte for byte" in note for note in quick(encoder, train, test).notes)


def test_images_that_two_classes_have_are_counted(encoder, train, test):
    shutil.copy(train / "red" / "0.png", train / "blue" / "again.png")
    shutil.copy(train / "red" / "1.png", train / "red" / "copy.png")  # of its own class: nothing is wrong
    notes = [note for note in quick(encoder, train, test).notes if "another class" in note]
    assert notes == [
        "2 of 29 images of --train are, byte for byte, in another class too (0:blue/again.png, 0:red/0.png)"
    ]


@pytest.mark.parametrize("baselines", [False, True])
def test_training_images_stored_again_are_refused_above_a_share_and_counted_below(encoder, tmp_path, baselines):
    """Eight of forty test images are training images in another file format, one of them mirrored."""
    for side, seed, name in (("train", 0, "png"), ("test", 1, "jpg")):
        for number in range(40):
            other = seed if number >= 8 else 0
            coarse = np.random.default_rng((other, number)).integers(0, 256, (6, 6, 3), dtype=np.uint8)
            image = cv2.resize(coarse, (32, 32), interpolation=cv2.INTER_CUBIC)
            image = image[:, ::-1] if side == "test" and number == 3 else image
            path = tmp_path / side / "ab"[number % 2] / f"{number}.{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), image)
    sides = tmp_path / "train", tmp_path / "test"
    message = r"8 of 40 test images look like training images.*0\.jpg is 0:a/0\.png.*--set max_overlap=0\.2"
    with pytest.raises(EvaluationError, match=message):
        quick(encoder, *sides, baselines=baselines)
    report = quick(encoder, *sides, baselines=baselines, max_overlap=0.2)
    assert "8 of 40 test images look like training images stored again" in report.notes


def test_images_that_only_share_a_layout_are_not_training_images():
    """Handwritten digits of a class look alike; none of the test split is of the training split."""
    splits = make_splits(*(open_images([f"builtin:digits:{split}"]) for split in ("train", "test")))
    assert near_overlap(splits.train, splits.test, 0.0, threads=1) == []


def test_the_same_images_are_hashed_once_and_others_anew(tmp_path, monkeypatch):
    measured = []
    measure = near_overlap_module._measured
    monkeypatch.setattr(near_overlap_module, "_hashed", {})
    monkeypatch.setattr(near_overlap_module, "_measured", lambda *given: measured.append(given) or measure(*given))
    folder = paint(tmp_path / "test", {"blue": 2, "green": 2})
    first, again = (hashed_sample(open_images([folder]), 1) for _ in range(2))
    np.testing.assert_array_equal(first.hashes, again.hashes)
    assert first.images is not again.images and len(measured) == 1
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert cv2.imwrite(str(next(folder.rglob("*.png"))), noise)
    assert (hashed_sample(open_images([folder]), 1).hashes != first.hashes).any() and len(measured) == 2
    for _ in range(2):  # without a check nothing tells that the contents are the same
        hashed_sample(open_images([folder], check=False), 1)
    assert len(measured) == 4
    sets = [open_images([paint(tmp_path / str(number), {"blue": 1 + number})]) for number in range(6)]
    measured.clear()
    for images in (*sets, *sets):  # a score with two transfer sets has six sides
        hashed_sample(images, 1)
    assert len(measured) == 6
    monkeypatch.setattr(near_overlap_module, "_KEPT", 2)
    for images in (sets[0], sets[1], sets[0], sets[2], sets[0]):
        hashed_sample(images, 1)
    assert [given[0] for given in measured[6:]] == [sets[1], sets[2]], "what was used last stays"
    assert list(near_overlap_module._hashed) == [sets[2].fingerprint, sets[0].fingerprint]


def test_fewer_training_images_than_k(encoder, test, tmp_path):
    train = paint(tmp_path / "few", {"blue": 1, "green": 1, "red": 1})
    report = evaluate(encoder, [train], [test])
    assert report.score("raw pixels", "knn").setting == "k = 3"
    assert "k-NN: k = 10, 20, 100, 200 capped by the bank of 3 training images" in report.notes
    assert any(note.startswith("linear: every class has one training image") for note in report.notes)


def test_broken_features_are_refused(train, test):
    encoder = build_encoder(TINY, seed=1)
    with torch.no_grad():
        next(encoder.parameters()).fill_(float("inf"))
    with pytest.raises(EvaluationError, match="encoder: 27 of 27 images give features that are NaN or infinite"):
        quick(encoder, train, test)


def test_a_checkpoint_that_matches_nothing_is_refused(train, test, tmp_path):
    state = {"encoder": TINY.model_dump(mode="json"), "config_hash": "0"}
    save_checkpoint(tmp_path / "run", 1, {"online.encoder.nothing": torch.zeros(2)}, state, keep=1)
    with pytest.raises(CheckpointError, match="the online encoder: the checkpoint has no tensor"):
        quick(tmp_path / "run", train, test)


def test_a_run_folder_is_scored_under_its_name_beside_others(encoder, train, test, tmp_path):
    tensors = {f"online.encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    state = {"encoder": TINY.model_dump(mode="json"), "config_hash": "0"}
    save_checkpoint(tmp_path / "random init", 1, tensors, state, keep=1)
    report = quick([tmp_path / "random init", encoder, encoder], train, test)
    names = [row.encoder for row in report.rows]
    assert names == ["random init", "encoder", "encoder (2)", "raw pixels", "random init (2)"]
    assert report.rows[0].encoder_hash == report.rows[1].encoder_hash
    assert report.compare("random init", "encoder").value == 0.0
    assert report.metadata["encoders"]["random init"]["step"] == 1


def test_a_new_protocol_is_one_function(encoder, train, test, monkeypatch):
    def always_blue(task):
        right = (task.features.test_labels == 0).float()
        return [ProtocolResult(right, {"protocol": "blue"}, "no setting", notes=("a note",))]

    monkeypatch.setitem(PROTOCOLS, "blue", Protocol(always_blue))
    report = quick(encoder, train, test, protocols=["blue"], baselines=False)
    row = report.score("encoder", "blue")
    assert row.value == pytest.approx(25.0) and row.low < 25 < row.high and len(row.protocol_hash) == 32
    assert report.notes == ("a note",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocols": ["kn"]}, "protocols: 'kn' is unknown, known are knn, linear.*; did you mean knn?"),
        ({"protocols": ["xyz"]}, "'xyz' is unknown, known are knn, linear.*; choose one of them"),
        ({"protocols": ["kNN"]}, "'kNN' is unknown.*; did you mean knn?"),
        ({"protocols": []}, "protocols: names none; give at least one of knn, linear"),
        ({"precision": "float16"}, "precision = float16: input should be 'float32' or 'bfloat16'"),
        ({"batch_size": 0}, "batch_size = 0: input should be greater than or equal to 1"),
        ({"workers": -1}, "workers = -1: input should be greater than or equal to 0"),
    ],
)
def test_settings_out_of_range(encoder, train, test, options, message):
    with pytest.raises((ConfigError, EvaluationError), match=message):
        quick(encoder, train, test, **options)


def test_an_out_that_cannot_be_is_refused_before_the_work(encoder, test, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(EvaluationError, match="--out taken: cannot be made a folder .*; choose another one"):
        quick(encoder, tmp_path / "missing", test, out=tmp_path / "taken")


def test_a_missing_source_is_a_data_error(encoder, test, tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        quick(encoder, tmp_path / "missing", test)


def test_sources_are_named_without_their_place(tmp_path):
    assert _names(tmp_path / "train") == ["train"]
    assert _names(["builtin:photos:test", tmp_path / "a.tar"]) == ["builtin:photos:test", "a.tar"]
    assert _names(["hf:owner/name:test", f"hf:{tmp_path}/local"]) == ["hf:owner/name:test", "hf:local"]
    assert _names(["torchvision:~/acme/CIFAR10:test", "timm:vit:../acme/w.pth"]) == [
        "torchvision:CIFAR10:test", "timm:vit:w.pth",
    ]  # fmt: skip


def test_no_encoder_at_all_is_refused(train, test):
    with pytest.raises(EvaluationError, match="encoders: the list is empty; give at least one run folder"):
        evaluate([], train, test)


def test_a_share_has_no_interval_beyond_all(encoder, train, test, monkeypatch):
    """One error of two in a small class: the linearized mean per class would reach 106 %."""

    def small_class(task):
        values = torch.full((12,), 1.0)
        values[:2] = torch.tensor([-5.0, 7.0])
        result = ProtocolResult(values, {"protocol": "small"}, "no setting")
        return [result, dataclasses.replace(result, name="free", is_share=False)]

    monkeypatch.setitem(PROTOCOLS, "small", Protocol(small_class))
    report = quick(encoder, train, test, protocols=["small"], baselines=False)
    assert report.score("encoder", "small").high == 100.0
    assert report.score("encoder", "free").high > 100.0


def test_workers_and_batches_change_nothing(encoder, train, test):
    first, second = (quick(encoder, train, test, workers=workers) for workers in (0, 2))
    assert first.to_csv() == second.to_csv()


def test_n_is_the_number_of_labels_that_were_used(encoder, train, test):
    few = {"shares": [], "per_class": [2], "draws": 2}
    report = quick(encoder, train, test, protocols=["knn", "few-shot"], few_shot=few, baselines=False)
    assert [(row.protocol, row.n_train, row.n_test, row.draws) for row in report.rows] == [
        ("knn", 27, 12, 1), ("few-shot 2 per class", 6, 12, 2),
    ]  # fmt: skip


def test_labels_of_a_reference_are_said(train, test):
    """What a network was trained on with labels stands beside the table, as it does for a supervised run."""
    reference = build_encoder(TINY, seed=1)
    reference.provenance = {"weights": "reference", "trained_on": "ImageNet-1k, with labels"}
    report = quick(reference, train, test, baselines=False)
    assert "encoder: trained on ImageNet-1k, with labels" in report.notes
