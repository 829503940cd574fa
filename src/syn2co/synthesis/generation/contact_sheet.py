"""The contact sheet: some images of a set in rows, with what they are of where that is short.

Axis letters: H W height and width of the sheet in pixels.
"""

import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from syn2co.images.decode import decode
from syn2co.synthesis.sets.shards import stem, stored_images

COLUMNS, CELL, GAP, TEXT_HEIGHT, LONGEST = 8, 128, 6, 16, 20


def contact_sheet(folder: Path, lines: Sequence[Mapping[str, Any]], suffix: str) -> bytes:
    """Return a PNG of the images of these manifest lines, which know their "shard" and come in its order.

    Raises:
        ValueError: if one cannot be read.
    """
    rows = -(-len(lines) // COLUMNS)
    captions = [_caption(line) for line in lines]
    height = CELL + GAP + (TEXT_HEIGHT if any(captions) else 0)
    sheet = Image.new("RGB", (min(len(lines), COLUMNS) * (CELL + GAP) + GAP, rows * height + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    number = 0
    for shard, group in groupby(lines, key=lambda line: line["shard"]):
        wanted = [line["id"] for line in group]
        images = stored_images(folder / f"{stem(shard)}.tar", wanted, suffix)
        for name in wanted:
            row, column = divmod(number, COLUMNS)
            corner = (GAP + column * (CELL + GAP), GAP + row * height)
            sheet.paste(_thumbnail(images[name]), corner)
            draw.text((corner[0], corner[1] + CELL + 1), captions[number], fill="black", font=font)
            number += 1
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _thumbnail(data: bytes) -> Image.Image:
    image = Image.fromarray(decode(data))
    larger = image.width < CELL
    return image.resize((CELL, CELL), Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS)


def _caption(line: Mapping[str, Any]) -> str:
    """Return what an image is of: its class, or the program that it notes, or its short caption."""
    for text in (line["class"], line.get("program"), line["prompt"]):
        if isinstance(text, str) and 0 < len(text) <= LONGEST:
            return text
    return ""
