"""The contact sheet: some images of a set in rows, each above its class, program or prompt.

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

COLUMNS, CELL, GAP, TEXT_HEIGHT = 8, 128, 6, 16


def contact_sheet(folder: Path, lines: Sequence[Mapping[str, Any]], suffix: str) -> bytes:
    """Return a PNG of the images of these manifest lines, which know their "shard" and come in its order.

    Raises:
        ValueError: if one cannot be read.
    """
    rows = -(-len(lines) // COLUMNS)
    font = ImageFont.load_default(11)
    captions = [_cut(_caption(line), font) for line in lines]
    height = CELL + GAP + (TEXT_HEIGHT if any(captions) else 0)
    sheet = Image.new("RGB", (min(len(lines), COLUMNS) * (CELL + GAP) + GAP, rows * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
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
    """Return what an image is of on one line: its class, or the program that it notes, or its prompt."""
    texts = (line["class"], line.get("program"), line["prompt"])
    return " ".join(next((text for text in texts if isinstance(text, str)), "").split())


def _cut(text: str, font: Any) -> str:
    """Return as much of a text as fits below an image, with three dots for the rest."""
    if font.getlength(text) <= CELL:
        return text
    kept = next(
        length for length in range(min(len(text), CELL), -1, -1) if font.getlength(f"{text[:length]}...") <= CELL
    )
    return f"{text[:kept].rstrip()}..."
