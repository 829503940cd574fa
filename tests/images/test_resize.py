"""Crops of masks by hand, against torchvision, and under the crops of images; images shrunk as torch shrinks planes."""

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from syn2co.core.errors import ConfigError
from syn2co.images.resize import resize, resize_and_crop, resize_and_crop_mask


def classes(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size=(height, width)).astype(np.uint8)


def test_a_mask_by_hand():
    """4 x 6 to the center 4 x 4; to 2 x 3, whose pixels lie over pixels 1, 3 and 1, 3, 5, and then its first 2 x 2."""
    mask = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert resize_and_crop_mask(mask, 4, 1.0).tolist() == mask[:, 1:5].tolist()
    assert resize_and_crop_mask(mask, 2, 1.0).tolist() == [[7, 9], [19, 21]]


@pytest.mark.parametrize("shape", [(37, 50), (50, 37), (41, 40), (32, 32), (23, 61), (11, 31)])
@pytest.mark.parametrize(("size", "ratio"), [(32, 0.875), (33, 1.0), (64, 0.9)])
def test_agrees_with_torchvision(shape, size, ratio):
    mask = classes(*shape)
    resized = reference.resize(torch.from_numpy(mask)[None], [round(size / ratio)], InterpolationMode.NEAREST_EXACT)
    assert np.array_equal(resize_and_crop_mask(mask, size, ratio), reference.center_crop(resized, [size, size])[0])


@pytest.mark.parametrize("shape", [(4, 1000), (1000, 4), (300, 90), (64, 64)])
def test_a_mask_lies_under_the_crop_of_its_image(shape):
    """Blocks of 16 pixels or more, panoramas cut to 4:1 too: crop and mask agree but for the edges of the blocks."""
    rows, columns = np.arange(shape[0]) * 4 // shape[0], np.arange(shape[1]) * 40 // shape[1]
    mask = ((rows[:, None] + columns) % 2).astype(np.uint8)
    found = resize_and_crop_mask(mask, 48, 0.875)
    image = resize_and_crop(np.repeat(mask[..., None] * 255, 3, axis=2), 48, 0.875)[..., 0]
    assert ((image > 127) == found).mean() > 0.9 and not np.shares_memory(found, mask)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"size = 0, crop_ratio = 1.0: size must be at least 1 and crop_ratio in \(0"):
        resize_and_crop_mask(classes(4, 4), 0, 1.0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(375, 500), (90, 1), (1, 90), (61, 23), (300, 31)])
def test_an_image_is_shrunk_as_torch_shrinks_its_planes(shape, interpolation):
    """Whatever the layout in memory; scores and views that are recorded depend on the bits."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
    for height, width in ((48, 20), (30, 1)):
        expected = torch.nn.functional.interpolate(planes, size=(height, width), mode=interpolation, antialias=True)
        shrunk = resize(image, height, width, interpolation)
        assert np.array_equal(shrunk, expected[0].permute(1, 2, 0)) and shrunk.flags.c_contiguous
