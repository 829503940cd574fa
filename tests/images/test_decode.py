"""Decoding: every format and mode as Pillow reads it, and a reason in words for what cannot be read."""

import io
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image, ImageOps, PngImagePlugin

import syn2co.images.decode as decode_module
from syn2co.images.decode import decode, decoded_bytes, inspect, rgb
from syn2co.images.jpeg import jpeg_frame
from syn2co.images.quarantine import BrokenImage


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """A smooth colored picture, 45 px wide and 30 high."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(coarse, (45, 30), interpolation=cv2.INTER_CUBIC))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the image as a file of one format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    """Return Pillow's own reading."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def with_orientation(value: int) -> Image.Exif:
    """Return EXIF data with one orientation."""
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"subsampling": 0, "quality": 95}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_formats_in_color_and_gray(picture: Image.Image, kind: str, options: dict[str, Any], mode: str) -> None:
    data = encoded(picture.convert(mode), kind, **options)
    image = decode(data)
    assert image.shape == (30, 45, 3) and image.dtype == np.uint8 and image.flags["C_CONTIGUOUS"]
    # OpenCV and Pillow may bring different builds of libjpeg, which may round differently
    assert np.abs(image.astype(int) - by_pillow(data)).max() <= 2
    assert inspect(data).nbytes == decoded_bytes(data) == 30 * 45 * 3
    kept = inspect(data, keep=True).image
    assert kept is not None and np.array_equal(kept, decode(data))


@pytest.mark.parametrize("mode", ["1", "P"])
def test_bilevel_and_palette(picture: Image.Image, mode: str) -> None:
    data = encoded(picture.convert(mode), "PNG")
    np.testing.assert_array_equal(decode(data), by_pillow(data))


def test_cmyk_jpeg(picture: Image.Image) -> None:
    data = encoded(picture.convert("CMYK"), "JPEG", quality=95)
    assert jpeg_frame(data) == (30, 45, 8, 4)
    assert np.abs(decode(data).astype(int) - np.asarray(picture)).mean() < 8


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(picture: Image.Image, kind: str, orientation: int) -> None:
    data = encoded(picture, kind, exif=with_orientation(orientation))
    image = decode(data)
    assert image.shape == ((45, 30, 3) if orientation >= 5 else (30, 45, 3))
    assert np.abs(image.astype(int) - by_pillow(data)).max() <= 2


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_alpha_lies_over_white(picture: Image.Image, kind: str, options: dict[str, Any]) -> None:
    alpha = np.tile(np.linspace(0, 255, 45).astype(np.uint8), (30, 1))
    transparent = picture.copy()
    transparent.putalpha(Image.fromarray(alpha))
    share = alpha[..., None] / 255
    expected = np.asarray(picture) * share + 255 * (1 - share)
    assert np.abs(decode(encoded(transparent, kind, **options)) - expected).max() <= 1


def test_transparent_color_of_a_palette_lies_over_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 10, 10, 10, 200, 10])
    image.putpixel((1, 0), 1)
    np.testing.assert_array_equal(decode(encoded(image, "PNG", transparency=0)), [[[255, 255, 255], [10, 200, 10]]])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_is_scaled_not_clipped(suffix: str) -> None:
    deep = np.linspace(0, 65535, 30 * 45).reshape(30, 45).astype(np.uint16)
    expected = np.repeat(np.rint(deep / 257.0)[..., None], 3, axis=2)
    image = decode(cv2.imencode(suffix, deep)[1].tobytes())
    np.testing.assert_array_equal(image, expected)
    color = decode(cv2.imencode(suffix, np.repeat(deep[..., None], 3, axis=2))[1].tobytes())
    assert np.abs(color - expected).max() <= 1


def test_deep_values_take_little_more_memory_than_the_picture() -> None:
    """A file of 300 kB may hold 169 megapixels; as float64 throughout they took 5.4 GB."""
    data = encoded(Image.fromarray(np.tile(np.arange(2000, dtype=np.uint16) * 32, (2000, 1))), "PNG")
    tracemalloc.start()
    picture = decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert picture[0, 1999, 0] == round(1999 * 32 / 257) and peak < 3.5 * picture.nbytes


def test_other_depths_by_hand() -> None:
    floats = Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32))
    assert rgb(floats)[0, :, 0].tolist() == [0, 128, 255]
    stretched = Image.fromarray(np.array([[-10, 0, 10]], np.int32))
    assert rgb(stretched)[0, :, 1].tolist() == [0, 128, 255]
    assert rgb(Image.fromarray(np.full((1, 2), 70_000, np.int32)))[0, :, 2].tolist() == [0, 0]


def tiff(values: np.ndarray, **options: Any) -> bytes:
    """Return a TIFF as tifffile writes it."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


DRAWS = np.random.default_rng(0)
DEEP = DRAWS.integers(0, 65536, (6, 8, 3), np.uint16)
FLOATS = DRAWS.random((6, 8, 3), np.float32)
FIVE = DRAWS.integers(0, 256, (6, 8, 5), np.uint8)
GRAY = DEEP[..., :1]
LONG = DRAWS.integers(0, 2**32, (6, 8), np.uint32)
LONG.flat[:2] = 0, 2**32 - 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (tiff(np.moveaxis(DEEP, -1, 0), photometric="rgb", planarconfig="separate"), DEEP / 257),
        (tiff(FLOATS, photometric="rgb"), FLOATS * 255),
        (tiff(FLOATS[..., 0].astype(float)), np.repeat(FLOATS[..., :1] * 255, 3, axis=2)),
        (tiff(FIVE, photometric="rgb"), FIVE[..., :3]),
        (tiff(np.moveaxis(FIVE, -1, 0), photometric="minisblack", planarconfig="separate"), FIVE[..., :3]),
        (tiff(FLOATS, photometric="rgb", extratags=[(274, "H", 1, 3, True)]), FLOATS[::-1, ::-1] * 255),
        (tiff(GRAY[..., 0], photometric="miniswhite"), np.repeat(255 - np.rint(GRAY / 257), 3, axis=2)),
        (tiff(1 - FLOATS[..., 0], photometric="miniswhite"), np.repeat(FLOATS[..., :1] * 255, 3, axis=2)),
        (tiff(LONG), np.repeat(LONG[..., None] / (2**32 - 1) * 255, 3, axis=2)),
    ],
    ids=["16-bit planes", "float colors", "64-bit floats", "two bands beside colors", "five bands", "upside down"]
    + ["white is 0", "white is 0.0", "32 bits without a sign"],
)
def test_tiffs_that_pillow_does_not_read(data: bytes, expected: np.ndarray) -> None:
    assert np.abs(decode(data) - np.rint(expected)).max() <= 0.5
    assert inspect(data).nbytes == 6 * 8 * 3
    with pytest.raises(BrokenImage, match=r"it has 8 x 6 = 48 pixels, above max_pixels = 47"):
        decode(data, max_pixels=47)


def test_alpha_of_a_float_tiff_lies_over_white() -> None:
    values = np.concatenate([FLOATS, np.zeros((6, 8, 1), np.float32)], axis=2)
    assert decode(tiff(values, photometric="rgb", extrasamples=["unassalpha"])).min() == 255


def test_a_tiff_of_another_kind_is_broken() -> None:
    with pytest.raises(BrokenImage, match="it is a TIFF of the kind CFA, which is not read; convert it to RGB"):
        decode(tiff(FLOATS[..., 0].astype(float), photometric="cfa"))
    with pytest.raises(BrokenImage, match="it holds complex numbers; store their magnitudes"):
        decode(tiff(FLOATS[..., 0].astype(complex)))


def test_values_that_are_not_finite_are_broken() -> None:
    data = encoded(Image.fromarray(np.array([[0.0, np.nan]], np.float32)), "TIFF")
    with pytest.raises(BrokenImage, match="it holds values that are not finite numbers"):
        decode(data)


KINDS = [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("BMP", {}), ("TIFF", {})]


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_truncated_files_are_broken(picture: Image.Image, kind: str, options: dict[str, Any], share: float) -> None:
    data = encoded(picture.resize((300, 200)), kind, **options)
    for read in (decode, inspect):
        with pytest.raises(BrokenImage, match="truncated|damaged|known format"):
            read(data[: int(len(data) * share)])


def test_truncated_jpeg_that_opencv_reads_in_silence(picture: Image.Image, tmp_path: Path) -> None:
    data = encoded(picture.resize((300, 200)), "JPEG")
    path = tmp_path / "half.jpg"
    path.write_bytes(data[: len(data) // 2])
    assert cv2.imread(str(path)) is not None
    with pytest.raises(BrokenImage, match=r"it is truncated \(image file is truncated"):
        decode(path.read_bytes())


def test_opencv_is_not_trusted_with_a_truncated_jpeg(picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(picture.resize((300, 200)), "JPEG")
    monkeypatch.setattr(decode_module, "_imdecode", lambda *_: np.zeros((200, 300, 3), np.uint8))
    assert decode(data).max() == 0
    for read in (decode, inspect):
        with pytest.raises(BrokenImage, match="it is truncated"):
            read(data[: len(data) // 2])


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm(picture: Image.Image) -> None:
    data = encoded(picture, "JPEG")
    np.testing.assert_array_equal(decode(data + b"\0" * 500), decode(data))


def test_a_png_with_damaged_notes_has_its_pixels(picture: Image.Image) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "abc")
    texts.add_text("Large", "a" * 2_000_000, zip=True)
    data = encoded(picture, "PNG", pnginfo=texts, exif=with_orientation(3))
    for odd in (data, data.replace(b"abc", b"abd"), data[:-12]):
        np.testing.assert_array_equal(decode(odd), np.asarray(picture)[::-1, ::-1])
    for cut in range(1, len(data) // 64):
        with pytest.raises(BrokenImage):
            decode(data.replace(b"abc", b"abd")[: data.index(b"IDAT") + cut])


def test_flipped_bit_in_a_png_is_broken(picture: Image.Image) -> None:
    data = bytearray(encoded(picture, "PNG"))
    data[80] ^= 1
    with pytest.raises(BrokenImage, match="it is damaged"):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (b"<html>404</html>", r"it is not an image of a known format \(it begins with b'<html>40'\)"),
        (b"\xff\xd8\xff\xe0\0", "its header is damaged or truncated"),
        (b"\xff", "it is not an image of a known format"),
    ],
)
def test_reasons(data: bytes, reason: str) -> None:
    with pytest.raises(BrokenImage, match=reason):
        decode(data)
    with pytest.raises(BrokenImage, match=reason):
        inspect(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_pixel_cap_is_applied_to_the_header(picture: Image.Image, kind: str) -> None:
    data = encoded(picture, kind)
    assert decode(data, max_pixels=1350).shape == (30, 45, 3)
    with pytest.raises(BrokenImage, match=r"it has 45 x 30 = 1,350 pixels, above max_pixels = 1,349"):
        decode(data, max_pixels=1349)


def test_decompression_bomb_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = Image.new("1", (20_000, 20_000))
    data = encoded(huge, "PNG")
    assert len(data) < 100_000
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(BrokenImage, match=r"it has 20000 x 20000 = 400,000,000 pixels, above max_pixels = 178,956,970"):
        decode(data)


def test_cap_above_pillows_own_is_the_users(monkeypatch: pytest.MonkeyPatch, picture: Image.Image) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(encoded(picture, "PNG"), max_pixels=2000).shape == (30, 45, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_jpeg_without_rows_is_broken(picture: Image.Image) -> None:
    data = bytearray(encoded(picture, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 7] = b"\0\0"
    with pytest.raises(BrokenImage, match=r"it has no pixels \(its header says 45 x 0\)"):
        decode(bytes(data))


def _scan_at(data: bytes) -> int:
    """Return where the parameters of a JPEG's first scan are: first and last coefficient, bits."""
    at = data.index(b"\xff\xda")
    return at + 5 + 2 * data[at + 4]


HARMLESS = {
    "Invalid SOS parameters": lambda data: data[: _scan_at(data)] + b"\0\0\0" + data[_scan_at(data) + 3 :],
    "unknown JFIF revision": lambda data: data.replace(b"JFIF\0\1", b"JFIF\0\3"),
    "extraneous bytes": lambda data: data[:-2] + bytes(12) + data[-2:],
    "extraneous bytes ": lambda data: data[:20] + b"\0\0\0" + data[20:],  # between two segments of the header
    "Premature end of JPEG": lambda data: data[:-2],
}


@pytest.mark.parametrize("warning", HARMLESS)
def test_warnings_that_leave_every_pixel_right_are_no_damage(warning: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (160, 200, 3), np.uint8)
    data = cv2.imencode(".jpg", cv2.GaussianBlur(pixels, (5, 5), 0))[1].tobytes()
    odd = HARMLESS[warning](data)
    with pytest.raises(ValueError, match=warning.strip()):
        simplejpeg.decode_jpeg(odd, strict=True)
    np.testing.assert_array_equal(decode(odd), decode(data))
    assert inspect(odd) == inspect(data)
    third = len(data) // 3
    with pytest.raises(BrokenImage, match="it is damaged|it is truncated"):
        inspect(HARMLESS[warning](data[:third] + data[third + 500 :]))


def test_nothing_is_printed_of_a_scan_with_odd_parameters(capfd: pytest.CaptureFixture[str]) -> None:
    data = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    odd = HARMLESS["Invalid SOS parameters"](data)
    cv2.imdecode(np.frombuffer(odd, np.uint8), cv2.IMREAD_COLOR)
    assert "Invalid SOS parameters" in capfd.readouterr().err
    decode(odd)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("damage", ["missing end", "zeros", "noise"])
def test_a_jpeg_damaged_in_the_middle_is_found_by_the_check(damage: str) -> None:
    """Every decoder fills such a hole with gray or garbage in silence; libjpeg only warns."""
    pixels = np.random.default_rng(0).integers(0, 256, (160, 200, 3), np.uint8)
    data = cv2.imencode(".jpg", cv2.GaussianBlur(pixels, (5, 5), 0))[1].tobytes()
    third = len(data) // 3
    middle = {"missing end": b"", "zeros": bytes(third), "noise": np.random.default_rng(1).bytes(third)}[damage]
    broken = data[:third] + middle + (b"\xff\xd9" if damage == "missing end" else data[2 * third :])
    inspect(data)
    for keep in (False, True):
        with pytest.raises(BrokenImage, match="it is damaged|it is truncated"):
            inspect(broken, keep=keep)
