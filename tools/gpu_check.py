"""Check of one GPU in at most eight minutes: training, resume, ranks, generators, scores and speeds, in one table.

    make gpu-check                                      # exit status 1 if a check fails, 2 without a GPU
    python tools/gpu_check.py --only resume --out gpu.md
    python tools/gpu_check.py --device cpu --small      # the same paths with tiny encoders, in a minute

A check that fails or is not run says why in one sentence, and the next one begins; one that hangs ends the others, and
the table tells which. Speeds are those of the fastest of
a few turns, contenders in turn.
"""

import argparse
import contextlib
import gc
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gpu_bench import Bench, Step, estimated_memory
from rich.console import Console
from torch import Tensor

import syn2co
from syn2co.core.errors import Syn2CoError
from syn2co.core.files import write_whole
from syn2co.core.float32 import exact_float32
from syn2co.core.terminal import text_table
from syn2co.core.versions import package_versions
from syn2co.data.loader import Schedule, batches
from syn2co.models.encoder import build_encoder
from syn2co.pretraining.config import load_config
from syn2co.pretraining.metrics import read_metrics
from syn2co.pretraining.operations import count_step
from syn2co.runtime.checkpoint import load_checkpoint
from syn2co.runtime.device import choose_workers

SECONDS, PATIENCE, LIMIT = 420.0, 120.0, 475.0
"""After the first no check begins; the second is the longest wait for two ranks; after the third the table is printed,
whatever hangs."""
LATE = 60.0
"""A check that has run for less when all are ended has begun too late to be called hanging."""
CHILDREN: "list[subprocess.Popen[bytes]]" = []
"""Processes that a check began; they end with this one."""
PIPELINES = Path(__file__).resolve().parents[1] / "tests" / "helpers" / "tiny_diffusion.py"


class Failed(Exception):
    """The result is wrong; the sentence says how."""


class NotRun(Exception):
    """The check cannot be made here; the sentence says why."""


class Outcome(NamedTuple):
    """One row of the table."""

    check: str
    verdict: str
    """pass, fail or not run."""
    result: str
    seconds: float

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The row as texts."""
        return self.check, self.verdict, self.result, f"{self.seconds:.0f}"


TITLES = ("check", "verdict", "result", "s")


def judged(good: bool, result: str) -> str:
    """Return the result of a check that is good, or raise it."""
    if not good:
        raise Failed(result)
    return result


def like_the_cpu(bench: Bench, precision: str, loss: float, gradient: float) -> str:
    """Train three steps: loss and norm of the gradient are those of the CPU in float32, within relative errors."""
    expected = read_metrics(bench.on_cpu)
    with exact_float32():  # TF32, where a GPU has it, would need wider bounds
        actual = read_metrics(bench.train(bench.config(f"training.precision={precision}"), precision))
    result, good = [], True
    for name, allowed in (("loss", loss), ("gradient_norm", gradient)):
        apart = max(abs(here[name] / there[name] - 1) for here, there in zip(actual, expected, strict=True))
        good = good and apart <= allowed
        result.append(f"{name} {apart:.1e} away, allowed {allowed:g}")
    return judged(good, f"beside the CPU's float32: {'; '.join(result)}")


def compiled(bench: Bench) -> str:
    """Compile the encoder, which no setting does: its features, and the time of both passes."""
    config, backend = bench.timed_config(), "inductor" if bench.gpu else "eager"  # a CPU's takes minutes
    encoder = build_encoder(config.encoder_spec, seed=0).to(bench.device)
    images = encoder.preprocess(bench.noise(config)[0].to(bench.device))
    ways = {"as it is": encoder, "compiled": torch.compile(encoder, backend=backend)}

    def both_passes(model: Callable[..., Tensor]) -> Tensor:
        encoder.zero_grad()
        with torch.autocast(bench.device.type, torch.bfloat16):
            features = model(images)
        features.float().square().mean().backward()
        return features.detach().float()

    start = time.perf_counter()
    one, two = (both_passes(model) for model in ways.values())
    first, apart = time.perf_counter() - start, float((one - two).norm() / one.norm())
    seconds = bench.fastest({name: partial(both_passes, model) for name, model in ways.items()}, rounds=5)
    gain = seconds["as it is"] / seconds["compiled"]
    result = f"{gain:.2f} times as fast by {backend} after {first:.0f} s, features {apart:.1e} away, allowed 0.02"
    return judged(apart <= 0.02, f"no setting compiles a run; its encoder {result}")


def resume(bench: Bench) -> str:
    """Train three steps in bfloat16, and again from the checkpoint of the first one: the same bits."""
    config = bench.config("training.precision=bfloat16", "machine.save_steps=1", "machine.keep=3")
    whole, again = bench.train(config, "whole"), bench.folder / "again"
    shutil.copytree(whole, again, ignore=shutil.ignore_patterns("step-000000002.*", "step-000000003.*"))
    left, right = (load_checkpoint(run).tensors for run in (whole, bench.train(config, "again")))
    unlike = [name for name in left if left[name].numpy().tobytes() != right[name].numpy().tobytes()]
    return judged(not unlike, f"resumed from step 1 of 3: {len(unlike)} of {len(left)} tensors differ in a bit")


def two_ranks(bench: Bench) -> str:
    """Train in float64 by two processes on the one device, joined by gloo: as one process does, within 1e-9."""
    config = bench.config("training.precision=float64", tiny=True)
    alone, together, path = bench.train(config, "alone"), bench.folder / "together", bench.folder / "ranks.json"
    path.write_text(load_config(alone / "config.json").to_json())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # Each rank is the only one of its node, so both take GPU 0.
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    variables["LOCAL_WORLD_SIZE"] = "1"
    command, logs = [sys.executable, __file__, "--as-rank", path, together], [bench.folder / f"rank-{n}" for n in "01"]
    ranks = [
        subprocess.Popen(command, env={**os.environ, **variables, "RANK": str(number)}, stderr=log.open("w"))
        for number, log in enumerate(logs)
    ]
    CHILDREN.extend(ranks)
    end = time.monotonic() + PATIENCE
    try:
        for rank in ranks:
            with contextlib.suppress(subprocess.TimeoutExpired):
                rank.wait(max(0.0, end - time.monotonic()))
        codes = [rank.poll() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    # A rank that has left tells more than one that waits for it.
    for number, code in sorted(enumerate(codes), key=lambda pair: pair[1] is None):
        last_line = logs[number].read_text().strip().rpartition("\n")[2]
        judged(code is not None, f"rank {number} has not ended after {PATIENCE:.0f} s: {last_line}")
        judged(code == 0, f"rank {number} left with {code}: {last_line}")
    left, right = (load_checkpoint(run).tensors for run in (alone, together))
    apart = max(float((left[name].double() - right[name].double()).abs().max()) for name in left)
    return judged(apart <= 1e-9, f"float64, gloo: tensors {apart:.1e} away from those of one process, allowed 1e-9")


def as_rank(config: Path, out: Path) -> None:
    """Train as one of two ranks in a group that is joined here: NCCL, which `pretrain` takes, wants a GPU for each."""
    torch.distributed.init_process_group("gloo")
    syn2co.pretrain(config, out=out, progress=False)
    torch.distributed.destroy_process_group()


def evaluation(bench: Bench) -> str:
    """Score an encoder on the device and on the CPU: at most one image in a hundred gets another class."""
    reports = [
        syn2co.evaluate(
            bench.on_cpu, bench.images["train"], bench.images["test"], protocols=("knn", "linear"),
            settings=syn2co.EvaluationSettings.parse({"device": device, "cache_gib": 0, "baselines": False}),
        )
        for device in ("cpu", str(bench.device))
    ]  # fmt: skip
    result, good = [], True
    for one, two in zip(reports[0].rows, reports[1].rows, strict=True):
        unlike = float(np.mean(one.predicted != two.predicted))
        good = good and unlike <= 0.01
        result.append(
            f"{one.protocol} {one.value:.1f} % on the CPU, {two.value:.1f} % here, {unlike:.1%} named otherwise"
        )
    return judged(good, "; ".join(result))


def flow(bench: Bench) -> str:
    """Train a flow, make images, and make one of them again."""
    network = {"channels": [32], "clusters": 2, "batch": 4, "attention": False} if bench.small else {}
    options = {**network, "steps": 4 if bench.small else 100, "sampling_steps": 4, "train_size": 16}
    return _replayed(bench, {"generator": "flow", "size": 16, "options": options}, "flow", real=bench.images["train"])


def diffusion(bench: Bench) -> str:
    """Make images with a tiny Stable Diffusion of random weights, and make one of them again."""
    for package in ("diffusers", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise NotRun(f"{package} is not installed; pip install '.[diffusion]'")
    spec = importlib.util.spec_from_file_location("tiny_diffusion", PIPELINES)
    assert spec is not None and spec.loader is not None
    pipelines: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pipelines)
    options = {"model": str(pipelines.stable_diffusion(bench.folder / "pipeline")), "steps": 3, "resolution": 16}
    return _replayed(bench, {"generator": "diffusion", "size": 16, "options": options, "classes": ["cat"]}, "diffusion")


def _replayed(bench: Bench, values: dict[str, Any], name: str, real: Path | tuple[()] = ()) -> str:
    settings = syn2co.SynthesisSettings.parse({**values, "work": {"device": str(bench.device)}})
    settings = settings.with_settings(["work.allow_unknown_license=true"])
    info = syn2co.generate(settings, bench.folder / name, count=4, real=real)
    where = [f"work.device={bench.device}"]
    where += [f"options.model={values['options']['model']}"] if "model" in values["options"] else []
    image = syn2co.plan(settings, count=4, real=real)[2].id
    again = syn2co.replay(info.folder, image, settings=where)
    return judged(again.same, f"{info.images} images; one made again: {again.text().partition(': ')[2]}")


def speed(bench: Bench, encoder: str) -> str:
    """Time the step in bfloat16, beside a product of matrices and lightly's step."""
    config, side = bench.timed_config(encoder), 8192 if bench.gpu else 512
    left, right = torch.randn(2, side, side, device=bench.device).bfloat16()
    steps: dict[str, Step] = {"ours": bench.our_step(config), "product": lambda: torch.mm(left, right)}
    peer = "lightly is not installed"
    if importlib.util.find_spec("lightly") is not None:
        steps["lightly"] = bench.lightly_step(config)
    seconds = bench.fastest(steps, rounds=10 if bench.gpu else 2)
    if "lightly" in seconds:
        peer = f"{seconds['lightly'] / seconds['ours']:.2f} times as fast as lightly's MoCo"
    batch, rate = config.training.batch, 2 * side**3 / seconds["product"]
    share = batch * count_step(config).flops / seconds["ours"] / rate
    images = f"{batch / seconds['ours']:,.0f} images/s at batch {batch}"
    return f"{images}, {share:.1%} of a product's {rate / 1e12:.3g} TFLOP/s; {peer}"


def views(bench: Bench) -> str:
    """Compare the CPU's views of 500 x 375 JPEGs with the step on the device: which of them waits."""
    config = bench.timed_config().with_settings(["training.steps=12", "machine.log_steps=4", "machine.cache=never"])
    images, batch = syn2co.open_images(bench.images["train"], cache="never"), config.training.batch
    workers = choose_workers(config.machine, bench.device, cached=False)
    wave, schedule = max(1, workers), Schedule(len(images), batch, 1, 1, config.seed)
    stream = batches(images, config.views, schedule, range(6 * wave), rank=0, workers=workers, pin=bench.gpu)
    for _ in range(wave):  # until each process has made one
        next(stream)
    start = time.perf_counter()
    made = batch * sum(1 for _ in stream) / (time.perf_counter() - start)
    taken = batch / bench.fastest({"step": bench.our_step(config)}, rounds=3)["step"]
    record = read_metrics(bench.train(config, "views"))[-1]
    run = f"{record['images_per_second']:,.0f} in a run, {record['data_wait']:.0%} of its time for views"
    waits = "the step waits for the views" if made < taken else "the views wait for the step"
    sides = f"{made:,.0f} images/s by {workers or 'no'} processes, {taken:,.0f} by the step"
    return f"all views are the CPU's, and {waits}: {sides}, {run}"


def synchronizations(bench: Bench) -> str:
    """Count how often the host waits for the GPU in a step: once, for the verdict on finite values."""
    if not bench.gpu:
        raise NotRun("a host waits for a GPU alone")
    step = bench.our_step(bench.config())
    step()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [
        f"{Path(one.filename).name}:{one.lineno}" for one in caught if "called a synchronizing" in str(one.message)
    ]
    return judged(len(waits) <= 1, f"{len(waits)} in a step, allowed 1 ({', '.join(waits) or 'none'})")


def memory(bench: Bench) -> str:
    """Compare the peak of a step with the estimate, which may be a fifth too low."""
    if not bench.gpu:
        raise NotRun("the peak is that of a GPU")
    config = bench.timed_config()
    torch.cuda.reset_peak_memory_stats(bench.device)
    free, total = torch.cuda.mem_get_info(bench.device)
    libraries = total - free - torch.cuda.memory_reserved(bench.device)
    bench.fastest({"step": bench.our_step(config)}, rounds=1)
    peak, estimated = libraries + torch.cuda.max_memory_allocated(bench.device), estimated_memory(config)
    result = f"{peak / 1e9:.2f} GB at batch {config.training.batch}, {estimated / 1e9:.2f} GB estimated"
    return judged(peak <= 1.25 * estimated, result)


CHECKS: dict[str, Callable[[Bench], str]] = {
    "float32": partial(like_the_cpu, precision="float32", loss=1e-3, gradient=1e-2),
    "bfloat16": partial(like_the_cpu, precision="bfloat16", loss=2e-2, gradient=0.5),
    "compiled": compiled,
    "resume": resume,
    "two-ranks": two_ranks,
    "evaluation": evaluation,
    "flow": flow,
    "diffusion": diffusion,
    "deit-s": partial(speed, encoder="deit-s"),
    "swin-t": partial(speed, encoder="swin-t"),
    "views": views,
    "synchronizations": synchronizations,
    "memory": memory,
}


def run_checks(names: list[str], bench: Bench, seconds: float = SECONDS) -> Iterator[Outcome]:
    """Yield the outcome of each check; none begins after so many seconds."""
    end = time.monotonic() + seconds
    for name in names:
        start, verdict = time.monotonic(), "pass"
        try:
            if start >= end:
                raise NotRun(f"{seconds:.0f} s are over; run it with --only {name}")
            result = CHECKS[name](bench)
        except NotRun as reason:
            verdict, result = "not run", str(reason)
        except Exception as error:
            sentence = str(error).strip().partition("\n")[0]
            plain = isinstance(error, Failed | Syn2CoError)
            verdict, result = "fail", sentence if plain else f"{type(error).__name__}: {sentence}"
        if bench.gpu:
            gc.collect()
            with contextlib.suppress(RuntimeError):  # a GPU that is lost is said by the next check
                torch.cuda.empty_cache()
        yield Outcome(name, verdict, result, time.monotonic() - start)


def markdown(title: str, outcomes: list[Outcome]) -> str:
    """Return the table as Markdown."""
    rows = [TITLES, ("---",) * len(TITLES), *(one.cells for one in outcomes)]
    lines = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    return "\n".join([title, "", *(f"| {line} |" for line in lines)]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the checks, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=CHECKS, metavar="NAME", help=f"one of {', '.join(CHECKS)}")
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--peers", type=Path, help="folder of site-packages in which lightly lies")
    parser.add_argument("--small", action="store_true", help="tiny encoders")
    parser.add_argument("--as-rank", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    sys.path += [str(given.peers)] if given.peers else []
    if given.as_rank:
        as_rank(*given.as_rank)
        return 0
    if given.device == "cuda" and not torch.cuda.is_available():
        print("there is no GPU: torch sees no CUDA device; run it where there is one, or with --device cpu --small")
        return 2
    versions = [f"{package} {version}" for package, version in package_versions("torch", "timm").items()]
    name = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}" if given.device == "cuda" else "CPU"
    title, outcomes, names = ", ".join([name, *versions]), list[Outcome](), given.only or list(CHECKS)
    with tempfile.TemporaryDirectory(prefix="syn2co-gpu-check-", ignore_cleanup_errors=True) as folder:
        os.environ["SYN2CO_CACHE"] = str(Path(folder, "cache"))
        with giving_up(names, outcomes, partial(_show, title, outcomes, given.out), Path(folder)):
            for one in run_checks(names, Bench(given.device, Path(folder), small=given.small)):
                print(f"{one.check}: {one.verdict}", file=sys.stderr, flush=True)
                outcomes.append(one)
    _show(title, outcomes, given.out)
    return int(any(one.verdict == "fail" for one in outcomes))


@contextlib.contextmanager
def giving_up(names: list[str], outcomes: list[Outcome], show: Callable[[], None], folder: Path) -> Iterator[None]:
    """End this process with the table after LIMIT seconds in the block: no exception reaches a kernel that hangs."""
    began = time.monotonic()

    def give_up() -> None:
        seconds = time.monotonic() - began - sum(one.seconds for one in outcomes)
        hung, *rest = names[len(outcomes) :] or ["the end"]
        late = seconds < LATE
        said = f"has not ended after {seconds:.0f} s{', having begun late' if late else ''}"
        outcomes.append(Outcome(hung, "not run" if late else "fail", said, seconds))
        outcomes.extend(Outcome(name, "not run", f"{hung} has not ended", 0.0) for name in rest)
        try:
            show()
        finally:
            for child in CHILDREN:
                child.kill()
                child.wait()
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(int(any(one.verdict == "fail" for one in outcomes)))

    timer = threading.Timer(LIMIT, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _show(title: str, outcomes: list[Outcome], out: Path | None) -> None:
    Console().print(text_table(TITLES, [one.cells for one in outcomes], title=title))
    sys.stdout.flush()
    if out:
        write_whole(out, markdown(title, outcomes))


if __name__ == "__main__":
    sys.exit(main())
