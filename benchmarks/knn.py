"""Time and memory of the nearest neighbors beside a plain blocked search and faiss, side by side in one run.

    python benchmarks/knn.py [--json] [--bank 131072] [--queries 2000] [--width 384] [--k 200] [--rounds 3]
                             [--peers SITE_PACKAGES]

The full size is --bank 1280000, the training images of ImageNet: 2 GB of features. Contenders take turns. "plain" goes
through the bank in blocks of 16,384 rows: product, `topk` of the block, `topk` of both. faiss (faiss-cpu's IndexFlatIP,
if it is installed) searches a copy of the bank that was normalized before, untimed. Ours and plain normalize as they
go. Ratios are to plain, of the CPU seconds of the fastest turns and as median over the rounds. Memory is the peak of
the process above what it held before the call (Linux), from a turn of its own.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from syn2co.evaluation.protocols.knn import neighbors

BLOCK = 16_384
Search = Callable[[], tuple[Tensor, Tensor]]


def features(rows: int, width: int, seed: int) -> Tensor:
    """Return random features, drawn in parts so that nothing else is held."""
    random = torch.Generator().manual_seed(seed)
    found = torch.empty(rows, width)
    for part in found.split(BLOCK):
        part.normal_(generator=random)
    return found


def plain(bank: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k nearest by products of blocks and `topk`."""
    unit = normalize(queries, dim=1)
    best, places = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(bank), BLOCK):
        block = normalize(bank[start : start + BLOCK], dim=1)
        scores, rows = (unit @ block.T).topk(min(k, len(block)), dim=1)
        best, kept = torch.cat([best, scores], dim=1).topk(min(k, best.shape[1] + scores.shape[1]), dim=1)
        places = torch.cat([places, rows + start], dim=1).gather(1, kept)
    return best, places


def faiss_search(bank: Tensor, queries: Tensor, k: int, threads: int) -> Search | None:
    """Return the search of a flat index that holds the unit rows; None without faiss."""
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(bank.shape[1])
    for part in bank.split(BLOCK):
        index.add(normalize(part, dim=1).numpy())
    unit = normalize(queries, dim=1).numpy()

    def search() -> tuple[Tensor, Tensor]:
        scores, places = index.search(unit, k)
        return torch.from_numpy(scores), torch.from_numpy(places)

    return search


def peak_bytes(search: Search) -> float:
    """Return the peak memory of one call above what was held before; not a number where the system does not tell."""
    if sys.platform != "linux":
        return float("nan")

    def status(name: str) -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
        return 1024 * int(line.split()[1])

    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held
    before = status("VmRSS:")
    search()
    return status("VmHWM:") - before


def measure(contenders: dict[str, Search], rounds: int) -> dict[str, dict[str, float]]:
    """Return CPU and wall seconds, ratios to "plain" and peak of each contender."""
    seconds, walls = ({name: list[float]() for name in contenders} for _ in range(2))
    peaks = {name: peak_bytes(search) for name, search in contenders.items()}  # warms up, too
    for _ in range(rounds):
        for name, search in contenders.items():
            wall, start = time.perf_counter(), time.process_time()
            search()
            seconds[name].append(time.process_time() - start)
            walls[name].append(time.perf_counter() - wall)
    base = seconds["plain"]
    return {
        name: {
            "cpu_seconds": min(times),
            "wall_seconds": min(walls[name]),
            "ratio": min(times) / min(base),
            "ratio_median": median(own / other for own, other in zip(times, base, strict=True)),
            "peak_mib": peaks[name] / 2**20,
        }
        for name, times in seconds.items()
    }


def main() -> None:
    """Print the table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    sizes = (("bank", 131_072), ("queries", 2000), ("width", 384), ("k", 200), ("rounds", 3), ("threads", 1))
    for name, default in sizes:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--peers", help="folder of site-packages in which faiss lies")
    options = parser.parse_args()
    sys.path += [options.peers] if options.peers else []
    torch.set_num_threads(options.threads)
    bank, queries = features(options.bank, options.width, 0), features(options.queries, options.width, 1)
    contenders: dict[str, Search] = {
        "ours": lambda: neighbors(bank, queries, options.k),
        "plain": lambda: plain(bank, queries, options.k),
    }
    agreement = float(np.mean((contenders["ours"]()[1] == contenders["plain"]()[1]).numpy()))
    if (search := faiss_search(bank, queries, options.k, options.threads)) is not None:
        contenders["faiss, flat"] = search
    found = measure(contenders, options.rounds)
    setup = {
        **vars(options),
        "peers": bool(options.peers),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "equal_to_plain": agreement,
    }
    if options.json:
        print(json.dumps({"contenders": found, **setup}, indent=1))
        return
    print(f"{setup}\n{'':14}{'CPU s':>8}{'ratio':>8}{'median':>8}{'wall s':>8}{'MiB beside the bank':>22}")
    for name, row in found.items():
        numbers = (row[key] for key in ("cpu_seconds", "ratio", "ratio_median", "wall_seconds"))
        print(f"{name:14}" + "".join(f"{number:8.2f}" for number in numbers) + f"{row['peak_mib']:22.0f}")


if __name__ == "__main__":
    main()
