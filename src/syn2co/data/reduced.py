"""Views of a JPEG that is decoded at the scale that its crops need: 1/2, 1/4 or 1/8 of its sides.

Letters: H height, W width, S side of a view in pixels.
"""

from collections.abc import Sequence
from dataclasses import replace

from syn2co.data.settings import ViewsSettings
from syn2co.data.views import Box, ViewDraw, apply_view, keyed_draw
from syn2co.images.decode import ReducibleSize, decode_reduced, reducible_size
from syn2co.images.image_set import ImageSet
from syn2co.images.quarantine import BrokenImage
from syn2co.images.resize import Square

_SCALES = (8, 4, 2)


def reduced_views(
    images: ImageSet, number: int, views: Sequence[int], settings: ViewsSettings, *, seed: int, epoch: int, index: int
) -> list[Square]:
    """Return some views of one image, decoded once: a function of the file and the key, whatever is kept in memory.

    The image is decoded at 1/s of its sides, s the largest of 1, 2, 4 and 8 at which no side of its crops has less
    than `settings.size` pixels. The crops are drawn from the size in the header, as for the whole image. What is no
    plain JPEG is decoded whole.

    Args:
        images: the set.
        number: of the image in the set.
        views: numbers of its views, 0 and 1 or one of them.
        settings: size and augmentation.
        seed: of the views.
        epoch: of the views.
        index: of the image in the key of the views.

    Raises:
        BrokenImage: if the image cannot be read.
    """
    try:
        loaded = images.load(number)
        size = reducible_size(loaded, images.max_pixels) if isinstance(loaded, bytes) else None
    except BrokenImage as error:
        raise BrokenImage(error.reason, name=images.name(number)) from error
    image = None
    if size is not None:
        assert isinstance(loaded, bytes)
        draws = [keyed_draw(*size[:2], settings, seed=seed, epoch=epoch, index=index, view=view) for view in views]
        scale = scale_of(draws, settings.size)
        image = decode_reduced(loaded, scale) if scale > 1 else None
        # Readers may differ on an odd orientation: the header's size then is not that of the pixels.
        if image is not None and image.shape[:2] == tuple(-(-side // scale) for side in size[:2]):
            drawn = (replace(draw, box=_reduced(draw.box, scale, size)) for draw in draws)
            return [apply_view(image, draw, settings) for draw in drawn]
    image = images.decoded(number, loaded)
    height, width = image.shape[:2]
    draws = [keyed_draw(height, width, settings, seed=seed, epoch=epoch, index=index, view=view) for view in views]
    return [apply_view(image, draw, settings) for draw in draws]


def scale_of(draws: Sequence[ViewDraw], size: int) -> int:
    """Return the largest of 1, 2, 4 and 8 by which the crops can be divided and still have `size` pixels a side.

    Example:
        >>> draw = ViewDraw((0, 0, 500, 900), False, (), False, None, False)
        >>> scale_of([draw], 224), scale_of([draw], 64), scale_of([draw], 300)
        (2, 4, 1)
    """
    least = min(min(draw.box[2:]) for draw in draws)
    return next((scale for scale in _SCALES if least >= scale * size), 1)


def _reduced(box: Box, scale: int, size: ReducibleSize) -> Box:
    """Return a crop in pixels of the reduced image, to half of such a pixel."""
    top, height = _reduced_side(box[0], box[2], scale, size.height, size.from_bottom)
    left, width = _reduced_side(box[1], box[3], scale, size.width, size.from_right)
    return top, left, height, width


def _reduced_side(first: int, length: int, scale: int, side: int, from_end: bool) -> tuple[int, int]:
    """Return first pixel and length of a crop along a reduced side, whose last pixel, or first one, may be a part."""
    reduced, kept = -(-side // scale), round(length / scale)
    before = min(round((side - first - length if from_end else first) / scale), reduced - kept)
    return reduced - kept - before if from_end else before, kept
