"""Training speed of the paper's encoders at 224 px, in float32 and bfloat16, side by side in one run.

    python benchmarks/encoders.py [--json] [--batch 16] [--steps 4] [--device cpu]

Real steps of `syn2co.pretrain` with the six kinds of synthetic negatives, decoding and views included; the speed is
that of the steps after the first, as the run's own metrics give it.
"""

import argparse
import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

import syn2co
from syn2co.pretraining.metrics import read_metrics

RECIPES = ("synco-deit-s", "synco-swin-t")


def images_per_second(recipe: str, precision: str, *, batch: int, steps: int, device: str) -> tuple[float, float]:
    """Return the speed after the first step, and the loss of the last one in nats."""
    settings = [
        f"training.precision={precision}", f"training.batch={batch}", f"training.steps={steps + 1}",
        "negatives.start=0", f"machine.device={device}", "machine.log_steps=1", "machine.save_steps=1000000",
        "machine.tensorboard=false",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        syn2co.pretrain(recipe, out=Path(folder) / "run", real=["builtin:photos"], settings=settings, progress=False)
        records = read_metrics(Path(folder) / "run")[1:]
    seconds = sum(batch / record["images_per_second"] for record in records)
    return batch * len(records) / seconds, records[-1]["loss"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    found = []
    for recipe in RECIPES:
        for precision in ("float32", "bfloat16"):
            speed, loss = images_per_second(
                recipe, precision, batch=asked.batch, steps=asked.steps, device=asked.device
            )
            found.append({"recipe": recipe, "precision": precision, "images_per_second": speed, "loss": loss})
    if asked.json:
        print(json.dumps(found, indent=1))
        return
    table = Table("recipe", "precision", "images/s", "bfloat16 gains", "loss", title=f"batch {asked.batch}, 224 px")
    for slow, fast in zip(found[::2], found[1::2], strict=True):
        for row, gain in ((slow, ""), (fast, f"{fast['images_per_second'] / slow['images_per_second']:.1f}x")):
            table.add_row(
                row["recipe"], row["precision"], f"{row['images_per_second']:.2f}", gain, f"{row['loss']:.2f}"
            )
    Console().print(table)


if __name__ == "__main__":
    main()
