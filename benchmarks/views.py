"""What a pair of views costs beside the usual torchvision-on-PIL pipeline, on one thread, both in one run.

    python benchmarks/views.py [--json] [--images 64] [--rounds 5] [--peers SITE_PACKAGES]
    python benchmarks/views.py --reduced        # data.decode = reduced beside full, at 500 to 4,000 px

CPU times are the best of the rounds, each round the mean over the images, each image with draws of its own. At 224
pixels from a 500 x 375 JPEG in memory, at 32 pixels from a decoded array. The usual pipeline ends with normalized
tensors, ours with bytes that are normalized on the device, so the row "ours, normalized too" adds that work done here.
albumentations takes its turn where `--peers` has it: on arrays by OpenCV, cropped without antialiasing.
"ours, pair of crops" leaves out colors and blur: what a GPU that made those would leave to the CPU. Freed memory is
kept for both pipelines, as in training.
"""

import argparse
import importlib.util
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision import transforms

from syn2co.core import keyed_rng
from syn2co.data.open import open_images
from syn2co.data.reduced import reduced_views
from syn2co.data.settings import ViewsSettings
from syn2co.data.views import draw_view, one_view, two_views
from syn2co.runtime.allocator import keep_freed_memory

CROPS = {"color_jitter_prob": 0.0, "grayscale": 0.0, "blur": (0.0, 0.0), "solarize": (0.0, 0.0)}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def milliseconds(stages: dict[str, Callable[[int], object]], images: int, rounds: int) -> dict[str, float]:
    """Return the CPU time of each stage(i) in ms: mean over i, best of the rounds, in turn, after one to warm up."""
    best = dict.fromkeys(stages, float("inf"))
    for number in range(rounds + 1):
        for name, work in stages.items():
            start = time.process_time()
            for index in range(images):
                work(index)
            if number > 0:
                best[name] = min(best[name], 1000 * (time.process_time() - start) / images)
    return best


def usual_view(settings: ViewsSettings, view: int) -> transforms.Compose:
    """Return view 1 or 2 (0, 1) as MoBY's and most other pipelines make it: torchvision's transforms on PIL images."""

    def blur(image: Image.Image) -> Image.Image:
        from PIL import ImageFilter

        return image.filter(ImageFilter.GaussianBlur(float(np.random.uniform(*settings.blur_sigma))))

    def solarize(image: Image.Image) -> Image.Image:
        from PIL import ImageOps

        return ImageOps.solarize(image, settings.solarize_threshold)

    return transforms.Compose(
        [
            transforms.RandomResizedCrop(settings.size, settings.crop_scale, settings.crop_ratio),
            transforms.RandomHorizontalFlip(settings.flip),
            transforms.RandomApply([transforms.ColorJitter(*settings.color_jitter)], settings.color_jitter_prob),
            transforms.RandomGrayscale(settings.grayscale),
            transforms.RandomApply([transforms.Lambda(blur)], settings.blur[view]),
            transforms.RandomApply([transforms.Lambda(solarize)], settings.solarize[view]),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def albumentations_view(settings: ViewsSettings, view: int, *, tensor: bool) -> Callable[[np.ndarray], object]:
    """Return view 1 or 2 (0, 1) as albumentations makes it of an array, to bytes or to a normalized tensor."""
    import albumentations  # type: ignore[import-not-found]
    from albumentations.pytorch import ToTensorV2  # type: ignore[import-not-found]

    threshold = settings.solarize_threshold / 255
    pipeline = albumentations.Compose(
        [
            albumentations.RandomResizedCrop((settings.size,) * 2, settings.crop_scale, settings.crop_ratio),
            albumentations.HorizontalFlip(p=settings.flip),
            albumentations.ColorJitter(*settings.color_jitter, p=settings.color_jitter_prob),
            albumentations.ToGray(p=settings.grayscale),
            albumentations.GaussianBlur(blur_limit=0, sigma_limit=settings.blur_sigma, p=settings.blur[view]),
            albumentations.Solarize(threshold_range=(threshold, threshold), p=settings.solarize[view]),
            *([albumentations.Normalize(MEAN, STD), ToTensorV2()] if tensor else []),
        ],
        seed=view,
    )
    return lambda image: pipeline(image=image)["image"]


def normalize(views: tuple[np.ndarray, np.ndarray]) -> torch.Tensor:
    """Return the views as normalized float32 [2, 3, S, S]."""
    scale = 1 / (255 * torch.tensor(STD))
    return torch.from_numpy(np.stack(views)).mul(scale).sub_(torch.tensor(MEAN) / torch.tensor(STD)).permute(0, 3, 1, 2)


def measure(
    photo: np.ndarray, settings: ViewsSettings, encoded: bytes | None, count: dict[str, int]
) -> dict[str, float]:
    """Return the ms of each stage of both pipelines, from `encoded` or, where it is None, from the array `photo`."""

    def pil_decode(_: int = 0) -> Image.Image:
        return Image.fromarray(photo) if encoded is None else Image.open(io.BytesIO(encoded)).convert("RGB")

    def our_decode(_: int = 0) -> np.ndarray:
        if encoded is None:
            return photo
        return cv2.cvtColor(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    usual = [usual_view(settings, view) for view in (0, 1)]
    image, height, width = pil_decode(), *photo.shape[:2]
    crops = settings.model_copy(update=CROPS)

    def usual_pair(_: int) -> list[Any]:
        opened = pil_decode()
        return [pipeline(opened) for pipeline in usual]

    def our_pair(index: int) -> tuple[np.ndarray, np.ndarray]:
        return two_views(our_decode(), settings, seed=0, epoch=0, index=index)

    def our_crops(index: int) -> tuple[np.ndarray, np.ndarray]:
        return two_views(our_decode(), crops, seed=0, epoch=0, index=index)

    def ours(view: int) -> Callable[[int], np.ndarray]:
        return lambda index: one_view(photo, settings, seed=0, epoch=0, index=index, view=view)

    def draw(index: int) -> object:
        return draw_view(height, width, settings, 0, keyed_rng.generator("views", 0, 0, index, 0))

    stages: dict[str, Callable[[int], object]] = {
        "usual, decode": pil_decode,
        "usual, view 1": lambda _: usual[0](image),
        "usual, view 2": lambda _: usual[1](image),
        "usual, pair": usual_pair,
        "ours, decode": our_decode,
        "ours, draw only": draw,
        "ours, view 1": ours(0),
        "ours, view 2": ours(1),
        "ours, pair of crops": our_crops,
        "ours, pair": our_pair,
        "ours, normalized too": lambda index: normalize(our_pair(index)),
    }
    if importlib.util.find_spec("albumentations"):
        for name, tensor in (("pair", False), ("normalized", True)):
            peer = [albumentations_view(settings, view, tensor=tensor) for view in (0, 1)]

            def peer_pair(_: int, peer: list[Callable[[np.ndarray], object]] = peer) -> list[object]:
                opened = our_decode()
                return [pipeline(opened) for pipeline in peer]

            stages[f"albumentations, {name}"] = peer_pair
    return milliseconds(stages, **count)


def reduced(rounds: int) -> None:
    """Print what a pair of views of 224 px costs by size of the JPEG, decoded whole and reduced, taking turns."""
    print("shorter side | full, CPU ms least (median) | reduced | ratio least (median) | gray levels apart")
    for side in (500, 1000, 2000, 4000):
        photo = cv2.resize(load_sample_image("china.jpg"), (side * 3 // 2, side), interpolation=cv2.INTER_CUBIC)
        with tempfile.TemporaryDirectory() as folder:
            Image.fromarray(photo).save(Path(folder, "photo.jpg"), quality=90)
            images = open_images([folder], cache="never", cache_dir=folder)
            times: dict[str, list[float]] = {"full": [], "reduced": []}
            apart = []
            for index in range(4 * rounds):
                key = {"seed": 0, "epoch": 0, "index": index}
                start = time.process_time()
                whole = two_views(images.read(0), ViewsSettings(), **key)
                middle = time.process_time()
                pair = reduced_views(images, 0, (0, 1), ViewsSettings(), **key)
                times["full"].append(1000 * (middle - start))
                times["reduced"].append(1000 * (time.process_time() - middle))
                apart.append(np.abs(np.array(whole, float) - np.array(pair)).mean())
        least, middle = ([function(part) for part in times.values()] for function in (min, np.median))
        print(
            f"{side} px | {least[0]:.1f} ({middle[0]:.1f}) | {least[1]:.1f} ({middle[1]:.1f}) | "
            f"{least[0] / least[1]:.2f} ({middle[0] / middle[1]:.2f}) | {np.mean(apart):.1f}"
        )


def main() -> None:
    """Print the table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--images", type=int, default=64, help="images a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reduced", action="store_true", help="decoding at the scale of the crops, and nothing else")
    parser.add_argument("--peers", help="folder of site-packages in which albumentations lies")
    options = parser.parse_args()
    if options.peers:
        sys.path.append(options.peers)
    keep_freed_memory()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    np.random.seed(0)
    torch.manual_seed(0)

    if options.reduced:
        return reduced(options.rounds)
    photo = cv2.resize(load_sample_image("china.jpg"), (500, 375), interpolation=cv2.INTER_AREA)
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=90)
    tiny = cv2.resize(photo, (32, 32), interpolation=cv2.INTER_AREA)
    count = {"images": options.images, "rounds": options.rounds}
    results = {
        "224 px from JPEG": measure(photo, ViewsSettings(), buffer.getvalue(), count),
        "32 px from array": measure(tiny, ViewsSettings.small(32), None, {**count, "images": 10 * options.images}),
    }
    for times in results.values():
        times["ratio of pairs (usual / ours)"] = times["usual, pair"] / times["ours, pair"]
        times["ratio, normalized too"] = times["usual, pair"] / times["ours, normalized too"]
        if "albumentations, pair" in times:
            for name in ("pair", "normalized too"):
                peer = "albumentations, pair" if name == "pair" else "albumentations, normalized"
                times[f"albumentations / ours, {name}"] = times[peer] / times[f"ours, {name}"]
    versions = {
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "cores": os.cpu_count(),
        "jpeg_bytes": buffer.tell(),
    }
    if options.json:
        print(json.dumps({"milliseconds": results, **versions}, indent=1))
        return
    print(f"ms an image on one thread; {versions}\n{'':32}" + "".join(f"{name:>20}" for name in results))
    for stage in next(iter(results.values())):
        print(f"{stage:32}" + "".join(f"{times[stage]:20.3f}" for times in results.values()))


if __name__ == "__main__":
    main()
