"""Speed of feature extraction from JPEG files beside the encoder's own forward pass on crops in memory.

    python benchmarks/extraction.py [--json] [--images 256] [--rounds 5] [--threads 1] [--size 224] [--batch 64]
                                    [--precisions float32,bfloat16]

Contenders take turns: the bare forward pass over one batch that lies in memory, as often as the files would fill it;
extraction with decoding in the background (the default) and in turn with the encoder (workers = 0). Files are JPEGs of
500 x 375 pixels, opened with their decoded images not kept. All figures are medians over the rounds. Ratios are to the
bare forward pass of the same round and precision: of wall time, and of the processor time of the encoder's thread. The
second does not depend on what else runs on the machine, and is what a core for that thread alone would give.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Literal

import cv2
import torch
from sklearn.datasets import load_sample_image

from syn2co.data.open import open_images
from syn2co.evaluation.features import extract
from syn2co.images.image_set import ImageSet
from syn2co.models.encoder import Encoder, build_encoder
from syn2co.models.settings import EncoderSettings


def write_photos(folder: Path, count: int) -> None:
    """Write `count` JPEGs of 500 x 375 pixels, each another window of a photograph."""
    photo = cv2.cvtColor(load_sample_image("china.jpg"), cv2.COLOR_RGB2BGR)
    for number in range(count):
        top, left = number % 50, number * 7 % 140
        cv2.imwrite(str(folder / f"{number}.jpg"), photo[top : top + 375, left : left + 500])


def contenders(
    encoder: Encoder, images: ImageSet, batch: int, precision: Literal["float32", "bfloat16"]
) -> dict[str, Callable[[], object]]:
    """Return what takes turns; each goes once over as many images as there are."""
    crops = torch.randint(0, 256, (batch, encoder.image_size, encoder.image_size, 3), dtype=torch.uint8)

    @torch.no_grad()
    def forward() -> None:
        for start in range(0, len(images), batch):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                encoder(encoder.preprocess(crops[: len(images) - start]))

    return {
        "forward pass alone": forward,
        "extraction": lambda: extract(encoder, images, batch_size=batch, precision=precision),
        "extraction, workers = 0": lambda: extract(encoder, images, batch_size=batch, precision=precision, workers=0),
    }


def measure(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return (wall, this thread's processor) seconds of each contender in each round, after one of warming up."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, call in work.items():
            start, busy = time.perf_counter(), time.thread_time()
            call()
            if number > 0:
                seconds[name].append((time.perf_counter() - start, time.thread_time() - busy))
    return seconds


def compare(seconds: dict[str, list[tuple[float, float]]], images: int) -> dict[str, dict[str, float]]:
    """Return images/s and both ratios to the bare forward pass, each as the median over the rounds."""
    found = {}
    for name, turns in seconds.items():
        pairs = list(zip(seconds["forward pass alone"], turns, strict=True))
        found[name] = {
            "images_per_second": images / median(wall for wall, _ in turns),
            "ratio_wall": median(bare[0] / own[0] for bare, own in pairs),
            "ratio_thread": median(bare[1] / own[1] for bare, own in pairs),
        }
    return found


def main() -> None:
    """Print the table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--encoder", default="vit_small_patch16_224")
    parser.add_argument("--precisions", default="float32,bfloat16", help="some of them, separated by commas")
    for name, default in (("images", 256), ("rounds", 5), ("threads", 1), ("size", 224), ("batch", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    encoder = build_encoder(EncoderSettings(name=options.encoder, size=options.size), seed=0).eval()
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), options.images)
        images = open_images([folder], cache="never", cache_dir=folder)
        rows = {
            precision: compare(
                measure(contenders(encoder, images, options.batch, precision), options.rounds), options.images
            )
            for precision in options.precisions.split(",")
        }
    setup = {**vars(options), "cores": os.cpu_count(), "torch": torch.__version__}
    if options.json:
        print(json.dumps({"contenders": rows, **setup}, indent=1))
        return
    print(setup)
    for precision, several in rows.items():
        print(f"{precision:26}{'images/s':>10}{'ratio, wall':>14}{'ratio, thread':>16}")
        for name, row in several.items():
            print(f"{name:26}{row['images_per_second']:10.1f}{row['ratio_wall']:14.3f}{row['ratio_thread']:16.3f}")


if __name__ == "__main__":
    main()
