"""The parts of a JPEG file: its frame, libjpeg's complaints, and the bytes that pixels come from."""

import re
from typing import NamedTuple

import simplejpeg

JPEG = b"\xff\xd8\xff"
"""First bytes of a JPEG."""
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_SEQUENTIAL = (0xC0, 0xC1)
_SCAN, _END = 0xDA, 0xD9
_ALL_COEFFICIENTS = b"\0\x3f\0"
_TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD})
_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])", re.DOTALL)
_TAIL = 64
# Of 3,000 JPEGs with a byte, 16 bytes or a piece damaged, 1,094 had more data than pixels: all of them by 17 and more.
_PADDING = 16


class JpegFrame(NamedTuple):
    """Frame header of a JPEG."""

    height: int
    width: int
    bits: int
    channels: int


def is_readable(frame: JpegFrame | None) -> bool:
    """Return whether a JPEG is one of 8-bit gray or color values."""
    return frame is not None and frame.bits == 8 and frame.channels in (1, 3)


def jpeg_frame(data: bytes) -> JpegFrame | None:
    """Return size, bits and channels from a JPEG's frame header; None if there is none to be found."""
    if data[:3] != JPEG:
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


def jpeg_damage(data: bytes) -> ValueError | None:
    """Return libjpeg's complaint about a JPEG whose pixels are not all there; None if they are.

    libjpeg names its first warning alone, so a file with one is read again without all that warnings may be about and
    pixels do not come from.
    """
    if _complaint(data) is None:
        return None
    damage = _complaint(pixels_alone(data))
    padding = re.search(r"(\d+) extraneous bytes before marker 0xd9", str(damage))
    return None if padding and int(padding[1]) <= _PADDING else damage


def _complaint(data: bytes) -> ValueError | None:
    """Return libjpeg's first warning or error."""
    try:
        simplejpeg.decode_jpeg(data, colorspace="RGB", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        return error
    return None


def pixels_alone(data: bytes) -> bytes:
    """Return tables, frame and scans of a JPEG and an end marker: no comments, and the standard limits of scans.

    A sequential scan holds all 64 coefficients (0 to 63, whole bits) whatever its header says.
    """
    kept, position, marker, sequential = [data[:2]], 2, 0, False
    while marker != _END:
        match = _MARKER.search(data, position)
        if marker == _SCAN:
            kept.append(data[position : match.start() if match else len(data)])
        if match is None:
            break
        marker, start = match[1][0], match.start()
        position = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        segment = data[start:position]
        if marker == _SCAN and sequential:
            segment = segment[:-3] + _ALL_COEFFICIENTS
        if marker == _SCAN or marker in _TABLES or marker in _FRAME_MARKERS:
            kept.append(segment)
        sequential |= marker in _SEQUENTIAL
    return b"".join([*kept, b"\xff\xd9"])


def standard_scan(data: bytes) -> bytes:
    """Return a sequential JPEG with the standard limits of its first scan: OpenCV prints a line about any other."""
    position, sequential = 2, False
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, end = data[position + 1], position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == _SCAN:
            odd = sequential and data[end - 3 : end] != _ALL_COEFFICIENTS
            return data[: end - 3] + _ALL_COEFFICIENTS + data[end:] if odd else data
        sequential |= marker in _SEQUENTIAL
        position = end
    return data


def lacks_only_its_end(data: bytes) -> bool:
    """Return whether a JPEG has all of its pixels and no end marker."""
    return data[:3] == JPEG and not has_end(data) and jpeg_damage(data) is None


def has_end(data: bytes) -> bool:
    """Return whether the end marker of a JPEG stands among its last bytes."""
    return b"\xff\xd9" in data[-_TAIL:]
