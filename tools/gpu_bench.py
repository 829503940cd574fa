"""Runs and steps of `gpu_check.py`: images, short configs, and the steps of ours and lightly's that are timed."""

import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

import syn2co
from syn2co.core import keyed_rng
from syn2co.pretraining.config import Config

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from peers import lightly_moco  # type: ignore[import-not-found]
from step import ours  # type: ignore[import-not-found]

SHORT = (
    "training.steps=3", "training.batch=16", "negatives.start=0", "negatives.stop=null", "optimizer.warmup_epochs=0",
    "machine.log_steps=1", "machine.tensorboard=false",
)  # fmt: skip
TINY = (
    "training.batch=8", "queue.size=64", "negatives.hardest=16", "heads.hidden=16", "heads.width=16",
    "machine.workers=0",
)  # fmt: skip
TINY_ENCODERS = {
    "deit-s": ('encoder.options={"patch_size":8,"embed_dim":16,"depth":2,"num_heads":2}', "views.size=16"),
    "swin-t": (
        'encoder.options={"embed_dim":8,"depths":[1,1],"num_heads":[2,2],"window_size":4}', "views.size=32",
    ),
}  # fmt: skip
BATCHES = (128, 64, 32, 16)
Step = Callable[[], object]


class Bench:
    """The device, the size of the work, and a folder with images and runs."""

    def __init__(self, device: str, folder: Path, *, small: bool) -> None:
        self.device, self.folder, self.small = torch.device(device), folder, small
        self.gpu = self.device.type == "cuda"

    @cached_property
    def images(self) -> dict[str, Path]:
        """Folders of JPEG files in two classes that overlap, to train on and to test on."""
        counts = {"train": 32, "test": 16} if self.small else {"train": 512, "test": 256}
        for side, count in counts.items():
            for number in range(count):
                tint = np.array([5, 0, -5]) * (1 if number % 2 else -1)
                coarse = keyed_rng.generator("gpu check", side, number).integers(0, 256, (6, 8, 3)) + tint
                path = self.folder / side / ("blue" if number % 2 else "red") / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = cv2.resize(coarse.clip(0, 255).astype(np.uint8), (500, 375), interpolation=cv2.INTER_CUBIC)
                cv2.imwrite(str(path), pixels)
        return {side: self.folder / side for side in counts}

    def config(self, *assignments: str, encoder: str = "deit-s", tiny: bool = False) -> Config:
        """Return a short run of a recipe; its encoder is tiny if the bench is small, or if asked for."""
        small = (*TINY, *TINY_ENCODERS[encoder]) if tiny or self.small else ()
        device = f"machine.device={self.device}"
        return syn2co.recipe(f"synco-{encoder}").with_settings([*SHORT, *small, device, *assignments])

    def timed_config(self, encoder: str = "deit-s") -> Config:
        """Return the run whose step is timed, with the largest batch of which two fit into the GPU's memory."""
        if self.small or not self.gpu:
            return self.config(encoder=encoder)
        available = torch.cuda.get_device_properties(self.device).total_memory
        configs = [self.config(f"training.batch={batch}", encoder=encoder) for batch in BATCHES]
        return next((config for config in configs if 2 * estimated_memory(config) < available), configs[-1])

    def train(self, config: Config, name: str) -> Path:
        """Return the folder of the finished run."""
        return syn2co.pretrain(config, out=self.folder / name, real=self.images["train"], progress=False).folder

    @cached_property
    def on_cpu(self) -> Path:
        """Run on the CPU in float32, which those on the device are compared with."""
        return self.train(self.config("training.precision=float32", "machine.device=cpu"), "on-cpu")

    def fastest(self, steps: dict[str, Step], rounds: int) -> dict[str, float]:
        """Return the seconds of the fastest turn of each, after two turns to warm up."""
        seconds = dict.fromkeys(steps, float("inf"))
        for turn in range(2 + rounds):
            for name, step in steps.items():
                self.wait()
                start = time.perf_counter()
                step()
                self.wait()
                if turn >= 2:
                    seconds[name] = min(seconds[name], time.perf_counter() - start)
        return seconds

    def wait(self) -> None:
        """Wait for the device."""
        if self.gpu:
            torch.cuda.synchronize(self.device)

    def noise(self, config: Config) -> Tensor:
        """Return noise as two views, on the CPU, from where a GPU copies while the host goes on."""
        shape = (2, config.training.batch, config.views.size, config.views.size, 3)
        views = torch.randint(0, 256, shape, dtype=torch.uint8)
        return views.pin_memory() if self.gpu else views

    def our_step(self, config: Config) -> Step:
        """Return a step of the loop on views that lie ready, as `pretrain` takes it."""
        return ours(config, self.noise(config))

    def lightly_step(self, config: Config) -> Step:
        """Return a symmetric step of MoCo of lightly's parts, with timm's network as it comes."""
        return lightly_moco(config, self.noise(config))


def estimated_memory(config: Config) -> float:
    """Return the bytes of a device by `estimate`: equal for every kind of GPU, and nothing is timed for a named one."""
    return syn2co.estimate(config, images=1_000_000, kind="h100").memory
