"""Peak memory of `generate`, of few and of many images, each in a process of its own.

    python benchmarks/synthesis_memory.py [--few 5000] [--many 50000] [--workers 0] [--json]

Images are 32 px of noise from a function of a few lines, in shards of 1000, so that what grows is the engine's own:
plan, shards, manifests, card, verification. Exit 1 if many images take 20 MB more than few.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

GENERATOR = """
import numpy as np


def noise(job, size):
    return job.rng().integers(0, 256, (size, size, 3), dtype=np.uint8)
"""
CHILD = """
import json, resource, sys, time
from syn2co.synthesis import SynthesisSettings, generate, verify
generator, out, count, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if __name__ == "__main__":
    start = time.perf_counter()
    done = generate(SynthesisSettings(generator=generator, size=32), out, count=count, workers=workers)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    generate(SynthesisSettings(generator=generator, size=32), out, count=count)
    again = time.perf_counter() - start
    start = time.perf_counter()
    assert done.complete and verify(out).valid
    checked = time.perf_counter() - start
    print(json.dumps([peak, seconds, again, checked, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def measure(count: int, workers: int) -> dict[str, Any]:
    """Return peak resident memory in MB and seconds of making, looking again and verifying `count` images."""
    with tempfile.TemporaryDirectory() as place:
        for name, text in (("noise.py", GENERATOR), ("child.py", CHILD)):
            Path(place, name).write_text(text)
        words = [Path(place, "child.py"), f"{place}/noise.py:noise", f"{place}/set", count, workers]
        done = subprocess.run([sys.executable, *map(str, words)], check=True, capture_output=True, text=True)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss
    peak, seconds, again, checked, with_verify = json.loads(done.stdout)
    return {
        "images": count,
        "peak_mb": round(peak / unit, 1),
        "peak_mb_with_verify": round(with_verify / unit, 1),
        "images_per_second": round(count / seconds),
        "images_per_second_seen_again": round(count / again),
        "images_per_second_verified": round(count / checked),
    }


def main() -> int:
    """Print the figures; exit 1 if the growth is 20 MB or more."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--few", type=int, default=5000)
    parser.add_argument("--many", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start = time.perf_counter()
    rows = [measure(count, options.workers) for count in (options.few, options.many)]
    growth = round(rows[1]["peak_mb_with_verify"] - rows[0]["peak_mb_with_verify"], 1)
    if options.json:
        print(json.dumps({"rows": rows, "growth_mb": growth}))
    else:
        for name in rows[0]:
            print(f"{name:<30} {rows[0][name]:>10,} {rows[1][name]:>10,}")
        print(f"{'growth_mb':<30} {growth:>21}    ({time.perf_counter() - start:.0f} s)")
    return int(growth >= 20)


if __name__ == "__main__":
    sys.exit(main())
