"""Images per second and memory that `syn2co estimate` says of this machine, and that a run then takes.

    python benchmarks/planner.py [--recipes synco-cifar10,demo] [--steps 48] [--threads 1] [--rounds 2] [--batch N]
        [--images FOLDER]

Both are of wall time, so nothing else should run beside. Estimate and run take turns. The estimate times some steps on
the built-in photographs; the run is of them too, or of the images of a folder, with the window of synthetic negatives
open, and its speed is that of all but the first quarter of its steps. The speed should be within 25 %. Memory is the
peak of the run's process, and includes images that it keeps.
"""

import argparse
import contextlib
import io
import multiprocessing
import re
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

from syn2co import estimate, pretrain
from syn2co.pretraining.metrics import read_metrics
from syn2co.pretraining.recipes import recipe

IMAGES = "builtin:photos:train"


def taken(name: str, steps: int, settings: list[str], images: str) -> tuple[float, float]:
    """Return the images per second of a run of some steps, and the peak of its process in MB."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # it may have children that load images
        return pool.submit(_taken, name, steps, settings, images).result()


def _taken(name: str, steps: int, settings: list[str], images: str) -> tuple[float, float]:
    open_window = ["negatives.start=0", "optimizer.warmup_epochs=0", "machine.tensorboard=false"]
    length = [f"training.steps={steps}", f"machine.log_steps={max(1, steps // 4)}"]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        out = pretrain(
            name, out=Path(folder, "run"), real=images, settings=[*settings, *open_window, *length], progress=False
        ).folder
        records = read_metrics(out)
        status = Path("/proc/self/status").read_text()  # getrusage may tell the peak of the process that began this one
        peak = 1024 / 1e6 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])
        return median(record["images_per_second"] for record in records[1:] or records), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default="synco-cifar10,demo", help="names, separated by commas")
    parser.add_argument("--steps", type=int, default=48, help="at least 8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", type=int, help="training.batch, in place of the recipe's")
    parser.add_argument("--images", default=IMAGES, help="folder of images that the runs are of")
    given = parser.parse_args()
    settings = [f"machine.threads={given.threads}"]
    settings += [] if given.batch is None else [f"training.batch={given.batch}"]
    print("recipe            threads      said     taken   taken / said   MB said   taken")
    for name in given.recipes.split(","):
        for _ in range(given.rounds):
            said = estimate(recipe(name).with_settings(settings), images=4480)
            speed, peak = taken(name, given.steps, settings, given.images)
            speeds = f"{said.images_per_second:10.1f}{speed:10.1f}{speed / said.images_per_second:15.2f}"
            print(f"{name:18}{given.threads:7}{speeds}{said.memory / 1e6:10.0f}{peak:8.0f}", flush=True)


if __name__ == "__main__":
    main()
