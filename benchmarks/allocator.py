"""What the C library's allocator costs a whole step: as it is, told to keep what is freed, and tcmalloc.

    python benchmarks/allocator.py [--cases deit-s,swin-t,cifar10] [--batch 16] [--steps 3] [--rounds 3] [--threads 1]

Our own step in bfloat16, each contender a process of its own, in turn; CPU seconds of its fastest step after one to
warm up, page faults of the process, and its peak (Linux, glibc). tcmalloc is preloaded where it is installed
(libtcmalloc-minimal4 of Debian).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

TCMALLOC = "libtcmalloc_minimal.so.4"
FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")


class Turn(NamedTuple):
    """One process."""

    seconds: float
    faults: float
    """Page faults of a step."""
    mib: float


def take_steps(case: str, batch: int, steps: int, threads: int, keep: bool) -> Turn:
    """Take some steps in this process, whose allocator is what it is."""
    if keep:
        from syn2co.runtime.allocator import keep_freed_memory

        keep_freed_memory()  # before the first tensor, as in every command that computes
    import torch
    from step import Case, ours

    torch.set_num_threads(threads)
    torch.manual_seed(0)  # of the views alone
    a_case = Case(case, "bfloat16", batch)
    step = ours(a_case.config, a_case.views())
    step()
    seconds, before = list[float](), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        start = time.process_time()
        step()
        seconds.append(time.process_time() - start)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Turn(min(seconds), (used.ru_minflt - before) / steps, used.ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="deit-s,swin-t,cifar10")
    parser.add_argument("--batch", type=int, default=16, help="of the cases at 224 px; cifar10 has 128")
    for name, default in (("steps", 3), ("rounds", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--one", choices=("kept", "as it is"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(take_steps(given.cases, given.batch, given.steps, given.threads, given.one == "kept")))
        return
    preload = next((path for folder in FOLDERS if (path := Path(folder, TCMALLOC)).exists()), None)
    alone = {"SYN2CO_KEEP_MEMORY": "0"}  # else whatever trains has it kept
    contenders = {
        "glibc as it is": ("as it is", alone),
        "glibc, freed memory kept": ("kept", {"SYN2CO_KEEP_MEMORY": "1"}),
    }
    contenders |= {"tcmalloc": ("as it is", {"LD_PRELOAD": str(preload)})} if preload else {}
    print(f"{'case':10}{'allocator':28}{'CPU s':>8}{'median':>8}{'ratio':>7}{'faults':>10}{'MiB':>7}")
    for case in given.cases.split(","):
        turns: dict[str, list[Turn]] = {name: [] for name in contenders}
        batch = 128 if case == "cifar10" else given.batch
        words = ["--cases", case, "--batch", batch, "--steps", given.steps, "--threads", given.threads]
        for _ in range(given.rounds):
            for name, (one, variables) in contenders.items():
                command = [sys.executable, "-W", "ignore", __file__, *map(str, words), "--one", one]
                environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads), **variables}
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
                turns[name].append(Turn(*json.loads(done.stdout)))
        plain = min(turn.seconds for turn in turns["glibc as it is"])
        for name, several in turns.items():
            least, usual = (take(turn.seconds for turn in several) for take in (min, median))
            faults, mib = (max(turn[place] for turn in several) for place in (1, 2))
            print(
                f"{case:10}{name:28}{least:8.3f}{usual:8.3f}{plain / least:7.2f}{faults:10,.0f}{mib:7.0f}", flush=True
            )


if __name__ == "__main__":
    main()
