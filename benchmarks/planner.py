"""Images per second that `syn2co estimate` says of this machine, and that a run then takes.

    python benchmarks/planner.py [--recipes synco-cifar10,demo] [--steps 48] [--threads 1] [--rounds 2]

Both are of wall time, so nothing else should run beside. Estimate and run take turns; the run is of the built-in
photographs, with the window of synthetic negatives open, and its speed is that of all but the first quarter of its
steps. The prediction should be within 25 %.
"""

import argparse
import contextlib
import io
import tempfile
from pathlib import Path
from statistics import median

from syn2co import estimate, pretrain
from syn2co.pretraining.metrics import read_metrics
from syn2co.pretraining.recipes import recipe

IMAGES = "builtin:photos:train"


def taken(name: str, steps: int, settings: list[str]) -> float:
    """Return the images per second of a run of some steps."""
    open_window = ["negatives.start=0", "optimizer.warmup_epochs=0", "machine.tensorboard=false"]
    length = [f"training.steps={steps}", f"machine.log_steps={max(1, steps // 4)}"]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        out = pretrain(
            name, out=Path(folder, "run"), real=IMAGES, settings=[*settings, *open_window, *length], progress=False
        ).folder
        records = read_metrics(out)
        return median(record["images_per_second"] for record in records[1:] or records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default="synco-cifar10,demo", help="names, separated by commas")
    parser.add_argument("--steps", type=int, default=48, help="at least 8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    settings = [f"machine.threads={given.threads}"]
    print("recipe            threads      said     taken   taken / said")
    for name in given.recipes.split(","):
        for _ in range(given.rounds):
            said = estimate(recipe(name).with_settings(settings), images=4480).images_per_second
            speed = taken(name, given.steps, settings)
            print(f"{name:18}{given.threads:7}{said:10.1f}{speed:10.1f}{speed / said:15.2f}", flush=True)


if __name__ == "__main__":
    main()
