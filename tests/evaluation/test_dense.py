"""Segmentation head: by hand, against torch's own interpolation and loss, influences, and from folders to the table."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation_folders import TINY
from PIL import Image
from sklearn.metrics import jaccard_score

from syn2co.core.errors import DataError, EvaluationError
from syn2co.evaluation.protocols import dense as module
from syn2co.evaluation.protocols.dense import (
    Confusion,
    Segments,
    choose_learning_rate,
    confusion_of,
    fit_head,
    iou_values,
    upsampling,
)
from syn2co.evaluation.protocols.linear import scaling_of
from syn2co.evaluation.settings import DenseSettings, EvaluationSettings
from syn2co.models.encoder import build_encoder
from syn2co.models.settings import EncoderSettings
from syn2co.reports.evaluation import evaluate

CPU = torch.device("cpu")
FAST = DenseSettings(epochs=6, batch_size=4, learning_rates=(0.1,))


def random_segments(count=6, classes=3, grid=(2, 3), width=4, size=5, seed=0):
    draws = np.random.default_rng(seed)
    tokens = torch.tensor(draws.normal(size=(count, grid[0] * grid[1], width)), dtype=torch.float32)
    masks = draws.integers(0, classes, size=(count, size, size)).astype(np.uint8)
    masks[draws.random(masks.shape) < 0.2] = 255
    return Segments(tokens, torch.from_numpy(masks), grid)


def random_head(segments, classes=3, seed=1):
    draws = torch.Generator().manual_seed(seed)
    width = segments.tokens.shape[2]
    weight = torch.randn(width, classes, generator=draws).requires_grad_()
    return module.SegmentationHead(
        scaling_of(segments.tokens.flatten(0, 1), CPU), weight, torch.randn(classes, generator=draws).requires_grad_()
    )


def literal_logits(head, segments):
    tokens = segments.tokens.double()
    flat = tokens.flatten(0, 1)
    scaled = (tokens - flat.mean(0)) / flat.std(0, correction=0)
    maps = (scaled @ head.weight.double() + head.bias.double()).permute(0, 2, 1).unflatten(2, segments.grid)
    return F.interpolate(maps, size=tuple(segments.masks.shape[1:]), mode="bilinear", align_corners=False)


def test_upsampling_by_hand():
    """Two tokens to four pixels: the centers of the pixels lie at -1/4, 1/4, 3/4, 5/4 of the tokens' 0 and 1."""
    assert upsampling(2, 4).tolist() == [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]


def test_logits_loss_and_gradient_are_those_of_torch(monkeypatch):
    segments = random_segments()
    head = random_head(segments)
    wanted = literal_logits(head, segments)
    assert torch.allclose(head.logits(segments).double(), wanted, atol=1e-5)
    loss = F.cross_entropy(wanted, segments.masks.long(), ignore_index=255)
    grads = torch.autograd.grad(loss, [head.weight, head.bias])
    monkeypatch.setattr(module, "_CELLS", 2 * 3 * 25)  # two images at once
    module._backward(head, segments, torch.arange(6))
    assert torch.allclose(head.weight.grad, grads[0].float(), atol=1e-6)
    assert torch.allclose(head.bias.grad, grads[1].float(), atol=1e-6)


def test_a_batch_without_labeled_pixels_moves_nothing():
    segments = random_segments()._replace(masks=torch.full((6, 5, 5), 255, dtype=torch.uint8))
    head = fit_head(segments, learning_rate=0.1, classes=3, settings=FAST, seed=0, device=CPU)
    assert not head.weight.any() and not head.bias.any()


def test_fit_finds_what_tokens_tell_and_is_a_function_of_the_seed():
    """The class of each token is the sign of its first feature, so a head on nothing else is right everywhere."""
    segments = random_segments(count=20, grid=(5, 5))
    masks = (segments.tokens[:, :, 0] > 0).view(20, 5, 5).to(torch.uint8)
    segments = segments._replace(masks=masks)
    settings = DenseSettings(epochs=30, batch_size=4)
    heads = [
        fit_head(segments, learning_rate=0.1, classes=2, settings=settings, seed=seed, device=CPU) for seed in (0, 0, 1)
    ]
    assert torch.equal(heads[0].weight, heads[1].weight) and not torch.equal(heads[0].weight, heads[2].weight)
    assert float(iou_values(confusion_of(heads[0], segments))[0].mean()) > 0.95


def test_iou_by_hand():
    """Image 1: 3 of 4 pixels right; image 2: all wrong as class 0. IoU_0 = 2/(2+1+2), IoU_1 = 1/(1+1+2)."""
    confusion = Confusion(
        torch.tensor([[2, 1, 0], [0, 0, 0]]), torch.tensor([[3, 2, 0], [2, 2, 0]]),
        torch.tensor([[2, 0, 0], [3, 1, 0], [0, 0, 0]]),
    )  # fmt: skip
    values, iou = iou_values(confusion)
    assert iou[:2].tolist() == pytest.approx([2 / 5, 1 / 4]) and iou[2].isnan()
    assert float(values.mean()) == pytest.approx((2 / 5 + 1 / 4) / 2)
    by_class = [2 / 5 + 2 * (2 - 2 / 5 * 3) / 5, 1 / 4 + 2 * (1 - 1 / 4 * 2) / 4]
    assert float(values[0]) == pytest.approx(sum(by_class) / 2)


def test_counts_are_those_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(module, "_CELLS", 1)
    segments = random_segments()
    head = random_head(segments)
    confusion = confusion_of(head, segments)
    predicted, labeled = literal_logits(head, segments).argmax(dim=1), segments.masks != 255
    truth, found = segments.masks[labeled].numpy(), predicted[labeled].numpy()
    values, iou = iou_values(confusion)
    assert iou.tolist() == pytest.approx(jaccard_score(truth, found, average=None))
    assert float(values.mean()) == pytest.approx(jaccard_score(truth, found, average="macro"))
    assert int(confusion.total.sum()) == len(truth)


def test_values_are_influences():
    """u_i = mIoU + M dmIoU/dw_i: central differences of the weight of one image."""
    confusion = confusion_of(random_head(random_segments()), random_segments())
    values, _ = iou_values(confusion)

    def score(weights):
        right, either = (weights @ part.double() for part in confusion[:2])
        return float((right / either).mean())

    ones, step = torch.ones(6, dtype=torch.float64), 1e-5
    for image in range(6):
        change = torch.zeros_like(ones).index_fill(0, torch.tensor(image), step)
        slope = (score(ones + change) - score(ones - change)) / (2 * step)
        assert float(values[image]) == pytest.approx(score(ones) + 6 * slope, abs=1e-7)


def test_the_learning_rate_is_chosen_inside_the_training_images():
    segments = random_segments(count=10, grid=(5, 5))
    segments = segments._replace(masks=(segments.tokens[:, :, 0] > 0).view(10, 5, 5).to(torch.uint8))
    rest = {"classes": 2, "seed": 0, "device": CPU}
    settings = DenseSettings(epochs=4, batch_size=4, learning_rates=(0.1, 1e-6, 1e-7))
    choice = choose_learning_rate(segments, settings=settings, **rest)
    assert choice.learning_rate == 0.1 == max(choice.held_out_miou, key=choice.held_out_miou.get)
    assert choice.held_out_images == 2 and len(choice.held_out_miou) == 3
    alone = choose_learning_rate(segments.take(torch.tensor([3])), settings=settings, **rest)
    assert (alone.learning_rate, alone.held_out_miou) == (1e-6, {})


def paint(folder: Path, count: int, *, seed: int = 0, below: str = "", size: tuple[int, int] = (16, 16)) -> Path:
    """Images whose left part is red and whose right part is blue; a mask of 0 and 1, and a corner without a class."""
    draws = np.random.default_rng(seed)
    height, width = size
    for part in ("images", "masks"):
        (folder / part / below).mkdir(parents=True)
    for number in range(count):
        mask = np.zeros(size, np.uint8)
        mask[:, width // 2 if number % 2 else width :] = 1
        image = np.where(mask[..., None] == 1, (220, 30, 30), (30, 30, 220)) + draws.integers(-20, 21, (*size, 3))
        mask[0, 0] = 255
        assert cv2.imwrite(str(folder / "images" / below / f"{number}.jpg"), image.clip(0, 255).astype(np.uint8))
        Image.fromarray(mask).save(folder / "masks" / below / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(TINY, seed=1)


@pytest.fixture
def sides(tmp_path):
    return paint(tmp_path / "train", 8), paint(tmp_path / "test", 6, seed=1)


def quick(encoder, train, test, **options):
    dense = {"epochs": 10, "batch_size": 4, "learning_rates": [0.1], **options.pop("dense", {})}
    settings = EvaluationSettings.parse({"device": "cpu", "dense": dense, "baselines": False, **options})
    return evaluate(encoder, [train], [test], protocols=("dense",), settings=settings)


def test_from_folders_to_the_table(encoder, sides):
    (sides[0] / "classes.txt").write_text("\ufeffred\nblue \ngreen\n\n", encoding="utf-8")
    report = quick(encoder, *sides, baselines=True, dense={"learning_rates": [0.1, 0.01]})
    assert [(row.encoder, row.protocol) for row in report.rows] == [("encoder", "dense"), ("random init", "dense")]
    row = report.rows[0]
    assert row.metric == "mIoU" and row.percent and row.low <= row.value <= row.high and row.value > 80
    assert row.value == pytest.approx(np.mean(list(row.details["iou_by_class"].values())))
    assert list(row.details["iou_by_class"]) == ["red", "blue"] and set(row.details["held_out_miou"]) == {"0.1", "0.01"}
    assert np.sum(row.details["confusion"]) == 6 * 255
    assert report.classes == {"": ("red", "blue", "green")}
    note = "encoder, random init: dense: 1 of 3 classes have no pixel in the test crops and are not in the mean"
    assert note in report.notes
    assert "raw pixels: dense: raw pixels have no patch tokens" in report.notes
    again = quick(encoder, *sides, baselines=True, dense={"learning_rates": [0.1, 0.01]})
    assert again.to_json() == report.to_json()


def test_masks_are_found_below_one_subfolder_and_behind_links(encoder, sides, tmp_path):
    wanted = quick(encoder, *sides).rows[0]
    for side in sides:
        (tmp_path / "far" / side.name).mkdir(parents=True)
        for part in ("images", "masks"):
            place = tmp_path / "far" / side.name / f"{part}-of-year"
            shutil.move(side / part, place / "split")
            os.symlink(place, side / part)
    assert quick(encoder, *sides).rows[0].value == wanted.value


def test_the_masks_are_part_of_the_data(encoder, sides):
    before = quick(encoder, *sides).rows[0]
    path = sides[1] / "masks" / "1.png"
    Image.fromarray(1 - np.asarray(Image.open(path)).clip(0, 1)).save(path)
    after = quick(encoder, *sides).rows[0]
    assert after.data_fingerprint != before.data_fingerprint and after.value < before.value


def test_palettes_and_other_sizes(encoder, tmp_path):
    """A wide image in a narrow network, and masks whose palette shows colors."""
    sides = paint(tmp_path / "train", 8, size=(20, 30)), paint(tmp_path / "test", 4, seed=1, size=(33, 24))
    wanted = quick(encoder, *sides).rows[0]
    for path in sides[0].glob("masks/*.png"):
        mask = Image.fromarray(np.asarray(Image.open(path)), mode="P")
        mask.putpalette(list(range(255, -1, -1)) * 3)
        mask.save(path)
    assert Image.open(path).mode == "P"
    assert quick(encoder, *sides).rows[0].value == wanted.value > 60


def test_masks_without_images_and_classes_without_training_pixels_are_noted(encoder, sides):
    shutil.copy(sides[0] / "masks" / "0.png", sides[0] / "masks" / "more.png")
    (sides[1] / "classes.txt").write_text("a\nb\nc")
    mask = np.asarray(Image.open(sides[1] / "masks" / "0.png")).copy()
    mask[9:] = 2
    Image.fromarray(mask).save(sides[1] / "masks" / "0.png")
    notes = quick(encoder, *sides).notes
    assert "1 masks of --train belong to no image that can be read" in notes
    assert "1 classes of the test masks have no pixel in the training masks (c)" in notes


def rewrite(mask):
    return lambda train, test: Image.fromarray(mask).save(train / "masks" / "3.png")


def no_mask(train, test):
    (train / "masks" / "3.png").unlink()


def no_masks(train, test):
    shutil.rmtree(train / "masks")


def damage(train, test):
    (train / "masks" / "3.png").write_bytes(b"\x89PNG")


def listed(text, other=None):
    def write(train, test):
        (train / "classes.txt").write_text(text)
        if other is not None:
            (test / "classes.txt").write_text(other)

    return write


def latin(train, test):
    (test / "classes.txt").write_bytes("caf\u00e9\nb".encode("latin-1"))


def beyond(train, test):
    Image.fromarray(np.full((16, 16), 7, np.uint8)).save(test / "masks" / "2.png")


def fill(side, value):
    def write(train, test):
        for path in (train if side == "train" else test).glob("masks/*.png"):
            Image.fromarray(np.full((16, 16), value, np.uint8)).save(path)

    return write


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_masks, "--train .*train: there is no folder masks in it; segmentation needs FOLDER/images and"),
        (no_mask, r"images.*3.jpg: there is no mask of this image; it must be .*masks.*3.png"),
        (damage, r"3.png: this mask cannot be read \(.*\); write it anew as an 8-bit PNG"),
        (rewrite(np.zeros((8, 16), np.uint8)), "3.png: this mask has 16 x 8 pixels and its image 16 x 16; give a"),
        (rewrite(np.zeros((16, 16, 3), np.uint8)), r"3.png: this mask has the color mode RGB; .* \(mode L or P\), 255"),
        (beyond, "2.png: this mask has the class 7, beyond the classes of the training masks, 0 to 1 .*name all"),
        (listed("one"), "1.png: this mask has the class 1, beyond the classes of classes.txt, 0 to 0 .* or the list"),
        (listed("a\nb", "b\na"), "classes.txt: names other classes than .*classes.txt; give both sides the same list"),
        (listed("a\n\nb"), "classes.txt: line 2 is blank, but the number of a line is its class; name that class, or"),
        (latin, "classes.txt: cannot be read .*; write one class a line, as UTF-8 text"),
        (listed("a\nb\na"), "classes.txt: names the class 'a' more than once; name each class on one line"),
        (fill("train", 1), "--train: all labeled pixels of the 8 masks have the class '1', so any encoder scores"),
        (fill("test", 255), "--test: all pixels of the 6 masks are 255, which is no class; give masks with"),
    ],
)  # fmt: skip
def test_bad_data_are_refused(encoder, sides, spoil, message):
    spoil(*sides)
    with pytest.raises(DataError, match=message):
        quick(encoder, *sides)


def test_no_plain_folder_is_refused(encoder, sides):
    with pytest.raises(DataError, match="--test builtin:digits: there is no folder images in it"):
        quick(encoder, sides[0], "builtin:digits")


def test_an_encoder_without_patch_tokens_is_refused(encoder, sides, monkeypatch):
    none = build_encoder(EncoderSettings(name="vit_tiny_patch16_224", options=TINY.options, size=16), seed=1)
    monkeypatch.setattr(none.backbone, "forward_features", lambda images, **_: images.flatten(1))
    message = "dense: vit_tiny_patch16_224: an encoder without patch tokens .*take a ViT"
    with pytest.raises(EvaluationError, match=message):
        quick(none, *sides)
    report = quick(none, *sides, baselines=True)
    assert [row.encoder for row in report.rows] == ["random init"]


def test_tokens_above_the_bound_are_refused(encoder, sides):
    """8 images of 4 tokens of 12 numbers of 4 bytes and 256 pixels: 3,584 bytes."""
    message = r"dense.max_gib = 1e-06: .* of the 8 images of --train take 3.34e-06 GiB; .*--set dense.max_gib=1"
    with pytest.raises(EvaluationError, match=message):
        quick(encoder, *sides, dense={"max_gib": 1e-6})


def test_an_encoder_above_the_bound_leaves_the_others_their_scores(encoder, sides):
    """Tokens of 24 numbers take 5,120 bytes; 4.2e-6 GiB are 4,510."""
    wide = build_encoder(TINY.model_copy(update={"options": {**TINY.options, "embed_dim": 24}}), seed=1)
    report = quick([encoder, wide], *sides, dense={"max_gib": 4.2e-6})
    assert len(report.rows) == 1 and any("dense.max_gib = 4.2e-06" in note for note in report.notes)


def test_scores_of_other_crops_are_not_paired(encoder, sides):
    """The crop decides which pixels are scored."""
    other = build_encoder(TINY, seed=1)
    other.crop_ratio = 0.5
    first, second = quick([encoder, other], *sides).rows
    assert first.protocol_hash != second.protocol_hash


def test_labels_outside_of_the_crop_are_noted(encoder, tmp_path):
    """The center square of a wide image is all that the encoder sees."""
    sides = paint(tmp_path / "train", 4), paint(tmp_path / "test", 4, seed=1, size=(16, 48))
    for path in sides[1].glob("masks/*.png"):
        mask = np.full((16, 48), 255, np.uint8)
        mask[:, :10] = 1
        Image.fromarray(mask).save(path)
    with pytest.raises(EvaluationError, match="no labeled pixel of --test lies under the encoder's center crops"):
        quick(encoder, *sides)
