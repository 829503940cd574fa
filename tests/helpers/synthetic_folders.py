"""Data set folders by hand, in the format that `syn2co generate` writes: recipe.json, shards and manifests."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np

LINE: dict[str, Any] = {
    "seed": 1, "subject": "", "k": 0, "class": None, "prompt": None, "source": None, "generator": "by hand",
    "model": None, "revision": None, "license": "CC0-1.0", "guidance": None, "steps": None, "sampler": None,
    "labels": "none", "versions": {}, "phash": "0" * 16,
}  # fmt: skip


def picture(*seed: int, size: int = 20) -> np.ndarray:
    """Return keyed noise."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def write_set(
    folder: Path, images: Sequence[np.ndarray], lines: Sequence[Mapping[str, Any]], *, shard_size: int = 4
) -> Path:
    """Write a finished set; image i is described by `lines[i]` on top of `LINE`, its id is i in 32 hex digits."""
    from syn2co.synthesis.sets.settings import SynthesisSettings

    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "count": len(images), "shard_size": shard_size, "real": None, "code": None, "facts": {},
        "subjects": {"kind": "programs", "number": None, "digest": "0"},
    }  # fmt: skip
    settings = SynthesisSettings().model_dump(mode="json", exclude={"work"})
    (folder / "recipe.json").write_text(json.dumps({"hash": "0" * 32, "set": about, **settings}))
    for start in range(0, len(images), shard_size):
        rows = range(start, min(start + shard_size, len(images)))
        _write_shard(folder / f"{start // shard_size:06d}", [(row, images[row], lines[row]) for row in rows])
    return folder


def _write_shard(stem: Path, entries: Sequence[tuple[int, np.ndarray, Mapping[str, Any]]]) -> None:
    from syn2co.synthesis.sets.manifest import seal

    texts = []
    with tarfile.open(stem.with_suffix(".tar"), "w") as archive:
        for row, image, line in entries:
            data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
            name = f"{row:032x}"
            metadata = {"id": name, "group": name, "size": list(image.shape[:2]), "sha256": sha256(data).hexdigest()}
            texts.append(seal({**LINE, **metadata, **line}))
            for member, body in ((f"{name}.png", data), (f"{name}.json", texts[-1].encode())):
                info = tarfile.TarInfo(member)
                info.size = len(body)
                archive.addfile(info, io.BytesIO(body))
    stem.with_suffix(".jsonl").write_text("".join(text + "\n" for text in texts))


def variations_of(folder: Path, real: Path, count: int, *, seed: int = 0, near: int = 12, **line: Any) -> Path:
    """Write a set of `count` variations of every image of the folder `real`: the image with a little noise."""
    from syn2co.data.open import open_images

    images, pixels, lines = open_images([real]), [], []
    for k in range(count):
        for index in range(len(images)):
            noise = np.random.default_rng((seed, k, index)).integers(-near, near + 1, images.read(index).shape)
            pixels.append(np.clip(images.read(index) + noise, 0, 255).astype(np.uint8))
            key = images.key(index)
            lines.append({"source": key, "group": key, "subject": key, "k": k, **line})
    return write_set(folder, pixels, lines, shard_size=10)
