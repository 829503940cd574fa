"""Share of a CIFAR-sized run in which training waits for views, on two threads.

    python benchmarks/data_wait.py [--images 5000] [--steps 40] [--rounds 3] [--recipe synco-cifar10]

Runs of `syn2co pretrain` take turns: one process, and two that load images beside the training one. The images are
JPEGs of 32 px, which a first run, not timed, has indexed. The share is that of the wall time between the records of
metrics.jsonl, the first one, which holds the start, left out. Two threads on two cores: nothing else should run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median

from start import make_images

LOG_STEPS = 10


def run(recipe: str, images: Path, out: Path, steps: int, workers: int) -> list[dict[str, float]]:
    """Return the records of a run's metrics but for the first one."""
    settings = {
        "training.steps": steps, "machine.workers": workers, "machine.threads": 2, "machine.device": "cpu",
        "machine.log_steps": LOG_STEPS, "machine.tensorboard": "false", "training.precision": "bfloat16",
    }  # fmt: skip
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = ["pretrain", "--recipe", recipe, "--real", str(images), "--out", str(out), *words]
    done = subprocess.run([sys.executable, "-m", "syn2co", *command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if "data_wait" in record][1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recipe", default="synco-cifar10")
    given = parser.parse_args()
    contenders = {"views in the training process": 0, "two processes beside it": 2}
    records: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as folder:
        make_images(images := Path(folder, "images"), given.images)
        run(given.recipe, images, Path(folder, "first"), 2 * LOG_STEPS, 0)
        for number in range(given.rounds):
            for name, workers in contenders.items():
                records[name] += run(given.recipe, images, Path(folder, f"{number}-{workers}"), given.steps, workers)
    print(f"{given.recipe:31} images/s  data wait: mean  largest of {len(records[name])} records")
    for name, said in records.items():
        waits = [100 * record["data_wait"] for record in said]
        speed = median(record["images_per_second"] for record in said)
        print(f"{name:31} {speed:8.0f} {mean(waits):14.1f} % {max(waits):7.1f} %")


if __name__ == "__main__":
    main()
