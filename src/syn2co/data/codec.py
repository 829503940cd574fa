"""One resize and one JPEG for real and synthetic images alike, else a network tells them apart by their files.

Axis letters: H W height and width in pixels.
"""

import io
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from syn2co.core.stuck_threads import map_in_threads
from syn2co.images.decode import FORMATS
from syn2co.images.jpeg import jpeg_frame
from syn2co.images.quarantine import BrokenImage
from syn2co.images.resize import resize_and_crop

if TYPE_CHECKING:
    from syn2co.images.image_set import ImageSet

_PROBES = 64


@dataclass(frozen=True)
class Codec:
    """Resizing and JPEG coding of every image before its views; None leaves it as it is."""

    canvas: int | None = None
    """Side of a square in pixels: the shorter side is brought to it, then the center is cut out."""
    jpeg_quality: int | None = None
    reduced: bool = False
    """Whether JPEGs are decoded at the scale that their crops need (`reduced_views`)."""

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """Return the image as it comes out; deterministic for one version of OpenCV and torch."""
        if self.canvas is not None:
            image = resize_and_crop(image, self.canvas, 1.0)
        if self.jpeg_quality is not None:
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality])
            assert done
            decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
            assert decoded is not None
            image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
        return image


def differences(images: "ImageSet", boundary: int, codec: Codec) -> list[str]:
    """Return a phrase for each property of the files by which the first `boundary` images differ from the others.

    Judged by the headers of up to 64 images of each kind; what `codec` makes equal is left out.
    """
    real, synthetic = (_headers(images, *part) for part in ((0, boundary), (boundary, len(images))))
    phrases = []
    for what, number, mended in (("formats", 0, codec.jpeg_quality), ("sizes", 1, codec.canvas)):
        left, right = ({header[number] for header in side} for side in (real, synthetic))
        if left != right and left and right and mended is None:
            phrases.append(f"{what} ({_some(left)} against {_some(right)})")
    return phrases


def _headers(images: "ImageSet", start: int, stop: int) -> list[tuple[str, str]]:
    """Return format and size of some images, evenly spread; raw pixels, and PNG that loses nothing, are "lossless"."""
    chosen = np.unique(np.linspace(start, stop - 1, min(_PROBES, stop - start)).astype(int)).tolist()

    def header(index: int) -> tuple[str, str] | None:
        try:
            return _header(images.load(index))
        except BrokenImage:
            return None

    with closing(map_in_threads(header, chosen, 1)) as headers:
        return [header for header in headers if header is not None]


def _header(loaded: bytes | UInt8[np.ndarray, "H W 3"]) -> tuple[str, str]:
    if not isinstance(loaded, bytes):
        return "lossless", f"{loaded.shape[0]} x {loaded.shape[1]}"
    frame = jpeg_frame(loaded)
    if frame is not None:
        return "jpeg", f"{frame.height} x {frame.width}"
    try:
        with Image.open(io.BytesIO(loaded), formats=FORMATS) as image:
            name = str(image.format).lower()
            kind = "lossless" if name in ("png", "bmp", "tiff", "gif") else name
            return kind, f"{image.height} x {image.width}"
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise BrokenImage(str(error)) from error


def _some(values: set[str]) -> str:
    return ", ".join(sorted(values)[:3]) + (", ..." if len(values) > 3 else "")
