"""What the tests of synthetic sets share: a generator in a file of its own, and processes that generate and die."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

GENERATOR = '''
import numpy as np


def noise(job, size, *, black_every: int = 0, level: int = 0):
    """Noise; black for about one in `black_every` images."""
    if black_every and job.seed % black_every == 0:
        return np.zeros((size, size, 3), np.uint8)
    return job.rng("noise").integers(level, 256, (size, size, 3), dtype=np.uint8)
'''


def write_generator(folder: Path, text: str = GENERATOR, name: str = "own.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def settings(generator: Path | str, function: str = "noise", **values: Any) -> Any:
    """Return settings of small images in shards of 10."""
    from syn2co.synthesis.sets.settings import SynthesisSettings

    work = {"shard_size": 10, **values.pop("work", {})}
    return SynthesisSettings.parse({"generator": f"{generator}:{function}", "size": 8, "work": work, **values})


def files(folder: Path) -> dict[str, bytes]:
    """Return every file of a set but the locks and the cost: nothing half written may be left."""
    paths = (path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts)
    paths = (path for path in paths if path.name != "cost.jsonl")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def assert_same_set(one: Path, other: Path) -> None:
    """The same files, byte for byte: shards, manifests, recipe, skips, card and contact sheet."""
    left, right = files(one), files(other)
    assert sorted(left) == sorted(right)
    assert [name for name in left if left[name] != right[name]] == []


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return the manifest lines of a set in order."""
    return [json.loads(text) for path in sorted(folder.glob("0*.jsonl")) for text in path.read_text().splitlines()]


# --- what runs in processes of its own ---------------------------------------------------------------------------


def generate_in_process(text: str, out: str, count: int, workers: int, shard: str | None = None) -> None:
    """Generate without a bar."""
    import multiprocessing

    from syn2co.synthesis.generation.generate import generate
    from syn2co.synthesis.sets.settings import SynthesisSettings

    if multiprocessing.parent_process() is not None:  # a server of its own, for which torch would be slow
        multiprocessing.set_forkserver_preload(["syn2co.synthesis.generation.workers"])
    generate(SynthesisSettings.parse(json.loads(text)), out, count=count, workers=workers, shard=shard)


def generate_and_die(text: str, out: str, count: int, workers: int, point: str, number: int) -> None:
    """Generate, and kill the own process at the `number`-th passage (from 1) of a named point."""
    arm(point, number)
    generate_in_process(text, out, count, workers)


POINTS = (
    "before a flush", "before a rename", "after a rename", "half a file", "before an image", "after an image",
    "before a skip is listed", "before the lock", "before a call of the generator",
)  # fmt: skip


def arm(point: str, number: int) -> None:
    import syn2co.synthesis.generation.generate as generating
    from syn2co.synthesis.generation.encode import JobRunner
    from syn2co.synthesis.sets.shards import ShardWriter

    passages = 0

    def passage() -> None:
        nonlocal passages
        passages += 1
        if passages == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(owner: Any, name: str, *, before: bool) -> None:
        original = getattr(owner, name)

        def instrumented(*args: Any, **named: Any) -> Any:
            if before:
                passage()
            result = original(*args, **named)
            if not before:
                passage()
            return result

        setattr(owner, name, instrumented)

    def torn() -> None:
        add = ShardWriter.add

        def half(self: Any, image: Any) -> None:
            add(self, image)
            if passages + 1 == number:
                self._file.flush()
                os.truncate(self.temporary, self.temporary.stat().st_size - 700)  # inside the last member
            passage()

        ShardWriter.add = half

    points: dict[str, Callable[[], None]] = {
        "before a flush": lambda: around(os, "fsync", before=True),
        "before a rename": lambda: around(os, "replace", before=True),
        "after a rename": lambda: around(os, "replace", before=False),
        "half a file": torn,
        "before an image": lambda: around(ShardWriter, "add", before=True),
        "after an image": lambda: around(ShardWriter, "add", before=False),
        "before a skip is listed": lambda: around(generating, "record_skipped", before=True),
        "before the lock": lambda: around(generating, "shard_lock", before=True),
        "before a call of the generator": lambda: around(JobRunner, "make", before=True),
    }
    points[point]()
