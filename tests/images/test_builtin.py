"""Built-in images: no pixel shared between train and test, the same bytes every time, no download."""

import socket

import numpy as np
import pytest

from syn2co.core.errors import DataError
from syn2co.data.open import open_images
from syn2co.images.decode import decode
from syn2co.images.sources import builtin as builtin_module
from syn2co.images.sources.builtin import PHOTOS, open_builtin, photo_part


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any attempt to use the network fail."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("network"))


def test_photos() -> None:
    train, test = open_images("builtin:photos"), open_images("builtin:photos:test")
    assert (len(train), len(test)) == (17920, 1024)
    assert train.classes == test.classes == tuple(sorted(PHOTOS)) and len(PHOTOS) == 16
    assert np.bincount(train.labels).tolist() == [1120] * 16 and np.bincount(test.labels).tolist() == [64] * 16
    assert train.read(0).shape == (32, 32, 3) and train.read(0).dtype == np.uint8
    assert train.name(1120) == "0:brick/0000"
    assert train.quarantined == [] and train.fingerprint != test.fingerprint


def test_photos_are_the_same_every_time() -> None:
    first, second = open_builtin("photos", "test"), open_images("builtin:photos:test")
    assert all((image == second.read(row)).all() for row, image in enumerate(first.images))
    again = builtin_module._all_patches.__wrapped__("test", 64)  # not those that this process keeps
    np.testing.assert_array_equal(again, first.images)
    assert open_builtin("photos", "test").images is first.images and not first.images.flags.writeable
    assert second.fingerprint == open_images("builtin:photos:test").fingerprint


@pytest.mark.parametrize("name", ["astronaut", "coins", "clock", "retina", "china"])
def test_parts_share_no_pixel_of_the_photograph(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = builtin_module._find(*PHOTOS[name])
    photo = decode(path.read_bytes())
    cut = round(0.6 * photo.shape[1])

    def parts() -> tuple[np.ndarray, np.ndarray]:
        return photo_part(name, "train"), photo_part(name, "test")

    whole = parts()
    assert max(whole[0].shape[1] + whole[1].shape[1], whole[0].shape[0]) == pytest.approx(512, abs=1)
    assert whole[0].shape[1] / (whole[0].shape[1] + whole[1].shape[1]) == pytest.approx(0.6, abs=0.005)
    for half, kept in ((slice(None, cut), 1), (slice(cut, None), 0)):
        changed = photo.copy()
        changed[:, half] = 255 - changed[:, half]
        monkeypatch.setattr(builtin_module, "decode", lambda _, changed=changed: changed)
        after = parts()
        np.testing.assert_array_equal(after[kept], whole[kept])
        assert (after[1 - kept] != whole[1 - kept]).any()


def test_patches_are_taken_from_their_photograph() -> None:
    source = open_builtin("photos", "train")
    for label, name in enumerate(PHOTOS):
        part = photo_part(name, "train").reshape(-1, 3)
        patches = source.images[source.labels == label].reshape(-1, 3)
        assert (patches >= part.min(axis=0)).all() and (patches <= part.max(axis=0)).all()
        assert np.abs(patches.mean(axis=0) - part.mean(axis=0)).max() < 30


def test_patches_differ() -> None:
    images = open_builtin("photos", "test").images
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


def test_digits() -> None:
    train, test = open_images("builtin:digits"), open_images("builtin:digits:test")
    assert len(train) + len(test) == 1797 and train.classes == test.classes == tuple("0123456789")
    assert test.read(0).shape == (32, 32, 3)
    share = np.bincount(test.labels) / (np.bincount(test.labels) + np.bincount(train.labels))
    assert share.tolist() == pytest.approx([0.2] * 10, abs=0.006)
    rows = [int(images.name(index)[-4:]) for images in (train, test) for index in range(len(images))]
    assert sorted(rows) == list(range(1797))


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    values, targets = (np.asarray(array) for array in load_digits(return_X_y=True))
    source = open_builtin("digits", "test")
    for row in (0, 100, 354):
        original = int(source.name(row)[-4:])
        assert targets[original] == source.labels[row]
        coarse = source.images[row, :, :, 0].reshape(8, 4, 8, 4).mean(axis=(1, 3))
        assert np.corrcoef(coarse.ravel(), values[original])[0, 1] > 0.97


def test_labeled_patches_are_the_first_of_training() -> None:
    train, labeled = open_builtin("photos", "train"), open_builtin("photos", "labeled")
    assert np.bincount(labeled.labels).tolist() == [160] * 16
    first = np.concatenate([np.flatnonzero(train.labels == label)[:160] for label in range(16)])
    np.testing.assert_array_equal(labeled.images, train.images[first])
    assert labeled.classes == train.classes


def test_no_blank_patch_is_tested_on() -> None:
    y, x = np.mgrid[:32, :32]
    sky = np.repeat((120 + x + 2 * y - x * y // 32).astype(np.uint8)[..., None], 3, axis=2)
    craters = sky.copy()
    craters[8:12, 8:12] -= 30
    assert builtin_module.is_blank(sky) and not builtin_module.is_blank(craters)
    assert not any(map(builtin_module.is_blank, open_builtin("photos", "test").images))
    assert any(map(builtin_module.is_blank, open_builtin("photos", "labeled").images))


def test_digits_have_no_labeled_split() -> None:
    with pytest.raises(DataError, match="the split must be one of train, test"):
        open_builtin("digits", "labeled")
