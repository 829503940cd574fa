"""Runs the speed benchmarks one after the other and writes what they print into RESULTS.md, with machine and versions.

    python benchmarks/results.py [--only objective,step,...] [--peers SITE_PACKAGES]

Run it on a machine with nothing else to do. A section that is not run again keeps what it had. About three hours
on two cores: an hour of steps of 32 images, half an hour of large audits. Benchmarks that hold memory or statistics
against each other, not speed, are not among them.
"""

import argparse
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

from syn2co.core.versions import package_versions

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER / "RESULTS.md"
STEP_OF_32 = ["step.py", "--threads", "1", "--batch", "32", "--rounds", "2"]
COMMANDS = {
    "objective": ["objective.py", "--cpu-time", "--threads", "1"],
    "step": ["step.py", "--threads", "1", "--profile"],
    "step of 32 images": [*STEP_OF_32, "--cases", "deit-s,swin-t", "--precisions", "bfloat16"],
    "step of 32 images in float32": [*STEP_OF_32, "--cases", "deit-s", "--precisions", "float32"],
    "allocator": ["allocator.py", "--cases", "deit-s,swin-t,cifar10", "--batch", "8", "--rounds", "2"],
    "data wait": ["data_wait.py"],
    "planner": ["planner.py"],
    "planner of DeiT-S": ["planner.py", "--recipes", "synco-deit-s", "--batch", "32", "--steps", "8", "--rounds", "1"],
    "start": ["start.py"],
    "views": ["views.py"],
    "reduced": ["views.py", "--reduced"],
    "extraction": ["extraction.py", "--images", "128", "--rounds", "3"],
    "knn": ["knn.py"],
    "scale": ["scale.py", "--out", ".", "--seconds", "600"],
    "whole audits": ["scale.py", "--only", "audit", "--sizes", "2000,10000,50000,200000", "--seconds", "6000"],
}
BY_HAND = "targets"
"""The section that no benchmark writes."""
PICTURES = {
    "scale": """![One small plot for each row of the table](scale.svg)

CPU seconds are the line, MiB the dashed one; the first 20 to 30 MiB are what a first call touches of the libraries.

- Images: the first opening of a folder and k-NN are linear; near pairs are nearly so. A whole audit grows by less
  than in proportion up to 4,000; the section "whole audits" has larger ones.
- Side of an image: views grow as decoding does, in proportion to pixels; a DeiT-S step by more, for its attention.
- Ranks: a step grows by what a rank exchanges with the others, gradients above all; the draws of kind 4 grow up to a
  global batch of 512, beside the forward passes, and no further.
- A CIFAR step and its memory grow by less than in proportion to the batch.
- The objective grows about in proportion to the batch B, and by less with keys K, synthetic negatives S and width D.
""",
}
HEAD = """# Speeds and growth

What the benchmarks print, each contender in turn with the others in one run. [results.py](results.py) writes this page,
but for the targets, which are written by hand; [the log](../docs/results/log.md) says what the numbers mean.
Compare numbers within a section alone: sections may be of different days, machines and versions.
What is counted, not timed, is a test: the host waits for a GPU once a micro-batch (tests/runtime/test_fake_gpu.py).
"""


def machine() -> str:
    """Return the processor, its relevant abilities, the cores in use, and the versions that decide speed."""
    known = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*:\s*(.*)", known)
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {flag}" in known]
    packages = package_versions("torch", "torchvision", "timm", "numpy", "cv2")
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model[1] if model else platform.processor()}, {cores} cores ({', '.join(flags)}); {versions}"


def peers(folder: str) -> str:
    """Return the versions of the peers in a folder of site-packages."""
    known = {one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions(path=[folder])}
    names = ("lightly", "stable-pretraining", "albumentations", "faiss-cpu")
    return "".join(f", {name} {known[name]}" for name in names if name in known)


def section(name: str, words: list[str]) -> str:
    """Run a benchmark and return its part of the page."""
    started, load = time.monotonic(), os.getloadavg()[0]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *words], cwd=FOLDER, capture_output=True, text=True,
        env={**os.environ, "COLUMNS": "150"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{words[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    seconds = time.monotonic() - started
    day = time.strftime("%Y-%m-%d")
    said = f"`python benchmarks/{' '.join(words)}`, {day}, {seconds:.0f} s, load {load:.1f} at its start."
    picture = f"\n{PICTURES[name]}" if name in PICTURES else ""
    others = peers(words[words.index("--peers") + 1]) if "--peers" in words else ""
    return f"## {name}\n\n{said}\n\n{machine()}{others}\n\n```\n{done.stdout.strip()}\n```\n{picture}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="names of sections, separated by commas")
    parser.add_argument("--peers", help="folder of site-packages with lightly, stable-pretraining and albumentations")
    given = parser.parse_args()
    wanted = given.only.split(",") if given.only else list(COMMANDS)
    for name in wanted:
        words = list(COMMANDS[name])
        if words[0] in ("step.py", "views.py", "knn.py") and given.peers:
            words += ["--peers", given.peers]
        shown = ["SITE_PACKAGES" if word == given.peers else word for word in words]
        new = section(name, words).replace(" ".join(words), " ".join(shown))
        before = PAGE.read_text() if PAGE.exists() else ""  # somebody may have written to it meanwhile
        parts = {part.splitlines()[0]: f"## {part}" for part in before.split("\n## ")[1:]} | {name: new}
        body = "\n".join(parts[known].rstrip("\n") + "\n" for known in (BY_HAND, *COMMANDS) if known in parts)
        PAGE.write_text(f"{HEAD}\n{body}")
        print(name, flush=True)


if __name__ == "__main__":
    main()
