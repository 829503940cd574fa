"""Features of a whole set: order, eval mode, shares of ranks, refusal of broken numbers, hashes, raw pixels."""

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from syn2co.core.errors import DataError, EvaluationError
from syn2co.data.open import open_images
from syn2co.evaluation import features as features_module
from syn2co.evaluation.baselines import RawPixels, baselines_of
from syn2co.evaluation.crops import THREADS
from syn2co.evaluation.features import (
    check_finite,
    encoder_hash,
    exact_float32,
    extract,
    share_of_batches,
    stream,
)
from syn2co.images.image_set import ImageSet
from syn2co.images.resize import resize_and_crop
from syn2co.models.encoder import build_encoder
from syn2co.models.settings import EncoderSettings
from syn2co.models.tokens import encoder_tokens

TINY = EncoderSettings(
    name="vit_tiny_patch16_224", options={"patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 2}, size=16
)


@pytest.fixture
def images(tmp_path, monkeypatch) -> ImageSet:
    """Eleven photographs-to-be of random size, two classes."""
    monkeypatch.setenv("SYN2CO_CACHE", str(tmp_path / "cache"))
    draws = np.random.default_rng(0)
    for number in range(11):
        path = tmp_path / "set" / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = draws.integers(20, 40, 2)
        cv2.imwrite(str(path), draws.integers(0, 256, (height, width, 3), np.uint8))
    return open_images([tmp_path / "set"])


class Noisy(nn.Module):
    """An encoder that gives other features in train mode: dropout and BN."""

    image_size, crop_ratio = 8, 0.875

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(192, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))

    def preprocess(self, images):
        return images.flatten(1).float() / 255

    def forward(self, inputs):
        return self.layers(inputs)


def one_by_one(encoder, images):
    encoder.eval()
    with torch.no_grad():
        crops = [resize_and_crop(images.read(i), encoder.image_size, encoder.crop_ratio) for i in range(len(images))]
        return torch.cat([encoder(encoder.preprocess(torch.from_numpy(crop)[None])) for crop in crops])


@pytest.mark.parametrize("batch_size", [1, 4, 11, 100])
def test_rows_are_the_images_in_their_order(images, batch_size):
    encoder = build_encoder(TINY, seed=1)
    found = extract(encoder, images, batch_size=batch_size)
    assert found.dtype == torch.float32 and not found.requires_grad
    assert torch.allclose(found, one_by_one(encoder, images), atol=1e-5)


def test_train_mode_is_left_out_and_given_back(images):
    encoder = Noisy().train()
    encoder.layers[1].eval()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    found = extract(encoder, images, batch_size=4)
    assert encoder.training and encoder.layers[2].training and not encoder.layers[1].training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert torch.allclose(found, one_by_one(encoder, images), atol=1e-6)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_change_nothing(images, workers):
    encoder = build_encoder(TINY, seed=1)
    assert torch.equal(extract(encoder, images, batch_size=4), extract(encoder, images, batch_size=4, workers=workers))


@pytest.mark.parametrize("tokens", [False, True])
def test_the_stream_is_the_same_piece_after_piece(images, tokens):
    encoder = build_encoder(TINY, seed=1).train()
    parts = list(stream(encoder, images, batch_size=4, tokens=tokens))
    assert [len(part) for part in parts] == [4, 4, 3]
    assert torch.equal(torch.cat(parts), extract(encoder, images, batch_size=4, tokens=tokens))
    assert encoder.training


def test_patch_tokens(images):
    encoder = build_encoder(TINY, seed=1)
    found = extract(encoder, images, batch_size=4, tokens=True)
    assert found.shape == (11, 4, 24) and found.dtype == torch.float32
    with torch.no_grad():
        crops = [resize_and_crop(images.read(i), encoder.image_size, encoder.crop_ratio) for i in range(4)]
        wanted, _ = encoder_tokens(encoder.eval(), encoder.preprocess(torch.from_numpy(np.stack(crops))))
    assert torch.equal(found[:4], wanted)
    with pytest.raises(EvaluationError, match="Noisy: an encoder without patch tokens"):
        extract(Noisy(), images, tokens=True)


def test_a_transform_changes_the_crop_that_the_encoder_sees(images):
    class Pixel(Noisy):
        def forward(self, inputs):
            return inputs[:, :2] * 255

    found = extract(Pixel(), images, transform=lambda crop, index: np.full_like(crop, 20 * index), batch_size=4)
    assert torch.allclose(found[:, 0], 20.0 * torch.arange(11))


def test_no_images_are_no_rows(images):
    assert extract(Noisy(), images.subset([])).shape == (0, 0)
    assert extract(Noisy(), images.subset([]), tokens=True).shape == (0, 0, 0)


def test_an_unknown_option_is_an_error(images):
    with pytest.raises(TypeError, match="bach_size"):
        extract(Noisy(), images, bach_size=4)  # type: ignore[call-arg]


def test_an_interrupt_in_the_encoder_puts_everything_back(images):
    class Interrupted(Noisy):
        def forward(self, inputs):
            raise KeyboardInterrupt

    encoder = Interrupted().train()
    with pytest.raises(KeyboardInterrupt):
        extract(encoder, images, batch_size=2, workers=2)
    assert encoder.training
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(THREADS)]


def test_bfloat16_is_near_and_comes_back_as_float32(images):
    encoder = build_encoder(TINY, seed=1)
    full, half = extract(encoder, images), extract(encoder, images, precision="bfloat16")
    assert half.dtype == torch.float32 and not torch.equal(full, half)
    assert torch.allclose(full, half, atol=0.1)


@pytest.mark.parametrize("workers", [None, 0, 1])
def test_an_image_that_vanished_is_an_error(images, tmp_path, workers, monkeypatch):
    monkeypatch.setattr(images, "cache", None)
    next(Path(tmp_path / "set").rglob("4.png")).unlink()
    with pytest.raises(DataError, match="dog/4.png"):
        extract(Noisy(), images, workers=workers)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 64, 1000])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_shares_hold_every_image_once_in_order(count, ranks):
    """No padding duplicates, whatever the number of batches a rank gets; batches are those of a single rank."""
    shares = [share_of_batches(count, 8, rank, ranks) for rank in range(ranks)]
    together = [batch for share in shares for batch in share]
    assert [index for batch in together for index in batch] == list(range(count))
    assert together == share_of_batches(count, 8, 0, 1)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_features_that_are_not_numbers_are_refused(images):
    encoder = build_encoder(TINY, seed=1)
    with torch.no_grad():
        next(encoder.parameters()).fill_(float("nan"))
    features = extract(encoder, images)
    message = r"mine: 11 of 11 images give features that are NaN or infinite \(first: 0:cat/1.png\); .* use float32"
    with pytest.raises(EvaluationError, match=message):
        check_finite(features, images, "mine")
    check_finite(torch.zeros(11, 2), images, "mine")


def test_hash_follows_the_weights_and_nothing_else():
    first, again, other = (build_encoder(TINY, seed=seed) for seed in (1, 1, 2))
    assert encoder_hash(first) == encoder_hash(again.train()) != encoder_hash(other)
    with torch.no_grad():
        next(again.parameters()).view(-1)[0] += 1e-3
    assert encoder_hash(first) != encoder_hash(again)
    assert encoder_hash(first.bfloat16()) != encoder_hash(other.bfloat16())
    assert len(encoder_hash(first)) == 32


def test_raw_pixels_by_hand():
    pixels = RawPixels(64, 1.0, mean=(0.5, 0.0, 0.0), std=(0.5, 1.0, 2.0))
    assert pixels.image_size == 32 and RawPixels(16, 1.0, (0.0,) * 3, (1.0,) * 3).image_size == 16
    images = torch.tensor([[0, 0, 0], [255, 255, 51]], dtype=torch.uint8).view(2, 1, 1, 3)
    found = pixels(pixels.preprocess(images))
    assert found.tolist() == [pytest.approx([-1, 0, 0]), pytest.approx([1, 1, 0.1])]


def test_baselines_are_pixels_and_the_same_architecture():
    encoder = build_encoder(TINY, seed=5)
    found = baselines_of(encoder, seed=7)
    assert list(found) == ["raw pixels", "random init"]
    assert encoder_hash(found["random init"]) == encoder_hash(build_encoder(TINY, seed=7)) != encoder_hash(encoder)
    assert found["raw pixels"].crop_ratio == encoder.crop_ratio


def test_tf32_settings_come_back():
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    with exact_float32():
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = before


def test_the_hosts_exchange_features_where_they_can(monkeypatch):
    """Not their GPUs, which the tokens of a set may not fit into."""
    there = list[str]()

    def seen(value, **_):
        there.append(value.device.type)
        return value

    monkeypatch.setattr(features_module.distributed, "active", lambda: True)
    monkeypatch.setattr(features_module.distributed, "all_reduce_max", seen)
    monkeypatch.setattr(features_module.distributed, "all_gather_rows", seen)
    monkeypatch.setattr(features_module.distributed, "talking_device", lambda: torch.device("cpu"))
    assert features_module._gather(torch.ones(2, 3), 2).tolist() == [[1.0] * 3] * 2
    assert there == ["cpu", "cpu"]
