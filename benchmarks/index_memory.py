"""Memory and time of the index of a large folder, on a made-up tree of empty files.

    python benchmarks/index_memory.py [--files 1000000] [--folders 1000] [--json]

Names look like ImageNet's. "held" is what Python and NumPy have allocated for the opened set (tracemalloc), which
includes labels, groups and row numbers. The tree is made in a temporary folder and removed (a million inodes).
"""

import argparse
import json
import os
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

from syn2co.data.open import open_images
from syn2co.images.image_set import ImageSet


def make_tree(root: Path, files: int, folders: int) -> None:
    """Make `files` empty files, spread over class folders."""
    for folder in range(folders):
        name = f"n{folder:08d}"
        (root / name).mkdir(parents=True)
        for number in range(folder, files, folders):
            os.close(os.open(root / name / f"{name}_{number}.JPEG", os.O_CREAT | os.O_WRONLY))


def opened(root: Path, cache_dir: Path) -> tuple[ImageSet, float]:
    """Return the set and the seconds that opening took; nothing is decoded, the files are empty."""
    start = time.perf_counter()
    images = open_images(root, check=False, cache_dir=cache_dir)
    return images, time.perf_counter() - start


def measure(files: int, folders: int) -> dict[str, Any]:
    """Return the figures of one tree."""
    with tempfile.TemporaryDirectory() as place:
        root, cache_dir = Path(place, "tree"), Path(place, "cache")
        start = time.perf_counter()
        make_tree(root, files, folders)
        made = time.perf_counter() - start
        time.sleep(2.5)  # a folder that changed within two seconds is not remembered
        first, scan_seconds = opened(root, cache_dir)
        del first
        images, reopen_seconds = opened(root, cache_dir)
        index_bytes, count = images.nbytes_index, len(images)
        del images
        tracemalloc.start()
        images, _ = opened(root, cache_dir)
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return {
            "images": count,
            "make_tree_s": round(made, 2),
            "first_opening_s": round(scan_seconds, 2),
            "second_opening_s": round(reopen_seconds, 2),
            "index_bytes_per_image": round(index_bytes / count, 1),
            "held_bytes_per_image": round(held / count, 1),
            "peak_bytes_per_image": round(peak / count, 1),
            "cache_file_bytes_per_image": round(sum(p.stat().st_size for p in cache_dir.rglob("*.npz")) / count, 1),
        }


def main() -> int:
    """Print the figures; exit 1 if the index takes 100 bytes an image or more."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--folders", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.files, options.folders)
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<28} {value:>12,}")
    return int(figures["held_bytes_per_image"] >= 100)


if __name__ == "__main__":
    sys.exit(main())
