"""Holds one revision against another on this machine: what a change of structure must not change, and the speeds.

    python tools/same.py                    # the working tree against BASE: settings, sets, runs, scores, audits
    python tools/same.py --base HEAD~1      # against another revision
    python tools/same.py --speed 5          # speed of training and generation, five interleaved turns of each

Both sides are driven through the command line alone, with one thread, in the same environment, so that the last bit of
a matrix product may differ between machines but never between the two sides. A value that must change, because its name
did, stands in `RENAMED` with its reason; nothing else may.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

BASE = "71535d2"
"""The last revision before the floors and rooms of `docs/architecture.md`."""

ROOT = Path(__file__).resolve().parents[1]
TINY = (
    "views.size=32", "training.steps=6", "training.batch=16", "queue.size=64", "negatives.hardest=16",
    "heads.hidden=64", "machine.save_steps=3", "machine.log_steps=1", "machine.threads=1", "machine.workers=0",
    "machine.tensorboard=false",
)  # fmt: skip
SETS = {
    "procedural": ("--count=24", "--size=64"),
    "fitted": ("--count=24", "--size=32", "--real=builtin:digits:test"),
    "flow": (
        "--count=8", "--size=16", "--real=builtin:digits:test", "--set=options.steps=6", "--set=options.batch=8",
        "--set=options.sampling_steps=3",
    ),
}  # fmt: skip
RENAMED = {
    "licence": "license",
    "memorisation": "memorization",
    "memorised_share": "memorized_share",
    "memorisation_tail": "memorization_tail",
    "mark": "level",
    "sentence": "reason",
    "ok": "pass",
    "look": "warn",
    "bad": "fail",
}
"""Spellings of the base revision and what they became; applied to the base's record before it is compared."""
REWORDED = {"colour": "color", "neighbours": "neighbors"}
"""Spellings inside sentences, likewise."""


class Tree:
    """A checkout whose command line is called."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder, self.scratch = folder, scratch
        scratch.mkdir(parents=True)
        paths = {"PYTHONPATH": str(folder / "src"), "SYN2CO_CACHE": str(scratch / "cache")}
        self.environment = {**os.environ, **paths, "OMP_NUM_THREADS": "1"}

    def start(self, *words: str | Path) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "syn2co", *map(str, words)]
        return subprocess.Popen(
            command, cwd=self.scratch, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def call(self, *words: str | Path) -> str:
        process = self.start(*words)
        out, error = process.communicate()
        if process.returncode:
            raise SystemExit(f"{self.folder}: syn2co {' '.join(map(str, words))} gave {process.returncode}\n{error}")
        return out


@contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Path]:
    """Lay a revision out beside the working tree for as long as the block runs."""
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", folder, revision], cwd=ROOT, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=ROOT, check=True)


def record(tree: Tree) -> dict[str, Any]:
    """Return everything that must not change, as nested plain values."""
    found: dict[str, Any] = {"recipes": recipes(tree)}
    for name, words in SETS.items():
        found[f"set/{name}"] = image_set(tree, name, words)
    found["run"], found["resumed"] = runs(tree)
    found["evaluation"] = evaluation(tree)
    found["audit"] = audit(tree)
    return found


def recipes(tree: Tree) -> dict[str, Any]:
    """Return the resolved settings of every recipe, its hash included, but of `auto`, which is chosen from images."""
    names = [line.split()[0] for line in tree.call("recipes").splitlines()]
    return {name: json.loads(tree.call("recipes", name, "--json")) for name in names if name != "auto"}


def image_set(tree: Tree, name: str, words: tuple[str, ...]) -> dict[str, Any]:
    """Return the hash of every image of a set and of its recipe, and what the manifest says without versions."""
    folder = tree.scratch / name
    tree.call("generate", "--generator", name, *words, "--out", folder, "--quiet", "--set", "work.device=cpu")
    tree.call("verify", folder, "--quiet")
    lines = [json.loads(text) for path in sorted(folder.glob("[0-9]*.jsonl")) for text in path.read_text().splitlines()]
    for line in lines:
        del line["versions"], line["check"]  # the check is a hash of the line, versions included
    return {"recipe": json.loads((folder / "recipe.json").read_text())["hash"], "lines": lines}


def runs(tree: Tree) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors and metrics of a mixed run, and of one that was killed after three steps and resumed."""
    straight, resumed = tree.scratch / "straight", tree.scratch / "resumed"
    tree.call(*training(tree.scratch / "procedural", straight))
    words = training(tree.scratch / "procedural", resumed)
    kill_after_three_steps(tree.start(*words), resumed)
    tree.call(*words)
    return outcome(straight), outcome(resumed)


def training(synthetic: Path, out: Path) -> list[str]:
    """Return the command of a tiny run on real and synthetic images."""
    words = ["pretrain", "--recipe", "demo", "--quiet", "--real", "builtin:photos:test"]
    words += ["--synthetic", str(synthetic), "--set", "mix.ratio=0.5", "--out", str(out)]
    return words + [word for setting in TINY for word in ("--set", setting)]


def kill_after_three_steps(process: "subprocess.Popen[str]", run: Path) -> None:
    """Kill a run once its checkpoint of step 3 is there."""
    while not list(run.glob("checkpoints/step-*3.safetensors")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if process.returncode != -signal.SIGKILL:  # it would be compared with itself: nothing was resumed
        raise SystemExit(f"{run.name}: ended with {process.returncode} before it could be killed")


def outcome(run: Path) -> dict[str, Any]:
    """Return the hashes of a run's last tensors and its metrics without what depends on the clock."""
    from safetensors.numpy import load_file

    tensors = load_file(run / "checkpoints" / "step-000000006.safetensors")
    hashes = {name: sha256(value.tobytes()).hexdigest()[:16] for name, value in tensors.items()}
    lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["images_per_second"], line["data_wait"]
    return {"tensors": hashes, "metrics": lines}


def old_layout(then: Tree, now: Tree) -> list[str]:
    """Return what the working tree does not read of what the base revision wrote: sets, a set that grows, a run."""
    words = training(then.scratch / "procedural", then.scratch / "handed")
    kill_after_three_steps(then.start(*words), then.scratch / "handed")
    now.call(*words)
    for name, words in SETS.items():
        now.call("verify", then.scratch / name, "--quiet")
        more = [word.replace("--count=24", "--count=30").replace("--count=8", "--count=12") for word in words]
        now.call(
            "generate", "--generator", name, *more, "--out", then.scratch / name, "--quiet", "--set", "work.device=cpu"
        )
        now.call("verify", then.scratch / name, "--quiet")
    handed, straight = outcome(then.scratch / "handed"), outcome(then.scratch / "straight")
    return list(differences(straight, handed, "a run begun by the base revision and ended by this one: "))


def evaluation(tree: Tree) -> Any:
    """Return the scores of the run with both baselines."""
    sources = ["--train", "builtin:digits:train", "--test", "builtin:digits:test"]
    tree.call("evaluate", tree.scratch / "straight", *sources, "--out", tree.scratch / "scores", "--quiet")
    return json.loads((tree.scratch / "scores" / "evaluation.json").read_text())


def audit(tree: Tree) -> Any:
    """Return the numbers and findings of an audit against real images, in the features of the run's encoder."""
    words = [
        "--real",
        "builtin:digits:test",
        "--against",
        "builtin:digits:train",
        "--encoder",
        tree.scratch / "straight",
    ]
    tree.call("audit", tree.scratch / "fitted", *words, "--out", tree.scratch / "audit", "--quiet", "--device", "cpu")
    return json.loads((tree.scratch / "audit" / "audit.json").read_text())


def differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """Yield a line for every value that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from differences(before.get(key), now.get(key), f"{where}/{key}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, pair in enumerate(zip(before, now, strict=True)):
            yield from differences(*pair, f"{where}[{number}]")
    elif before != now:
        yield f"{where}: {json.dumps(before)[:200]} -> {json.dumps(now)[:200]}"


def renamed(value: Any) -> Any:
    """Return the record of the base revision in today's spellings."""
    if isinstance(value, dict):
        return {RENAMED.get(key, key): renamed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [renamed(part) for part in value]
    if isinstance(value, str):
        value = RENAMED.get(value, value)
        for old, new in REWORDED.items():
            value = value.replace(old, new)
    return value


def comparable(found: dict[str, Any]) -> dict[str, Any]:
    """Return a record without what two layouts must say differently: their own versions, and the form of advice."""
    for recipe in found["recipes"].values():
        recipe.pop("written_by", None)
    found["evaluation"]["machine"].pop("syn2co")
    audit = found["audit"]
    audit.pop("format")
    audit["sides"]["synthetic"].pop("fingerprint")  # of the manifests too, which spell license
    for finding in audit["findings"]:
        advice = finding["advice"]
        finding["advice"] = advice if isinstance(advice, str) else " ".join(advice)
        finding.pop("evidence", None)
    return found


def count(value: Any) -> int:
    """Return how many plain values a record holds."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 1 if parts is None else sum(map(count, parts))


def speed(trees: dict[str, Tree], turns: int) -> dict[str, dict[str, list[float]]]:
    """Return images a second of training (after 20 steps) and of generation, the trees taking turns."""
    found: dict[str, dict[str, list[float]]] = {name: {"training": [], "generation": []} for name in trees}
    for turn in range(turns):
        for name, tree in trees.items():
            run, made = tree.scratch / f"speed-{turn}", tree.scratch / f"made-{turn}"
            settings = ("training.steps=60", "machine.log_steps=20", "machine.threads=1", "machine.workers=0")
            words = [word for setting in settings for word in ("--set", setting)]
            tree.call("pretrain", "--recipe", "demo", "--quiet", "--out", run, *words)
            lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
            found[name]["training"].append(statistics.mean(line["images_per_second"] for line in lines[1:]))
            start = time.perf_counter()
            tree.call("generate", "--count", "1500", "--size", "64", "--out", made, "--quiet")
            found[name]["generation"].append(1500 / (time.perf_counter() - start))
            shutil.rmtree(run)
            shutil.rmtree(made)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=BASE, help="revision to compare with (%(default)s)")
    parser.add_argument("--speed", type=int, default=0, metavar="TURNS", help="compare speed instead, in so many turns")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, checkout(chosen.base, Path(scratch) / "base") as base:
        trees = {"base": Tree(base, Path(scratch) / "then"), "now": Tree(ROOT, Path(scratch) / "today")}
        if chosen.speed:
            found = speed(trees, chosen.speed)
            for what in ("training", "generation"):
                medians = {name: statistics.median(found[name][what]) for name in trees}
                best = {name: max(found[name][what]) for name in trees}
                print(
                    f"{what}: {medians['base']:.1f} -> {medians['now']:.1f} images/s, median ratio "
                    f"{medians['now'] / medians['base']:.3f}, ratio of the fastest {best['now'] / best['base']:.3f}"
                )
            return
        then, now = comparable(renamed(record(trees["base"]))), comparable(record(trees["now"]))
        lines = [*differences(then, now), *old_layout(trees["base"], trees["now"])]
    if now["run"] != now["resumed"]:
        lines += ["a resumed run differs from a straight one:", *differences(now["run"], now["resumed"])]
    print("\n".join(lines) or f"same: {count(now)} values of {chosen.base} and of the working tree")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
