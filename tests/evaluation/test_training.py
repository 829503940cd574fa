"""What the protocols that train share: the order of images, learning rates, views, the copy of an encoder, the head."""

import numpy as np
import pytest
import torch
from evaluation_folders import TINY, paint

from syn2co.core import keyed_rng
from syn2co.data.open import open_images
from syn2co.data.views import one_view
from syn2co.evaluation.protocols.protocol import NotApplicable
from syn2co.evaluation.training import (
    TrainingPlan,
    crops_and_flips,
    draw_drop_path,
    linear_head,
    predict,
    require_finite,
    trainable_copy,
    training_batches,
)
from syn2co.models.encoder import build_encoder
from syn2co.models.settings import EncoderSettings

DEEP = TINY.model_copy(update={"options": {**TINY.options, "depth": 2}})


def plan(rows=range(10), batch=4, epochs=3, seed=0, purpose="test"):
    return TrainingPlan(torch.tensor(list(rows)), batch, epochs, seed, purpose)


def test_an_epoch_is_a_permutation_in_whole_batches():
    steps = list(plan().batches())
    assert [epoch for epoch, _ in steps] == [0, 0, 1, 1, 2, 2]
    for first in (0, 2, 4):
        seen = torch.cat([steps[first][1], steps[first + 1][1]]).tolist()
        assert len(set(seen)) == 8 and set(seen) <= set(range(10))
    assert len({tuple(rows.tolist()) for _, rows in steps}) == 6
    assert plan().steps == 6 and plan().steps_per_epoch == 2


def test_rows_keep_their_numbers():
    seen = {int(row) for _, rows in plan([3, 50, 7, 9], batch=2).batches() for row in rows}
    assert seen == {3, 7, 9, 50}


def test_order_is_keyed_by_seed_and_purpose():
    orders = [
        [rows.tolist() for _, rows in plan(**key).batches()] for key in ({}, {}, {"seed": 1}, {"purpose": "other"})
    ]
    assert orders[0] == orders[1] and orders[0] not in orders[2:]


def test_learning_rate_by_hand():
    """Batch 4 of 512 and base 1.28: the peak is 0.01; warm-up over half of 6 steps, then half a cosine at step 3."""
    rates = [plan().lr(step, base_lr=1.28, warmup=0.5) for step in range(6)]
    assert rates[0] == pytest.approx(5e-7 * 4 / 512) and rates[1] == pytest.approx(0.01 / 3, rel=1e-3)
    assert rates[3] == pytest.approx(0.005, rel=1e-3)
    assert plan().lr(0, base_lr=1.28, warmup=0.0) == pytest.approx(0.01)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return open_images([paint(tmp_path_factory.mktemp("training") / "train", {"blue": 5, "red": 6})])


def test_batches_hold_the_views_of_their_images(images):
    views = crops_and_flips(16, (0.3, 1.0))
    here = plan(range(11), batch=4, epochs=2, seed=5)
    batches = list(training_batches(images, here, views, workers=0, pin=False))
    assert [batch.step for batch in batches] == [0, 1, 2, 3] and [batch.epoch for batch in batches] == [0, 0, 1, 1]
    for batch in batches:
        for pixels, index in zip(batch.views, batch.indices.tolist(), strict=True):
            key = {"seed": 5, "epoch": batch.epoch, "index": index, "purpose": "test views"}
            assert np.array_equal(pixels.numpy(), one_view(images.read(index), views, **key))
    threaded = list(training_batches(images, here, views, workers=2, pin=False))
    assert all(torch.equal(one.views, two.views) for one, two in zip(batches, threaded, strict=True))


def test_views_crop_and_flip_and_do_nothing_else(images):
    """A crop of all pixels in the image's own size leaves the image or its mirror image."""
    views = crops_and_flips(16, (1.0, 1.0)).model_copy(update={"crop_ratio": (1.0, 1.0)})
    image = images.read(0)
    found = [one_view(image, views, seed=0, epoch=epoch, index=0) for epoch in range(40)]
    flipped = [np.array_equal(pixels, image[:, ::-1]) for pixels in found]
    assert all(np.array_equal(pixels, image) or turned for pixels, turned in zip(found, flipped, strict=True))
    assert 8 < sum(flipped) < 32


def test_a_copy_has_the_features_of_the_encoder_and_drop_path():
    encoder = build_encoder(DEEP, seed=1).eval()
    encoder.crop_ratio, encoder.interpolation = 0.9, "bicubic"
    copy, has_drop_path = trainable_copy(encoder.requires_grad_(False), drop_path=0.4)
    assert has_drop_path and [layer.rate for layer in copy.drop_layers] == pytest.approx([0.4, 0.4])
    assert all(parameter.requires_grad for parameter in copy.parameters())
    assert (copy.crop_ratio, copy.interpolation) == (0.9, "bicubic")
    pixels = torch.randint(256, (3, 16, 16, 3), dtype=torch.uint8)
    assert torch.equal(copy.eval()(copy.preprocess(pixels)), encoder(encoder.preprocess(pixels)))


def test_a_network_without_drop_path_says_so():
    encoder = build_encoder(EncoderSettings(name="vgg11", size=32, options={"mlp_ratio": 0.01}), seed=0)
    copy, has_drop_path = trainable_copy(encoder, drop_path=0.1)
    assert not has_drop_path and copy.drop_layers == []


def test_a_network_whose_training_no_run_could_repeat_is_not_trained():
    encoder = build_encoder(EncoderSettings(name="ghostnet_050", size=32), seed=0)
    with pytest.raises(NotApplicable, match="ghostnet_050: draws random numbers in training that no restart"):
        trainable_copy(encoder, drop_path=0.0)


def test_drop_path_is_keyed_by_image_and_epoch():
    copy, _ = trainable_copy(build_encoder(DEEP, seed=1), drop_path=0.5)
    inputs = torch.rand(4, 3, 16, 16)
    outputs = []
    for indices, epoch in (([1, 2, 3, 4], 0), ([1, 2, 3, 4], 0), ([1, 2, 3, 4], 3), ([4, 2, 3, 1], 0)):
        draw_drop_path(copy.train(), torch.tensor(indices), seed=0, epoch=epoch)
        outputs.append(copy(inputs).detach())
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0][1:3], outputs[3][1:3])
    assert not torch.equal(outputs[0], outputs[2])


def test_a_head_is_keyed_small_and_leaves_ambient_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    heads = [
        linear_head(50, 20, purpose=purpose, seed=seed) for purpose, seed in (("a", 0), ("a", 0), ("a", 1), ("b", 0))
    ]
    assert torch.equal(before, torch.get_rng_state())
    first, same, *others = (head.weight for head in heads)
    assert torch.equal(first, same) and not any(torch.equal(first, other) for other in others)
    assert float(first.detach().abs().max()) < 2 and float(first.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert not heads[0].bias.any()


def test_the_lowest_class_wins_a_tie():
    head = linear_head(2, 3, purpose="a", seed=0)
    torch.nn.init.zeros_(head.weight)
    assert predict(head, torch.rand(4, 2), "a.base_lr").tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("feature", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_give_no_score(feature):
    features = torch.rand(4, 2)
    features[1, 1] = feature
    message = "^1 of 4 test images have logits that are NaN or infinite after training, so .*; lower a.base_lr or use"
    with pytest.raises(NotApplicable, match=message):
        predict(linear_head(2, 3, purpose="a", seed=0), features, "a.base_lr")


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_gives_no_score(loss):
    with pytest.raises(
        NotApplicable, match=r"the loss is (nan|inf) at step 7, so there is no score; lower a.base_lr or"
    ):
        require_finite(torch.tensor(loss), 7, "a.base_lr")
    assert require_finite(torch.tensor(1.5), 7, "a.base_lr") == 1.5


def test_keyed_permutations_are_recorded():
    """Recorded: the order of a published training must not move."""
    assert keyed_rng.permutation(6, "fine-tune order", 0, 0).tolist() == [4, 2, 3, 0, 5, 1]
