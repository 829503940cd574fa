"""Studies that run in seconds: four steps of a tiny encoder on painted squares."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from evaluation_folders import paint
from runs import interrupt_at

from syn2co.studies.grid import Contrast, Level, Study
from syn2co.studies.inputs import StudyInputs
from syn2co.studies.run import begin, run_cells

STEPS = (
    "training.steps=4", "training.batch=8", "queue.size=64", "negatives.hardest=16", "heads.hidden=64",
    "encoder.options.embed_dim=48", "encoder.options.depth=1", "mix.epoch_images=16", "machine.threads=1",
    "machine.tensorboard=false", "machine.log_steps=2", "machine.workers=0", "machine.save_steps=2",
)  # fmt: skip
FLOW = {"steps": 2, "channels": [32], "attention": False, "clusters": 2, "sampling_steps": 1, "batch": 4, "warmup": 0}
ALONE, HALF, UNTRAINED = "real", "half fitted", "untrained"
LEVELS = {
    ALONE: Level(images="real", real_images=12),
    HALF: Level(images="mixed", source="fitted", share=0.5, real_images=12),
    UNTRAINED: Level(images="untrained"),
}


def tiny_study(levels: Mapping[str, Level] | None = None, **changes: Any) -> Study:
    """A study of one factor, "images", whose first level is the baseline; the second is contrasted with it."""
    levels = LEVELS if levels is None else levels
    first, *others = levels
    contrasts = [Contrast(name=name, question="enough", one={"images": name}, other={}) for name in others[:1]]
    values: dict[str, Any] = {
        "name": "tiny", "title": "Does it run?", "recipe": "demo", "settings": STEPS, "factors": {"images": levels},
        "baseline": {"images": first}, "contrasts": tuple(contrasts), "protocols": ("knn",), "seeds": 1,
        "generated": 12, "generators": {"flow": {"options": FLOW}}, "variations": 1,
    }  # fmt: skip
    return Study(**{**values, **changes})


def tiny_inputs(folder: Path, count: int = 8, **changes: Any) -> StudyInputs:
    """Painted squares in `real`, `train` and `test` of a folder, which are made if they lack."""
    for seed, name in enumerate(("real", "train", "test")):
        if not (folder / name).exists():
            paint(folder / name, {"blue": count, "red": count}, seed=seed)
    sides = {name: (str(folder / name),) for name in ("real", "train", "test")}
    return StudyInputs.parse({**sides, **changes})


def run_tiny(study: Study, inputs: StudyInputs, out: Path, *, jobs: int = 1, shard: str | None = None) -> None:
    """Run a study as the command does, errors and all."""
    run_cells(begin(study, inputs, out, shard=shard), jobs=jobs, progress=False)


def run_and_die(study: Study, inputs: StudyInputs, out: Path, passage: int) -> None:
    """Run a study, and kill the own process before its `passage`-th micro-batch, counted from 0."""
    interrupt_at(pytest.MonkeyPatch(), passage, signal.SIGKILL)
    run_tiny(study, inputs, out)


def processes_of(folder: Path) -> list[int]:
    """Return the processes of this machine that have the folder in their command."""
    pids = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it has ended meanwhile
            continue
        if str(folder).encode() in words and state != "Z" and int(path.name) != os.getpid():
            pids.append(int(path.name))
    return pids
