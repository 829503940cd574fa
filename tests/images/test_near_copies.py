"""Near copies: every ordinary change is found, and images that share one layout are not copies of each other."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from syn2co.data.open import open_images
from syn2co.images.near_copies import CHANGES, HASHES, HashedSet, find_copies, view_hashes
from syn2co.images.perceptual_hash import phash_bits, turn, turned_bits


def scene(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth colorful picture, different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def hashed(folder: Path, images: list[np.ndarray]) -> HashedSet:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        assert cv2.imwrite(str(folder / f"{number:03d}.png"), image[..., ::-1])
    hashes = np.array([view_hashes(image) for image in images], np.uint64)
    return HashedSet(open_images([folder]), hashes, np.array([image.std() > 2 for image in images]))


def crop(image: np.ndarray, share: float) -> np.ndarray:
    side = round(share * min(image.shape[:2]))
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return cv2.resize(image[top : top + side, left : left + side], (48, 48), interpolation=cv2.INTER_AREA)


def part(image: np.ndarray, share: float, down: float, across: float) -> np.ndarray:
    high, wide = (round(share * length) for length in image.shape[:2])
    top, left = round(down * (image.shape[0] - high)), round(across * (image.shape[1] - wide))
    return cv2.resize(image[top : top + high, left : left + wide], image.shape[1::-1])


def rotated(image: np.ndarray, degrees: float) -> np.ndarray:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def framed(image: np.ndarray, value: int) -> np.ndarray:
    return cv2.copyMakeBorder(image, 5, 5, 5, 5, cv2.BORDER_CONSTANT, value=(value,) * 3)


def stored(image: np.ndarray) -> np.ndarray:
    decoded = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


@pytest.mark.parametrize(
    "words, change",
    [
        ("", stored),
        ("mirrored", lambda image: image[:, ::-1]),
        ("half turn", lambda image: image[::-1, ::-1]),
        ("quarter turn", lambda image: np.rot90(image)),
        ("inverted", lambda image: 255 - image),
        ("center square", lambda image: crop(image, 1.0)),
        ("center square, mirrored", lambda image: crop(image, 1.0)[:, ::-1]),
        ("center 88 %", lambda image: crop(image, 7 / 8)),
        ("center 75 %", lambda image: crop(image, 3 / 4)),
        ("off-center 94 %", lambda image: part(image, 15 / 16, 1, 0)),
        ("off-center 88 %", lambda image: stored(part(image, 7 / 8, 0.5, 1))),
        ("off-center 88 %, mirrored", lambda image: part(image, 7 / 8, 0, 0.5)[:, ::-1]),
        ("off-center 75 %", lambda image: part(image, 3 / 4, 1, 1)),
        ("rotated", lambda image: rotated(image, 5)),
        ("rotated, mirrored", lambda image: rotated(image, -10)[:, ::-1]),
        ("border added", lambda image: framed(image, 255)),
        ("border added, mirrored", lambda image: stored(framed(image, 255))[:, ::-1]),
    ],
)
def test_a_changed_image_is_found_with_its_change(
    words: str, change: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    second = hashed(tmp_path / "second", [scene(number) for number in range(40)])
    first = hashed(tmp_path / "first", [np.ascontiguousarray(change(scene(number))) for number in range(12)])
    found = find_copies(first, second)
    assert {copy.first: copy.second for copy in found.copies} == {number: number for number in range(12)}
    assert {copy.change for copy in found.copies} == {words} and found.exact == 0 and found.complete


def test_other_images_are_no_copies(tmp_path: Path) -> None:
    second = hashed(tmp_path / "second", [scene(number) for number in range(60)])
    assert find_copies(hashed(tmp_path / "first", [scene(100 + number) for number in range(60)]), second).copies == ()


def test_images_of_one_layout_are_no_copies_and_a_stored_one_is(tmp_path: Path) -> None:
    """Handwritten digits: 40 % of the training images agree with a test image by more than 0.9."""
    sides = [open_images([f"builtin:digits:{split}"]) for split in ("train", "test")]
    train, test = ([side.read(index) for index in range(0, len(side), 3)] for side in sides)
    second = hashed(tmp_path / "test", test)
    assert find_copies(hashed(tmp_path / "train", train), second).copies == ()
    found = find_copies(hashed(tmp_path / "leaked", [stored(image) for image in test[:30]]), second)
    assert [copy.second for copy in found.copies] == list(range(30))


def test_a_black_border_around_a_black_ground_is_found(tmp_path: Path) -> None:
    """The trimmed edges are those of the body, however wide the border and noisy the ground."""
    noise = np.random.default_rng(0)
    scans = []
    for _ in range(30):
        image = np.zeros((64, 64, 3), np.uint8)
        cv2.ellipse(image, (32, 32), (26 + int(noise.integers(-2, 3)), 21), 0, 0, 360, (90,) * 3, -1, cv2.LINE_AA)
        cv2.circle(image, tuple(noise.integers(22, 43, 2).tolist()), 3, (180,) * 3, -1, cv2.LINE_AA)
        scans.append(np.clip(image + noise.normal(0, 4, image.shape), 0, 255).astype(np.uint8))
    framed = [cv2.copyMakeBorder(image, 12, 12, 12, 12, cv2.BORDER_CONSTANT, value=(0, 0, 0)) for image in scans]
    for number, image in enumerate(framed):  # dust
        for place in ((3, 20 + number), (84, 50 - number), (20 + number, 4), (50 - number, 85)):
            image[place] = 200
    first = hashed(tmp_path / "first", framed)
    assert [copy.second for copy in find_copies(first, hashed(tmp_path / "second", scans)).copies] == list(range(30))


@pytest.mark.parametrize("degrees", [3, -5])
def test_a_page_of_text_that_is_turned_a_little_is_found(degrees: float, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pages = []
    for _ in range(30):
        image = np.full((96, 72, 3), 255, np.uint8)
        for top in range(14, 92, 9):
            words = "".join(random.choice([*"abcdefghij   "], 10))
            cv2.putText(image, words, (6, top), cv2.FONT_HERSHEY_SIMPLEX, 0.25, (20, 20, 20), 1, cv2.LINE_AA)
        pages.append(image)
    first = hashed(tmp_path / "first", [rotated(image, degrees) for image in pages])
    assert [copy.second for copy in find_copies(first, hashed(tmp_path / "second", pages)).copies] == list(range(30))


def test_a_turned_hash_is_that_of_the_turned_image() -> None:
    for number, bits in enumerate(turned_bits(scene(1))):
        assert bits == phash_bits(np.ascontiguousarray(turn(scene(1), number)))
    assert len(view_hashes(scene(1))) == HASHES


def test_changes_are_looked_for_once_each_and_all_views_are_hashed() -> None:
    looked = [change._replace(words="") for change in CHANGES]
    assert len(set(looked)) == len(looked)
    assert {change.second for change in CHANGES} == set(range(HASHES - 11))
