"""Seconds and memory until a command has answered a mistake, and until a run on known images has taken two steps.

    python benchmarks/start.py [--images 5000,100000] [--rounds 3]

Each is a process of its own, one thread, the contenders in turn. A run that is not quiet measures its speed first, for
the estimate that it shows. Wall seconds are those of the fastest turn. MiB is the peak of the whole process (Linux), or
of this script, about 45, where that is more. The images are JPEGs of 32 px, which a first run, not timed, has indexed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np

RUN = "training.steps=2 training.batch=8 queue.size=64 negatives.hardest=16 negatives.start=0 machine.tensorboard=false"
IMPORTS = ("import torch", "import timm")
MISTAKES = (
    "pretrain --recipe no-such",
    "doctor nothing",
    "audit nothing",
    "evaluate nothing --train a --test b",
    "--help",
)


def make_images(folder: Path, count: int) -> None:
    """Write JPEGs in folders of 1,000."""
    data = cv2.imencode(".jpg", np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3))[1].tobytes()
    for number in range(count):
        if number % 1000 == 0:
            (folder / f"{number // 1000:03}").mkdir(parents=True)
        (folder / f"{number // 1000:03}" / f"{number % 1000}.jpg").write_bytes(data)


def syn2co(words: str) -> list[str]:
    """Return the words of a process that runs a command."""
    return [sys.executable, "-W", "ignore", "-m", "syn2co", *words.split()]


def run(images: Path, shown: str = "--quiet") -> list[str]:
    """Return the words of a run of two steps in a new folder."""
    settings = " ".join(f"--set {setting}" for setting in RUN.split())
    out = tempfile.mkdtemp(dir=images.parent)
    return syn2co(f"pretrain --recipe synco-cifar10 --real {images} --out {out} {shown} {settings}")


def measure(words: list[str], cache: str) -> tuple[float, float, float]:
    """Return CPU seconds, wall seconds and MiB of a process and of what it started."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SYN2CO_CACHE": cache}
    started = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status and "--out" in words:
        raise SystemExit(f"ended with {os.waitstatus_to_exitcode(status)}: {' '.join(words)}")
    return used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="5000,100000", help="numbers of images, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache, counts = str(Path(folder, "cache")), [int(count) for count in given.images.split(",")]
        sets = {count: Path(folder, str(count)) for count in counts}
        for count, images in sets.items():
            make_images(images, count)
            measure(run(images), cache)
        plain = {code: [sys.executable, "-W", "ignore", "-c", code] for code in ("pass", *IMPORTS)}
        results: dict[str, list[tuple[float, float, float]]] = {}
        for _ in range(given.rounds):
            turn = plain | {f"syn2co {words}": syn2co(words) for words in MISTAKES}
            turn |= {f"two steps on {count:,} images": run(images) for count, images in sets.items()}
            turn |= {f"two steps on {count:,}, not quiet": run(images, "") for count, images in sets.items()}
            for name, words in turn.items():
                results.setdefault(name, []).append(measure(words, cache))
    print(f"{'process':42}   CPU s  median  wall s   MiB")
    for name, values in results.items():
        seconds, walls, memory = zip(*values, strict=True)
        print(f"{name:42}{min(seconds):8.2f}{median(seconds):8.2f}{min(walls):8.2f}{max(memory):6.0f}")


if __name__ == "__main__":
    main()
