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
from jaxtyping import UInt8
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile

from syn2co.images.jpeg import (
    JPEG,
    JpegFrame,
    has_end,
    is_readable,
    jpeg_damage,
    jpeg_frame,
    lacks_only_its_end,
    pixels_alone,
    standard_scan,
)
from syn2co.images.quarantine import MAX_PIXELS, BrokenImage

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PLANAR, _BITS, _ORIENTATION, _PHOTOMETRIC, _KIND = 284, 258, 274, 262, 339
_WHITE_IS_ZERO, _GRAY, _RGB = 0, 1, 2
_PNG = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf")
_BLOCK = 1 << 20
NEARLY_BLACK = 16
"""Largest value of an image of 12-bit data in a 16-bit file: 4095 / 257, rounded."""
_MAGICS = (JPEG, b"\x89PNG\r\n", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"GIF8")
_pillow_lock = threading.Lock()


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, bits: int = 16) -> UInt8[np.ndarray, "H W 3"]:
    """Return the pixels of an encoded image as RGB, turned as its EXIF orientation says.

    Transparent pixels lie over white, as a viewer shows them. 16-bit gray values v become round(v / 257); of 16-bit
    colors the upper 8 bits count, or the same rounding where a TIFF stores them band by band. Float values count from 0
    to 1; a picture with others is stretched from its least to its largest. Of a TIFF's bands beside gray or RGB only
    alpha counts; without colors named, the first three of five are taken for RGB. Only the first picture of a file with
    several is read. Deterministic for one version of OpenCV and Pillow.

    Args:
        data: the file.
        max_pixels: width times height of the largest image that is decoded.
        bits: of the values in 16-bit files; those of 12 bits count from 0 to 4095, gray and colors alike.

    Raises:
        BrokenImage: if the file is empty, truncated, damaged, not an image, without pixels, if its header announces
            more than `max_pixels` pixels (then nothing is decoded), or if a value has more than `bits` bits.
    """
    if _plain_jpeg(data, max_pixels) is not None:
        image = _decode_jpeg(standard_scan(data))
        if image is not None:
            return image
    try:
        return _decode_with_pillow(data, max_pixels, bits)
    except BrokenImage:
        image = _decode_pixels_alone(data, max_pixels, bits)
        if image is None:
            raise
        return image


class Inspected(NamedTuple):
    """Bytes of the decoded image, its pixels if they were asked for, and whether it is nearly black (no JPEG is)."""

    nbytes: int
    image: UInt8[np.ndarray, "H W 3"] | None
    dark: bool = False


def inspect(data: bytes, *, keep: bool = False, max_pixels: int = MAX_PIXELS, bits: int = 16) -> Inspected:
    """Return the size of the decoded image, and its pixels if `keep`, after reading all of the data strictly.

    A JPEG is decoded at an eighth of its size first, with libjpeg's warnings as errors: the same parsing of every byte,
    and what is missing or overwritten in the middle is found, which decoding fills with gray. Warnings that leave every
    pixel right do not count: of the header, of parameters of a scan for which a sequential JPEG has no use, of up to 16
    bytes of padding.

    Raises:
        BrokenImage: as `decode` does, and if any part of a JPEG's data is damaged.
    """
    frame = _plain_jpeg(data, max_pixels)
    image = decode(data, max_pixels=max_pixels, bits=bits) if frame is None else None
    if data[:3] == JPEG and (frame is not None or is_readable(jpeg_frame(pixels_alone(data)))):
        damage = jpeg_damage(data)
        if damage is not None:
            raise BrokenImage(_words(damage))
    if frame is not None:
        image = decode(data, max_pixels=max_pixels) if keep else None
        return Inspected(frame.height * frame.width * 3, image)
    assert image is not None
    return Inspected(image.nbytes, image if keep else None, int(image.max()) <= NEARLY_BLACK)


def _decode_pixels_alone(data: bytes, max_pixels: int, bits: int) -> UInt8[np.ndarray, "H W 3"] | None:
    """Return the pixels of a PNG with damaged notes or of a JPEG without end; None if they are not all there."""
    if data[:8] != _PNG:
        return _decode_jpeg(data + b"\xff\xd9") if lacks_only_its_end(data) else None
    try:
        return _decode_with_pillow(_chunks_of_pixels(data), max_pixels, bits)
    except BrokenImage:
        return None


def _chunks_of_pixels(data: bytes) -> bytes:
    """Return a PNG without the chunks that pixels do not come from (texts, profiles), and with an end."""
    kept, position = [data[:8]], 8
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] in _PIXEL_CHUNKS and end <= len(data):
            kept.append(data[position:end])
        position = end
    return b"".join([*kept, b"\0\0\0\0IEND\xaeB`\x82"])


def _plain_jpeg(data: bytes, max_pixels: int) -> JpegFrame | None:
    """Return the frame of an 8-bit gray or color JPEG that has its end marker; None for anything else.

    OpenCV may fill the missing part of a truncated JPEG with gray without a word (`imread` does), so a JPEG without
    end is left to Pillow, which is strict.
    """
    frame = jpeg_frame(data)
    if frame is None or not is_readable(frame) or not has_end(data):
        return None
    check_pixels(frame.width, frame.height, max_pixels)
    return frame


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuse a size that cannot be decoded or that exceeds the cap.

    Raises:
        BrokenImage: if width x height is 0 or above `max_pixels`.
    """
    if width <= 0 or height <= 0:
        raise BrokenImage(f"it has no pixels (its header says {width} x {height})")
    if width * height > max_pixels:
        raise BrokenImage(f"it has {width} x {height} = {width * height:,} pixels, above max_pixels = {max_pixels:,}")


class ReducibleSize(NamedTuple):
    """Size of a decoded JPEG in pixels, and which of its sides EXIF turns round: first pixels are then last ones."""

    height: int
    width: int
    from_bottom: bool = False
    from_right: bool = False


def reducible_size(data: bytes, max_pixels: int = MAX_PIXELS) -> ReducibleSize | None:
    """Return the size of the decoded image from the header of a JPEG, turned as its EXIF orientation says; None for
    what `decode_reduced` does not read.

    Raises:
        BrokenImage: if the header announces no pixels or more than `max_pixels`.
    """
    frame = _plain_jpeg(data, max_pixels)
    if frame is None:
        return None
    try:
        with _pillow_quiet(), Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # as with Pillow's other readers: OpenCV reads what it takes for damaged
        return None
    sides = (frame.width, frame.height) if orientation in (5, 6, 7, 8) else (frame.height, frame.width)
    return ReducibleSize(*sides, orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7))


def decode_reduced(data: bytes, scale: int) -> UInt8[np.ndarray, "H W 3"] | None:
    """Return the pixels of a JPEG at 1/scale of its sides, rounded up (libjpeg's scaled DCT); None if it has none.

    Args:
        data: a file of which `reducible_size` knows the size.
        scale: 2, 4 or 8.
    """
    mode = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}[scale]
    image = _imdecode(standard_scan(data), mode)
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


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


def _decode_with_pillow(data: bytes, max_pixels: int, bits: int) -> UInt8[np.ndarray, "H W 3"]:
    """Return Pillow's strict reading in RGB; any complaint of Pillow's becomes a BrokenImage."""
    try:
        with _pillow_quiet():
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        check_pixels(image.width, image.height, max_pixels)
        if _misread(image, bits):
            return _decode_tiff(data, max_pixels, bits)
        deep_colors = bits < 16 and _drops_bits(image)
        image.load()
        if deep_colors:
            image = _deep_colors(data, image, bits)
        with _pillow_quiet():  # EXIF may be damaged without harm to the pixels
            image = ImageOps.exif_transpose(image)
        return rgb(image, bits=bits)
    except BrokenImage:
        raise
    except Image.UnidentifiedImageError:
        if data.startswith(_TIFFS):
            return _decode_tiff(data, max_pixels, bits)
        raise BrokenImage(_unidentified(data)) from None
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise BrokenImage(_words(error)) from error


def _misread(image: Image.Image, bits: int) -> bool:
    """Return whether Pillow would read a TIFF of deep values wrong: band by band as if pixel by pixel, white at zero as
    if black, 32 bits as if signed; or drop lower bits of colors that count.
    """
    tags = getattr(image, "tag_v2", {})
    depths = tags.get(_BITS, (8,))
    odd = tags.get(_PLANAR) == 2 or tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO or (bits < 16 and len(depths) > 1)
    return max(depths) > 8 and (odd or (max(depths) == 32 and tags.get(_KIND, (1,))[0] == 1))


def _drops_bits(image: Image.Image) -> bool:
    """Return whether a PNG, not loaded yet, has 16-bit colors, of which Pillow keeps the upper 8 bits."""
    return isinstance(image, PngImageFile) and image.mode[0] != "I" and str(image.tile[0][3]).endswith(";16B")


def _deep_colors(data: bytes, image: Image.Image, bits: int) -> Image.Image:
    """Return a PNG of 16-bit colors by its lower bits too, under the EXIF orientation of Pillow's reading."""
    bands = _imdecode(data, cv2.IMREAD_UNCHANGED)
    if bands is None:
        raise BrokenImage("it is damaged (OpenCV cannot read its 16-bit colors)")
    order = [2, 1, 0, 3][: bands.shape[2]]
    deep = Image.fromarray(_bands_to_rgb(bands[..., order], 3, alpha=len(order) == 4, bits=bits))
    deep.getexif()[_ORIENTATION] = image.getexif().get(_ORIENTATION, 1)
    return deep


def _decode_tiff(data: bytes, max_pixels: int, bits: int) -> UInt8[np.ndarray, "H W 3"]:
    """Return the pixels of a kind of TIFF that Pillow does not read: floats, deep planes, bands beside the colors."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            check_pixels(page.imagewidth, page.imagelength, max_pixels)
            if page.photometric not in (_WHITE_IS_ZERO, _GRAY, _RGB):
                kind = tifffile.PHOTOMETRIC(page.photometric).name
                raise BrokenImage(f"it is a TIFF of the kind {kind}, which is not read; convert it to RGB")
            bands = page.asarray().reshape(page.shape)
            if page.axes[0] == "S":
                bands = np.moveaxis(bands, 0, -1)
            alpha = page.extrasamples[:1] in ((1,), (2,))
            orientation = page.tags.valueof(_ORIENTATION, 1)
    except BrokenImage:
        raise
    except Exception as error:  # as with Pillow's readers
        raise BrokenImage(_words(error)) from error
    colors = 3 if page.photometric == _RGB or page.samplesperpixel - alpha >= 3 else 1
    pixels = _bands_to_rgb(np.atleast_3d(bands), colors, alpha=alpha, bits=bits)
    if page.photometric == _WHITE_IS_ZERO:
        pixels[..., :3] = 255 - pixels[..., :3]
    image = Image.fromarray(pixels)
    image.getexif()[_ORIENTATION] = orientation
    return rgb(ImageOps.exif_transpose(image))


def _bands_to_rgb(bands: np.ndarray[Any, Any], colors: int, *, alpha: bool, bits: int) -> UInt8[np.ndarray, "H W C"]:
    """Return the first bands as RGB, or RGBA with the band behind them; bands after these do not count."""
    values = bands[..., :colors]
    shown = values if values.dtype == np.uint8 else _to_8_bits(values, bits)
    shown = np.repeat(shown, 3, axis=2) if colors == 1 else shown
    if not alpha:
        return np.ascontiguousarray(shown)
    opaque = bands[..., colors : colors + 1]
    return np.concatenate([shown, opaque if opaque.dtype == np.uint8 else _to_8_bits(opaque, bits)], axis=2)


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


def rgb(image: Image.Image, *, bits: int = 16) -> UInt8[np.ndarray, "H W 3"]:
    """Return the pixels of any Pillow mode as 8-bit RGB, transparent ones over white; `bits` as `decode` takes it.

    Raises:
        BrokenImage: if it holds values that are not finite, or of more bits.
    """
    return np.ascontiguousarray(_rgb_or_view(image, bits))


def _rgb_or_view(image: Image.Image, bits: int) -> UInt8[np.ndarray, "H W 3"]:
    """Return the pixels as RGB, perhaps sharing memory with `image`."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode[0] == "I" or image.mode == "F":
        return np.repeat(_to_8_bits(np.asarray(image), bits)[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        pixels = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _to_8_bits(values: np.ndarray[Any, Any], bits: int) -> UInt8[np.ndarray, "H W ..."]:
    """Return deep values as 8 bits: integers from 0 to 2**bits - 1, floats from 0 to 1; of 16 bits and of floats, other
    ranges are stretched.
    """
    if values.dtype.kind == "c":
        raise BrokenImage("it holds complex numbers; store their magnitudes")
    floats = values.dtype.kind == "f"
    if floats and not np.isfinite(values).all():
        raise BrokenImage("it holds values that are not finite numbers")
    low, high = float(values.min()), float(values.max())
    least, full = 0.0, 1.0 if floats else 2.0**bits - 1
    if bits < 16 and not floats and high > full:
        raise BrokenImage(f"it holds values up to {high:.0f}, and {bits}bit: counts to {full:.0f}; name more bits")
    if low < 0 or high > full:
        least, full = low, high - low or 1.0
    flat, levels = values.reshape(-1), np.empty(values.size, np.uint8)
    for start in range(0, values.size, _BLOCK):  # 8 bytes a value as float64: a block at a time
        part = slice(start, start + _BLOCK)
        levels[part] = np.rint((flat[part].astype(np.float64) - least) * (255.0 / full))
    return levels.reshape(values.shape)


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
