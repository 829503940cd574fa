"""Hits and false alarms of the audit's search for leaks: kinds of change x kinds of images, before and after.

    python benchmarks/near_copies.py [--images 40] [--folder KIND=TRAIN,TEST]

before    the images as they are and mirrored, correlation of at least 0.9 whatever the images are like
after     `syn2co.images.near_copies.find_copies`

A hit is a changed test image that is found, as a copy of that test image; a false alarm is a training image, which is
not among the test images, that is taken for one. `--folder` adds labeled or unlabeled images of your own.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

import syn2co
from syn2co.core.keyed_rng import generator, permutation
from syn2co.data.open import open_images
from syn2co.images.image_set import ImageSet
from syn2co.images.near_copies import AGREEMENT, SAME, HashedSet, agreements, find_copies, view_hashes
from syn2co.images.resize import resize_and_crop

Image = np.ndarray


def jpeg(image: Image, quality: int = 60) -> Image:
    """Return the image stored as JPEG."""
    decoded = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def crop(image: Image, share: float) -> Image:
    """Return a share of the center at the size of the image."""
    height, width = (round(share * side) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return cv2.resize(image[top : top + height, left : left + width], image.shape[1::-1])


def corner(image: Image, share: float) -> Image:
    """Return the lower left corner, a share of both sides, at the size of the image."""
    height, width = (round(share * side) for side in image.shape[:2])
    return cv2.resize(image[image.shape[0] - height :, :width], image.shape[1::-1])


def rotate(image: Image, degrees: float) -> Image:
    """Return the image turned, its edges mirrored."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def border(image: Image, value: int) -> Image:
    """Return the image with a border of a sixteenth of its width."""
    wide = max(1, image.shape[1] // 16)
    return cv2.copyMakeBorder(image, wide, wide, wide, wide, cv2.BORDER_CONSTANT, value=(value,) * 3)


CHANGES: dict[str, Callable[[Image], Image]] = {
    "JPEG 60": jpeg,
    "brighter": lambda image: np.clip(image * 1.15 + 10, 0, 255).astype(np.uint8),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "center square": lambda image: resize_and_crop(image, min(image.shape[:2]), 1.0),
    "center 88 %": lambda image: crop(resize_and_crop(image, min(image.shape[:2]), 1.0), 7 / 8),
    "center 75 %": lambda image: crop(resize_and_crop(image, min(image.shape[:2]), 1.0), 3 / 4),
    "black border": lambda image: border(image, 0),
    "white border, JPEG": lambda image: jpeg(border(image, 255)),
    "quarter turn": lambda image: np.ascontiguousarray(np.rot90(image)),
    "upside down": lambda image: np.ascontiguousarray(image[::-1, ::-1]),
    "inverted": lambda image: 255 - image,
    "corner, 94 %": lambda image: corner(image, 15 / 16),
    "corner, 88 %": lambda image: corner(image, 7 / 8),
    "corner, 75 %": lambda image: corner(image, 3 / 4),
    "corner, 80 %": lambda image: corner(image, 4 / 5),
    "rotated by 5 degrees": lambda image: rotate(image, 5),
    "rotated by 10 degrees": lambda image: rotate(image, 10),
}


def hashed(images: ImageSet, rows: np.ndarray) -> HashedSet:
    """Return some images of a set with their hashes."""
    chosen = images.subset(np.sort(rows))
    return with_hashes(chosen)


def with_hashes(images: ImageSet) -> HashedSet:
    """Return a set with its hashes."""
    pixels = [images.read(index) for index in range(len(images))]
    hashes = np.array([view_hashes(image) for image in pixels], np.uint64)
    return HashedSet(images, hashes, np.array([image.std() >= 2 for image in pixels]))


def before(first: HashedSet, second: HashedSet) -> dict[int, int]:
    """Return the copies at a fixed threshold, as they are or mirrored."""
    best: dict[int, tuple[float, int]] = {}
    for change in SAME:
        pairs = agreements(first, second, change, first.rows(0), second.rows(0))
        for i, j, value in zip(*(part.tolist() for part in pairs[:3]), strict=True):
            if value >= AGREEMENT:
                best[i] = max(best.get(i, (0.0, 0)), (value, j))
    return {i: j for i, (_, j) in best.items()}


def after(first: HashedSet, second: HashedSet) -> dict[int, int]:
    """Return the copies that `find_copies` finds."""
    return {copy.first: copy.second for copy in find_copies(first, second).copies}


def changed(test: HashedSet, rows: np.ndarray, folder: Path) -> HashedSet:
    """Return the images of some rows as a set of files, all of them under one change after the other."""
    folder.mkdir()
    for number, how in enumerate(CHANGES.values()):
        for slot, row in enumerate(rows.tolist()):
            path = folder / f"{number:02d}-{slot:05d}.png"
            assert cv2.imwrite(str(path), how(test.images.read(row))[..., ::-1])
    return with_hashes(open_images([folder], cache="never"))


def measure(train: HashedSet, test: HashedSet, count: int, folder: Path) -> list[tuple[str, str, str]]:
    """Return the rows of one kind of images: a change, hits before and after; the last row has the false alarms."""
    rows = permutation(len(test.images), "near copies")[:count]
    leaked = changed(test, rows, folder)
    copies = [search(leaked, test) for search in (before, after)]
    table = []
    for number, name in enumerate(CHANGES):
        numbered = list(enumerate(rows.tolist(), start=number * len(rows)))
        hits = [sum(part.get(i) == row for i, row in numbered) for part in copies]
        table.append((name, f"{hits[0]} of {len(rows)}", f"{hits[1]} of {len(rows)}"))
    alarms = [len(search(train, test)) for search in (before, after)]
    table.append(("false alarms", f"{alarms[0]} of {len(train.images)}", f"{alarms[1]} of {len(train.images)}"))
    return table


def page(random: np.random.Generator) -> Image:
    """Return a page of text: words of random letters in lines, black on white."""
    image = np.full((96, 72, 3), 255, np.uint8)
    for top in range(14, 92, 9):
        letters = random.choice([*"abcdefghijklmnopqrstuvwxyz   "], int(random.integers(6, 13)))
        cv2.putText(image, "".join(letters), (6, top), cv2.FONT_HERSHEY_SIMPLEX, 0.25, (20, 20, 20), 1, cv2.LINE_AA)
    return image


def aligned_scan(random: np.random.Generator) -> Image:
    """Return a gray scan: a body and two organs at about the same place, and a few spots."""
    image = np.zeros((96, 96, 3), np.uint8)
    cv2.ellipse(image, (48, 48), (40 + int(random.integers(-2, 3)), 32), 0, 0, 360, (90,) * 3, -1, cv2.LINE_AA)
    for left in (32, 64):
        center = (left + int(random.integers(-2, 3)), 46 + int(random.integers(-2, 3)))
        cv2.ellipse(image, center, (10, 17 + int(random.integers(-2, 3))), 0, 0, 360, (40,) * 3, -1, cv2.LINE_AA)
    for _ in range(4):
        spot = tuple(int(value) for value in random.integers(24, 72, 2))
        cv2.circle(image, spot, int(random.integers(1, 5)), (int(random.integers(120, 220)),) * 3, -1, cv2.LINE_AA)
    return np.clip(image + random.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def kinds(folder: Path, given: list[str]) -> dict[str, tuple[str, str]]:
    """Return the training and test source of each kind of images."""
    sources = {kind: (f"builtin:{kind}:train", f"builtin:{kind}:test") for kind in ("photos", "digits")}
    leaves = syn2co.SynthesisSettings(size=64, options={"program": "leaves"})
    for side, seed in (("train", 0), ("test", 1)):
        syn2co.generate(leaves.model_copy(update={"seed": seed}), folder / "leaves" / side, count=400)
        for kind, draw in (("pages", page), ("scans", aligned_scan)):
            (folder / kind / side).mkdir(parents=True)
            for number in range(400):
                random = generator("near copies", kind, side, number)
                cv2.imwrite(str(folder / kind / side / f"{number}.png"), draw(random))
    sources |= {
        kind: (str(folder / kind / "train"), str(folder / kind / "test")) for kind in ("leaves", "pages", "scans")
    }
    for text in given:
        kind, _, pair = text.partition("=")
        train, _, test = pair.partition(",")
        sources[kind] = (train, test)
    return sources


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40, help="test images that are changed")
    parser.add_argument("--most", type=int, default=1000, help="images of each side")
    parser.add_argument("--kinds", help="kinds of images, with commas between; all without it")
    parser.add_argument("--folder", action="append", default=[], metavar="KIND=TRAIN,TEST")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = kinds(folder, arguments.folder)
        for kind in arguments.kinds.split(",") if arguments.kinds else sources:
            specs = sources[kind]
            sides = []
            for spec in specs:
                images = open_images([spec], cache="never")
                sides.append(hashed(images, permutation(len(images), "near copies side")[: arguments.most]))
            print(f"\n{kind}: {len(sides[0].images)} training and {len(sides[1].images)} test images")
            for change, *hits in measure(sides[0], sides[1], arguments.images, folder / f"changed-{kind}"):
                print(f"| {change} | {hits[0]} | {hits[1]} |", flush=True)


if __name__ == "__main__":
    main()
