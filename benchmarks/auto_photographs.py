"""The recipe `auto` on folders of photographs: what it chose, how long it said, how long it took, what came out.

    python benchmarks/auto_photographs.py [--images 300 3000 30000] [--budgets none 10m] [--out runs/auto]

The photographs are crops at random places and scales of the left 60 % of the 16 built-in ones, as JPEGs of 256 x 192;
the test crops are from the rest. Everything goes through the command line, as a user would type it. A run that was
begun resumes, one that is done is not repeated.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import cv2

from syn2co.core.keyed_rng import generator
from syn2co.images.sources.builtin import PHOTOS, photo_part

SIZE = (256, 192)
TEST_IMAGES = 960


def write_photographs(folder: Path, count: int, split: str) -> Path:
    """Write crops of all photographs in turn into a folder per photograph."""
    parts = {name: photo_part(name, split) for name in PHOTOS}
    for number in range(count):
        name = list(PHOTOS)[number % len(PHOTOS)]
        part, draws = parts[name], generator("auto photographs", split, number)
        width = int(draws.integers(72, min(200, part.shape[1], part.shape[0] * SIZE[0] // SIZE[1]) + 1))
        height = width * SIZE[1] // SIZE[0]
        top, left = (int(draws.integers(0, part.shape[axis] - (height, width)[axis] + 1)) for axis in (0, 1))
        path = folder / name / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.resize(part[top : top + height, left : left + width], SIZE)[..., ::-1])
    return folder


def command(*words: str) -> tuple[str, float]:
    """Run syn2co; return what it printed and its seconds."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "syn2co", *words], capture_output=True, text=True)
    if done.returncode not in (0, 1):  # doctor ends with 1 where it has something to say
        raise SystemExit(done.stderr)
    return done.stdout + done.stderr, time.monotonic() - started


def row(images: int, budget: str, out: Path) -> dict[str, object]:
    """Train once and return what was said, what was taken and what came out."""
    folder = out / f"photos-{images}"
    if not folder.exists():
        write_photographs(folder, images, "train")
    run = out / f"run-{images}-{budget}"
    asked = () if budget == "none" else ("--budget", budget)
    said, seconds = command("pretrain", "--real", str(folder), "--out", str(run), *asked)
    config = json.loads((run / "config.json").read_text())
    command(
        "evaluate", str(run), "--train", str(folder), "--test", str(out / "test"), "--protocols", "knn",
        "--out", str(run / "evaluation"),
    )  # fmt: skip
    verdict, _ = command("doctor", str(run))
    promised = re.search(r"auto: about (\S+) for (\d+) steps", said)
    report = json.loads(next((run / "evaluation").glob("*.json")).read_text())
    return {
        "images": images, "budget": budget, "batch": config["training"]["batch"], "queue": config["queue"]["size"],
        "view": config["views"]["size"], "precision": config["training"]["precision"],
        "epochs": round(config["training"]["epochs"], 1), "steps": promised and promised[2],
        "said": promised and promised[1], "took": f"{seconds / 60:.1f} min", "doctor": verdict.strip().splitlines()[0],
        "knn": {one["encoder"]: round(one["value"], 1) for one in report["scores"]},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[300, 3000, 30_000])
    parser.add_argument("--budgets", nargs="+", default=["none", "10m"])
    parser.add_argument("--out", type=Path, default=Path("runs/auto"))
    given = parser.parse_args()
    if not (given.out / "test").exists():
        write_photographs(given.out / "test", TEST_IMAGES, "test")
    for images in given.images:
        for budget in given.budgets:
            print(json.dumps(row(images, budget, given.out)), flush=True)


if __name__ == "__main__":
    main()
