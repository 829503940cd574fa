"""Representation health: by hand, influences against finite differences of the images' weights, and from folders."""

import numpy as np
import pytest
import torch
from evaluation_folders import TINY, paint, task_on

from syn2co.core.errors import EvaluationError
from syn2co.data.open import open_images
from syn2co.data.views import one_view
from syn2co.evaluation.features import extract
from syn2co.evaluation.protocols import health as module
from syn2co.evaluation.protocols.health import (
    alignment_values,
    health,
    rank_me_values,
    std_values,
    uniformity_values,
)
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.evaluation.view_source import view_settings, viewed, without_crop
from syn2co.models.encoder import build_encoder
from syn2co.pretraining.health import embedding_std
from syn2co.reports.evaluation import evaluate

ROWS = ["health alignment", "health uniformity", "health RankMe", "health std"]


def random_rows(count=9, width=4, seed=0):
    draws = np.random.default_rng(seed)
    return torch.tensor(draws.normal(0.5, np.linspace(0.5, 2, width), size=(count, width)))


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def weighted_uniformity(rows, weights):
    kernel = torch.exp(-2 * torch.cdist(unit(rows), unit(rows)).square())
    pairs = weights[:, None] * weights * (1 - torch.eye(len(rows), dtype=torch.float64))
    return ((pairs * kernel).sum() / pairs.sum()).log()


def weighted_rank_me(rows, weights):
    sigmas = torch.linalg.svdvals(weights.sqrt()[:, None] * rows)
    p = sigmas / sigmas.sum() + 1e-7
    return torch.exp(-(p * p.log()).sum())


def weighted_std(rows, weights):
    shares, count = weights / weights.sum(), len(rows)
    mean = shares @ unit(rows)
    variances = shares @ (unit(rows) - mean).square()
    return variances.sqrt().mean() * (rows.shape[1] * count / (count - 1)) ** 0.5


@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
@pytest.mark.parametrize(
    ("values", "weighted"),
    [
        (uniformity_values, weighted_uniformity),
        (rank_me_values, weighted_rank_me),
        (std_values, weighted_std),
    ],
)
def test_mean_is_the_score_and_each_value_its_influence(values, weighted, shape):
    """u_i = score + M d score / d w_i: central differences of the weight of one image."""
    rows = random_rows(*shape)
    found, ones, step = values(rows), torch.ones(len(rows), dtype=torch.float64), 1e-4
    score = weighted(rows, ones)
    assert float(found.mean()) == pytest.approx(float(score), abs=2e-6)
    for image in range(len(rows)):
        change = torch.zeros_like(ones).index_fill(0, torch.tensor(image), step)
        slope = (weighted(rows, ones + change) - weighted(rows, ones - change)) / (2 * step)
        assert float(found[image]) == pytest.approx(float(score + len(rows) * slope), abs=2e-5)


def test_alignment_by_hand():
    """Unit vectors at 0, 60, 90 and 180 degrees from each other: squared chords 0, 1, 2, 4; lengths do not matter."""
    one = torch.tensor([[2.0, 0.0]]).expand(4, 2)
    two = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5], [0.0, 3.0], [-1.0, 0.0]])
    assert alignment_values(one, two).tolist() == pytest.approx([0, 1, 2, 4], abs=1e-6)


def test_uniformity_by_hand(monkeypatch):
    """Orthogonal pairs are at squared distance 2: log exp(-4); equal features are at 0, whatever the blocks."""
    monkeypatch.setattr(module, "_CELLS", 7)
    assert uniformity_values(torch.eye(5)).tolist() == pytest.approx([-4] * 5)
    assert uniformity_values(torch.ones(5, 3)).tolist() == pytest.approx([0] * 5, abs=1e-5)


@pytest.mark.parametrize(("count", "width"), [(12, 4), (4, 4), (4, 7)])
def test_rank_me_of_an_orthogonal_design_is_its_width(count, width):
    rows = torch.eye(width)[torch.arange(count) % width] * 3
    assert rank_me_values(rows).tolist() == pytest.approx([min(count, width)] * count, rel=1e-5)


def test_rank_me_of_one_direction_is_one_and_of_nothing_too():
    assert float(rank_me_values(torch.outer(torch.arange(1.0, 6), torch.ones(3))).mean()) == pytest.approx(1, abs=1e-4)
    assert float(rank_me_values(torch.zeros(5, 3)).mean()) == pytest.approx(1, abs=1e-4)


def test_std_is_that_of_training_metrics():
    rows = random_rows(20, 6)
    assert float(std_values(rows).mean()) == pytest.approx(float(embedding_std(unit(rows))))
    assert std_values(torch.ones(5, 3)).tolist() == pytest.approx([0] * 5)


@pytest.fixture
def folders(tmp_path):
    train = paint(tmp_path / "train", {"blue": 5, "red": 5})
    return train, paint(tmp_path / "test", {"blue": 6, "red": 6}, seed=1, noise=120)


def quick(encoder, train, test):
    settings = EvaluationSettings(device="cpu", baselines=False, batch_size=8)
    return evaluate(encoder, [train], test, protocols=("health",), settings=settings)


def test_folders_without_labels(tmp_path):
    """A flat folder has no class; four rows, without percent, and the directions in which they are better."""
    sides = [paint(tmp_path / side, {"red": 14}, seed=seed, noise=200) / "red" for seed, side in enumerate("ab")]
    report = quick(build_encoder(TINY, seed=1), sides[0], [sides[1]])
    assert [row.protocol for row in report.rows] == ROWS
    assert [row.higher_is_better for row in report.rows] == [False, False, True, True]
    assert not any(row.percent for row in report.rows)
    assert all(row.low <= row.value <= row.high and len(row.values) == 14 for row in report.rows)
    assert report.rows[1].value < 0 < report.rows[0].value < 4 and 1 < report.rows[2].value < 12
    assert report.to_json() == quick(build_encoder(TINY, seed=1), sides[0], [sides[1]]).to_json()


def test_alignment_is_over_the_views_of_training(folders):
    """Feature by feature from `one_view`, with a crop ratio that would cut the views if the crop were not lifted."""
    train, test = folders
    encoder, images = build_encoder(TINY, seed=1), open_images([test])
    encoder.crop_ratio = 0.5
    sides = []
    for view in (0, 1):
        crops = [
            one_view(images.read(i), view_settings(16), seed=0, epoch=0, index=i, view=view, purpose="evaluation views")
            for i in range(len(images))
        ]
        with torch.no_grad():
            sides.append(unit(encoder(encoder.preprocess(torch.from_numpy(np.stack(crops))))))
    wanted = (sides[0] - sides[1]).square().sum(dim=1)
    assert quick(encoder, train, [test]).rows[0].values == pytest.approx(wanted.numpy(), abs=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_views_reach_the_encoder_as_they_are(folders, interpolation):
    encoder, images = build_encoder(TINY, seed=1), open_images([folders[1]])
    encoder.crop_ratio, encoder.interpolation = 0.5, interpolation
    views = viewed(images, 16, seed=3, view=1)
    seen = []
    encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    extract(without_crop(encoder), views)
    pixels = encoder.preprocess(torch.from_numpy(np.stack([views.read(i) for i in range(len(views))])))
    assert torch.equal(torch.cat(seen), pixels) and encoder.crop_ratio == 0.5


def test_view_sets_are_named_by_all_that_they_depend_on(folders):
    images = open_images([folders[1]])
    sets = [
        viewed(part, size, seed=seed, view=view)
        for part, size, seed, view in [
            (images, 16, 0, 0), (images, 16, 0, 1), (images, 16, 1, 0), (images, 24, 0, 0),
            (images.subset(range(5)), 16, 0, 0),
        ]
    ]  # fmt: skip
    assert len({part.fingerprint for part in sets}) == len(sets)
    assert sets[0].fingerprint == viewed(images, 16, seed=0, view=0).fingerprint
    assert sets[0].name(0) == "0:" + images.name(0)


@pytest.mark.parametrize("size", [16, 72])
def test_alignment_is_defined_by_the_views_of_its_encoder(folders, size):
    encoder = build_encoder(TINY.model_copy(update={"size": size}), seed=1)
    views = health(task_on(encoder, *folders))[0].definition["views"]
    assert views == {k: v for k, v in view_settings(size).model_dump(mode="json").items() if k != "size"}


def test_each_source_has_its_own_numbers(folders, tmp_path):
    other = paint(tmp_path / "other", {"red": 5}, seed=2, noise=200)
    report = quick(build_encoder(TINY, seed=1), folders[0], [folders[1], other])
    alone = quick(build_encoder(TINY, seed=1), folders[0], [folders[1]])
    for row, wanted in zip(report.rows, alone.rows, strict=True):
        assert list(row.details["by_source"]) == ["0:test", "1:other"] and wanted.details == {}
        assert row.details["by_source"]["0:test"] == pytest.approx(wanted.value, abs=1e-5)
    note = "health: RankMe is at most 11, the number of test images, though features have 12 numbers"
    small = paint(tmp_path / "small", {"red": 11}, seed=3)
    assert note in quick(build_encoder(TINY, seed=1), folders[0], [small]).notes


def test_one_image_is_not_enough(folders, tmp_path):
    lonely = paint(tmp_path / "lonely", {"red": 1}, seed=4)
    with pytest.raises(EvaluationError, match="health: 1 test image: spread and rank need at least 2; give more"):
        quick(build_encoder(TINY, seed=1), folders[0], [lonely])
