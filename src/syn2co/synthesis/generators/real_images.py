"""The user's images as generators read them: a keyed subset, squares of one size, thumbnails.

Axis letters: N images, S side in pixels, T side of a thumbnail.
"""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
from jaxtyping import Float, UInt8

from syn2co.core import keyed_rng
from syn2co.core.errors import DataError
from syn2co.images.image_set import ImageSet
from syn2co.images.resize import resize_and_crop

THUMBNAIL = 8
Square = UInt8[np.ndarray, "S S 3"]


def choose(real: ImageSet | None, most: int, generator: str, seed: int) -> ImageSet:
    """Return at most `most` of the images, chosen by the seed, in their own order.

    Raises:
        DataError: if there are none.
    """
    count = 0 if real is None else len(real)
    if real is None or count < 2:
        raise DataError(
            f"real: the {generator} generator is made from real images and was given {count}; name at least 2 with "
            "--real"
        )
    if len(real) <= most:
        return real
    return real.subset(np.sort(keyed_rng.permutation(len(real), generator, "images", seed)[:most]))


def squares(images: ImageSet, size: int) -> Iterator[Square]:
    """Yield every image resized and cropped to the center square, antialiased."""
    with closing(images.read_many(range(len(images)))) as pixels:
        for image in pixels:
            yield resize_and_crop(image, size, 1.0)


def thumbnail(square: Square) -> Float[np.ndarray, "T T 3"]:
    """Return the means of the square's 8 x 8 boxes, in 0..1, float32."""
    import cv2

    small = cv2.resize(square, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / np.float32(255)
