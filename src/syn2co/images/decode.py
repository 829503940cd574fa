"""Encoded image files to RGB pixels.

OpenCV reads the common case (8-bit gray or color JPEG); Pillow reads everything else, so that gray, palette, 16-bit,
CMYK and transparent images mean the same in every format. Axis letters: H W height and width in pixels.
"""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import cv2
import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, ImageOps

from syn2co.images.quarantine import MAX_PIXELS, BrokenImage

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_TAIL = 64
_MAGICS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"GIF8")
_pillow_lock = threading.Lock()


class JpegFrame(NamedTuple):
    """Frame header of a JPEG."""

    height: int
    width: int
    bits: int
    channels: int


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "H W 3"]:
    """Return the pixels of an encoded image as RGB, turned as its EXIF orientation says.

    Transparent pixels lie over white, as a viewer shows them. 16-bit gray values v become round(v / 257); of 16-bit
    colors the upper 8 bits count. Only the first
    picture of a file with several is read. Deterministic for one version of OpenCV and Pillow.

    Raises:
        BrokenImage: if the file is empty, truncated, damaged, not an image, without pixels, or if its header
            announces more than `max_pixels` pixels (then nothing is decoded).
    """
    if _plain_jpeg(data, max_pixels) is not None:
        image = _decode_jpeg(data)
        if image is not None:
            return image
    return _decode_with_pillow(data, max_pixels)


class Inspected(NamedTuple):
    """Bytes of the decoded image, and its pixels if they were asked for."""

    nbytes: int
    image: UInt8[np.ndarray, "H W 3"] | None


def inspect(data: bytes, *, keep: bool = False, max_pixels: int = MAX_PIXELS) -> Inspected:
    """Return the size of the decoded image, and its pixels if `keep`, after reading all of the data strictly.

    A JPEG is decoded at an eighth of its size first, with libjpeg's warnings as errors: the same parsing of every byte,
    and what is missing or overwritten in the middle is found, which decoding fills with gray.

    Raises:
        BrokenImage: as `decode` does, and if any part of a JPEG's data is damaged.
    """
    frame = _plain_jpeg(data, max_pixels)
    if frame is None:
        image = decode(data, max_pixels=max_pixels)
        return Inspected(image.nbytes, image if keep else None)
    try:
        simplejpeg.decode_jpeg(data, colorspace="RGB", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        raise BrokenImage(_words(error)) from None
    return Inspected(frame.height * frame.width * 3, decode(data, max_pixels=max_pixels) if keep else None)


def _plain_jpeg(data: bytes, max_pixels: int) -> JpegFrame | None:
    """Return the frame of an 8-bit gray or color JPEG that has its end marker; None for anything else.

    OpenCV may fill the missing part of a truncated JPEG with gray without a word (`imread` does), so a JPEG without
    end is left to Pillow, which is strict.
    """
    frame = jpeg_frame(data)
    if frame is None or frame.bits != 8 or frame.channels not in (1, 3) or b"\xff\xd9" not in data[-_TAIL:]:
        return None
    check_pixels(frame.width, frame.height, max_pixels)
    return frame


def jpeg_frame(data: bytes) -> JpegFrame | None:
    """Return size, bits and channels from a JPEG's frame header; None if there is none to be found."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    position, end = 2, len(data) - 9
    while position < end and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _FRAME_MARKERS:
            bits, height, width, channels = data[position + 4], *_two_words(data, position + 5), data[position + 9]
            return JpegFrame(height, width, bits, channels)
        if marker == 0xFF:
            position += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
        else:
            position += 2 + max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
    return None


def _two_words(data: bytes, position: int) -> tuple[int, int]:
    """Return two big-endian 16-bit numbers."""
    four = int.from_bytes(data[position : position + 4], "big")
    return four >> 16, four & 0xFFFF


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuse a size that cannot be decoded or that exceeds the cap.

    Raises:
        BrokenImage: if width x height is 0 or above `max_pixels`.
    """
    if width <= 0 or height <= 0:
        raise BrokenImage(f"it has no pixels (its header says {width} x {height})")
    if width * height > max_pixels:
        raise BrokenImage(f"it has {width} x {height} = {width * height:,} pixels, above max_pixels = {max_pixels:,}")


def _decode_jpeg(data: bytes) -> UInt8[np.ndarray, "H W 3"] | None:
    """Return OpenCV's reading in RGB (it applies EXIF orientation); None if it has none."""
    image = _imdecode(data, cv2.IMREAD_COLOR)
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _imdecode(data: bytes, mode: int) -> UInt8[np.ndarray, "H W 3"] | None:
    """Return OpenCV's reading in BGR; None if it has none."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error:
        return None


@contextmanager
def _pillow_quiet() -> Iterator[None]:
    """Let Pillow read a header without warnings and without its own pixel cap, for which ours stands."""
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cap, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = cap


def _decode_with_pillow(data: bytes, max_pixels: int) -> UInt8[np.ndarray, "H W 3"]:
    """Return Pillow's strict reading in RGB; any complaint of Pillow's becomes a BrokenImage."""
    try:
        with _pillow_quiet():
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        check_pixels(image.width, image.height, max_pixels)
        image.load()
        with _pillow_quiet():  # EXIF may be damaged without harm to the pixels
            image = ImageOps.exif_transpose(image)
        return rgb(image)
    except BrokenImage:
        raise
    except Image.UnidentifiedImageError:
        raise BrokenImage(_unidentified(data)) from None
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise BrokenImage(_words(error)) from error


def _unidentified(data: bytes) -> str:
    """Return the reason for data that no reader takes."""
    if not data:
        return "the file is empty (0 bytes)"
    if data.startswith(_MAGICS):
        return "its header is damaged or truncated"
    return f"it is not an image of a known format (it begins with {data[:8]!r})"


def _words(error: Exception) -> str:
    """Return a reason for the reader of the quarantine list."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f"it is truncated ({text})" if "truncated" in text.lower() else f"it is damaged ({text})"


def rgb(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """Return the pixels of any Pillow mode as 8-bit RGB, transparent ones over white.

    Raises:
        BrokenImage: if it holds values that are not finite.
    """
    return np.ascontiguousarray(_rgb_or_view(image))


def _rgb_or_view(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """Return the pixels as RGB, perhaps sharing memory with `image`."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode[0] == "I" or image.mode == "F":
        return np.repeat(_to_8_bits(np.asarray(image))[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        pixels = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _to_8_bits(values: np.ndarray[Any, Any]) -> UInt8[np.ndarray, "H W"]:
    """Return deep gray values as 8 bits: integers from 0..65535, floats from 0..1; other ranges are stretched."""
    deep = values.astype(np.float64)
    if not np.isfinite(deep).all():
        raise BrokenImage("it holds values that are not finite numbers")
    low, high = float(deep.min()), float(deep.max())
    full = 1.0 if values.dtype.kind == "f" else 65535.0
    if low < 0 or high > full:
        deep, full = deep - low, high - low or 1.0
    return np.rint(deep * (255.0 / full)).astype(np.uint8)


def decoded_bytes(data: bytes) -> int:
    """Return how many bytes the decoded image takes, from the header alone.

    Raises:
        BrokenImage: if there is no header.
    """
    frame = jpeg_frame(data)
    if frame is not None:
        return frame.height * frame.width * 3
    try:
        with _pillow_quiet(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.width * image.height * 3
    except Exception as error:
        raise BrokenImage(_words(error)) from error
