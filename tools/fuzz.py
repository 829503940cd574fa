# ruff: noqa: E501 - tables in one piece
"""Fuzzing: inputs that nobody should give, and whether each is answered in one sentence and in time.

    make fuzz                                       # 10,000 inputs, at most half an hour
    python tools/fuzz.py checkpoints --count 500    # one kind of input
    python tools/fuzz.py checkpoints --only 17      # that very input, with its traceback

An input is a function of (seed, kind, number). A result or a `Syn2CoError` is a good answer, another exception is raw,
and an input that takes longer than `--patience` hangs. What is raw or hangs is printed by the line that it comes from,
with the first input that shows it; the exit status is then 1.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from safetensors.torch import save_file

import syn2co
from syn2co.cli.main import cli
from syn2co.core import keyed_rng
from syn2co.core.errors import Syn2CoError
from syn2co.core.settings import setting_names
from syn2co.data.open import open_images
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.pretraining.config import Config, load_config
from syn2co.runtime.checkpoint import _checksum, load_checkpoint
from syn2co.synthesis.sets.settings import SynthesisSettings, load_settings

COUNT, SECONDS, PATIENCE, MEMORY = 10_000, 1800.0, 20.0, 4 << 30
Draws = np.random.Generator
STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3.5, -0.0, 1e308, -1e308, 1e-300, 10**9, 10**30, -(10**30), float("nan"),
    float("inf"), "", " ", "0", "1e5", "nan", "none", "null", "auto", "[/red]", "[bold]x", "\x00", "\n", "\ud800", "é",
    "a" * 300, "a" * 5000, "../x", "~nosuchuser/x", "/dev/null", "{2..0}", "{0..3}", "[1,2", "[v2]/*.tar", "timm:", "hf:",
    "timm:nothing", "builtin:", "builtin:digits", "procedural:x:-1", "torchvision:", [], {}, [[]], [None], ["a", "a"],
    [1, 2, 3], {"": ""}, {"a": {"b": {"c": 1}}}, {"start": 0.5, "kind": "linear"},
)  # fmt: skip
TEXTS = (
    b"", b"{", b"[" * 100_000, b"{\"a\":" * 50_000, b"9" * 5000, b"\xff\xfe\x00", b"null", b"[]", b"\"text\"", b"{}", b"-",
    b"1e999", b"\xef\xbb\xbf{}", b"{\"step\": 1}\n[1]\n\"x\"\n", b"\x00" * 1000, b"NaN", b"a\tb\r\nc",
)  # fmt: skip
SMALL = (
    "training.steps=2", "training.batch=4", "queue.size=16", "negatives.hardest=8", "heads.hidden=8", "heads.width=8",
    "views.size=16", "encoder.options.depth=1", "encoder.options.embed_dim=12", "encoder.options.num_heads=2",
    "encoder.options.patch_size=8", "machine.workers=0", "machine.device=cpu", "machine.tensorboard=false",
)  # fmt: skip


def main() -> None:
    """Fuzz the kinds of input that the command line names, all of them if it names none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="kinds of input")
    parser.add_argument("--count", type=int, default=COUNT, help="inputs in all")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time in all")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="time of one input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one input by its number")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))  # what asks for all memory gets a MemoryError
    with tempfile.TemporaryDirectory(prefix="syn2co-fuzz-") as folder:
        os.environ["SYN2CO_CACHE"] = str(Path(folder, "cache"))
        os.chdir(folder)
        if given.only is not None:
            print(attack(given.kinds[0], given.only, given.seed, Path(folder), given.patience) or "a good answer")
            return
        found = fuzz(given.kinds or list(KINDS), Path(folder), given.count, given.seconds, given.patience, given.seed)
    print("\n".join(found.lines()))
    sys.exit(bool(found.bad))


@dataclass
class Findings:
    """Inputs that were tried, and the bad answers by the line that they come from."""

    tried: dict[str, int] = field(default_factory=dict)
    bad: dict[str, list[str]] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """Yield the report: a line per place, worst first, then the counts."""
        for place, inputs in sorted(self.bad.items(), key=lambda entry: -len(entry[1])):
            yield f"{len(inputs):5} {place}   ({inputs[0]})"
        counts = ", ".join(f"{count} {kind}" for kind, count in self.tried.items())
        yield f"{sum(map(len, self.bad.values()))} bad answers to {sum(self.tried.values())} inputs: {counts}"


def fuzz(kinds: list[str], folder: Path, count: int, seconds: float, patience: float, seed: int = 0) -> Findings:
    """Return the findings on the first inputs of each kind in turn, as many as there is time for."""
    findings, end = Findings(), time.monotonic() + seconds
    for number in range(-(-count // len(kinds))):
        for kind in kinds:
            if time.monotonic() > end:
                return findings
            findings.tried[kind] = findings.tried.get(kind, 0) + 1
            trace = attack(kind, number, seed, folder, patience)
            if trace is not None:
                findings.bad.setdefault(_place(trace), []).append(f"{kind} --only {number}")
    return findings


class Hangs(BaseException):
    """An input took longer than anybody waits."""


def attack(kind: str, number: int, seed: int, folder: Path, patience: float) -> str | None:
    """Return the traceback of a bad answer to one input, None for a good one."""
    draws = keyed_rng.generator("fuzz", seed, kind, number)
    with _silence():
        _images(folder), _run(folder), _set(folder)  # made once, and not what is timed
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)

    def rings(*_: object) -> None:
        raise Hangs(f"no answer within {patience:g} s")

    before = signal.signal(signal.SIGALRM, rings)
    signal.setitimer(signal.ITIMER_REAL, patience)
    try:
        with _silence():
            KINDS[kind](draws, folder, work)
    except (click.ClickException, click.exceptions.Exit):
        return None
    except Syn2CoError as answer:
        return None if str(answer).count("\n") == 0 else f"{traceback.format_exc()}\nanswer of several lines"
    except SystemExit as left:
        return None if left.code in (0, 2, None) else traceback.format_exc()
    except (KeyboardInterrupt, Hangs, Exception) as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return None


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(action="ignore"),
    ):
        yield


def _place(trace: str) -> str:
    """Return the last line of a traceback, and the innermost line of the package in it."""
    lines = trace.rstrip().splitlines()
    ours = [line for line in lines if line.startswith("  File ") and "/syn2co/" in line]
    where = ours[-1].split("/syn2co/")[-1].replace('", line ', ":").replace(", in ", " ") if ours else "?"
    kind = next((line for line in reversed(lines) if line and not line.startswith(" ")), "?")
    return f"{where}: {kind[:100]}"


def strange(draws: Draws) -> Any:
    """Return a value that few settings take."""
    return STRANGE[int(draws.integers(len(STRANGE)))]


def changed(draws: Draws, value: Any) -> Any:
    """Return a JSON value with one part replaced, left out, or named otherwise."""
    if isinstance(value, dict) and value and draws.random() < 0.9:
        name = list(value)[int(draws.integers(len(value)))]
        rest = {other: part for other, part in value.items() if other != name}
        choice = draws.random()
        if choice < 0.1:
            return rest
        if choice < 0.15:
            return {**rest, f"{name}x": value[name]}
        return {**value, name: changed(draws, value[name])}
    if isinstance(value, list) and value and draws.random() < 0.7:
        row = int(draws.integers(len(value)))
        return [*value[:row], changed(draws, value[row]), *value[row + 1 :]]
    return strange(draws)


def damaged(draws: Draws, data: bytes) -> bytes:
    """Return bytes with some of them changed, cut off, repeated or replaced by a text of another kind."""
    choice, place = int(draws.integers(6)), int(draws.integers(len(data) + 1))
    if choice == 0:
        return data[:place]
    if choice == 1:
        return data[:place] + bytes(draws.integers(0, 256, int(draws.integers(1, 40)), dtype=np.uint8)) + data[place:]
    if choice == 2:
        return data + data[place:]
    if choice == 3:
        return TEXTS[int(draws.integers(len(TEXTS)))]
    body = bytearray(data)
    for row in draws.integers(0, max(1, len(data)), 1 if choice == 4 else 20):
        body[row : row + 1] = bytes([int(draws.integers(256))])
    return bytes(body)


def spoil(draws: Draws, path: Path) -> None:
    """Change a file: one part of its JSON where it is JSON, else its bytes; now and then what lies in its place."""
    choice, data = draws.random(), path.read_bytes()
    if choice < 0.05:
        path.unlink()
        [path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(path.name), lambda: None][
            int(draws.integers(4))
        ]()
        return
    lines = data.splitlines()
    if choice < 0.7 and path.suffix in (".json", ".jsonl") and lines:
        whole = path.suffix == ".json"
        row = 0 if whole else int(draws.integers(len(lines)))
        with contextlib.suppress(ValueError, UnicodeError):
            text = json.dumps(changed(draws, json.loads(data if whole else lines[row]))).encode()
            path.write_bytes(text if whole else b"\n".join([*lines[:row], text, *lines[row + 1 :], b""]))
            return
    path.write_bytes(damaged(draws, data))


def _base(folder: Path, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that is made once and never changed."""
    path = folder / "base" / name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        make(path)
    return path


def _images(folder: Path, name: str = "images", first: int = 0) -> Path:
    def write(path: Path) -> None:
        for number in range(first, first + 8):
            inner = path / "ab"[number % 2] / f"{number}.{'png' if number % 8 < 4 else 'jpg'}"
            inner.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
            cv2.imwrite(str(inner), pixels)

    return _base(folder, name, write)


def _run(folder: Path) -> Path:
    images = _images(folder)

    def train(path: Path) -> None:
        syn2co.pretrain("demo", out=path, real=images, settings=SMALL, progress=False)
        settings = syn2co.EvaluationSettings(baselines=False, workers=0)
        test = _images(folder, "test", 8)
        syn2co.evaluate(path, images, test, protocols=["knn"], settings=settings, out=path, progress=False)

    return _base(folder, "run", train)


def _set(folder: Path) -> Path:
    values = {"generator": "procedural", "size": 16, "work": {"count": 6, "shard_size": 4, "workers": 1}}
    settings = SynthesisSettings.parse(values)
    return _base(folder, "set", lambda path: syn2co.generate(settings, out=path, progress=False))


def _copy(base: Path, work: Path) -> Path:
    return Path(shutil.copytree(base, work / base.name))


def _file_of(draws: Draws, folder: Path) -> Path:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return files[int(draws.integers(len(files)))]


def assignments(draws: Draws, folder: Path, work: Path) -> None:
    """--set of every kind of settings; what is taken reads back equal."""
    kind = (Config, Config, EvaluationSettings, SynthesisSettings)[int(draws.integers(4))]
    names = [*setting_names(kind), "encoder.options.x", "options.x", "views", "mix", "", ".", "a..b", "views.size.x"]
    name = names[int(draws.integers(len(names)))]
    value = strange(draws)
    text = value if isinstance(value, str) and draws.random() < 0.5 else json.dumps(value)
    if draws.random() < 0.1:
        text = TEXTS[int(draws.integers(len(TEXTS)))].decode(errors="surrogateescape")
    settings = kind().with_settings([f"{name}={text}" if draws.random() < 0.97 else name])
    _equal(kind.parse(json.loads(json.dumps(settings.model_dump(mode="json")))), settings)
    if isinstance(settings, Config):
        settings.hash  # noqa: B018


def configs(draws: Draws, folder: Path, work: Path) -> None:
    """--config of a run and of a set; what is taken reads back equal."""
    path = work / "config.json"
    if draws.random() < 0.6:
        path.write_text(Config().to_json())
        spoil(draws, path)
        config = load_config(path)
        path = work / "again.json"
        path.write_text(config.to_json())
        _equal(load_config(path), config)
    else:
        path.write_text(SynthesisSettings().model_dump_json())
        spoil(draws, path)
        load_settings(path)


def _equal(one: object, two: object) -> None:
    assert one == two, "read back unequal"


def steps(draws: Draws, folder: Path, work: Path) -> None:
    """Two steps of a run under extreme values of one to three settings, of the type that each setting has."""
    whole, parts = (
        (0, 1, 2, 3, 7, 64, 10**9, 10**12),
        (0.0, 1e-300, 1e-8, 0.3, 0.5, 0.999999, 1.0, 1.5, 30.0, 1e38, 1e300),
    )
    usual, chosen = Config(), []
    names = [
        name for name in setting_names(Config) if not name.startswith(("data.", "machine.", "online_knn.", "init"))
    ]
    if draws.random() < 0.3:
        option = ("depth", "embed_dim", "num_heads", "patch_size", "mlp_ratio")[int(draws.integers(5))]
        chosen.append(
            f"encoder.options.{option}={json.dumps((-1, 0, 1, 3, 5, 0.5, [1, 2], None, 'x')[draws.integers(9)])}"
        )
    while len(chosen) < draws.integers(1, 4):
        name = names[int(draws.integers(len(names)))]
        default = attrgetter(name)(usual)
        if isinstance(default, bool):
            value: object = not default
        elif isinstance(default, int):
            value = whole[int(draws.integers(len(whole)))]
        elif isinstance(default, tuple):
            value = sorted(float(parts[row]) for row in draws.integers(len(parts), size=len(default)))
        elif isinstance(default, str):
            continue
        else:
            value = float(parts[int(draws.integers(len(parts)))])
        chosen.append(f"{name}={json.dumps(value)}")
    syn2co.pretrain("demo", out=work / "run", real=_images(folder), settings=[*SMALL, *chosen], progress=False)


def checkpoints(draws: Draws, folder: Path, work: Path) -> None:
    """Checkpoints with a right checksum and forged content: loaded, judged, resumed, made longer."""
    run = _copy(_run(folder), work)
    saved = load_checkpoint(run)
    state, tensors = dict(saved.state), dict(saved.tensors)
    if draws.random() < 0.7:
        state = changed(draws, state)
    else:
        name = sorted(tensors)[int(draws.integers(len(tensors)))]
        old = tensors[name]
        tensors[name] = (
            old.reshape(-1), torch.empty(0), old[None], old.to(torch.int8), old.to(torch.complex64), old.bool(),
            old.double() * float("nan"), torch.zeros(3, 2), old.to(torch.float8_e4m3fn) if old.is_floating_point() else old,
        )[int(draws.integers(9))]  # fmt: skip
        if draws.random() < 0.2:
            del tensors[name]
    _seal(saved.path, tensors, state)
    _use_run(draws, run, folder)


def _seal(path: Path, tensors: dict[str, Any], state: Any) -> None:
    for other in path.parent.iterdir():
        other.unlink()
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    text = json.dumps(state)
    save_file(tensors, path, metadata={"state": text, "crc32": str(_checksum(tensors, text))})


def _use_run(draws: Draws, run: Path, folder: Path) -> None:
    """Do what one does with a run folder."""
    images = _images(folder)
    uses: tuple[Callable[[], object], ...] = (
        lambda: syn2co.load_encoder(run),
        lambda: syn2co.doctor(run).text(),
        lambda: syn2co.report(run),
        lambda: syn2co.compare([run, _run(folder)]),
        lambda: syn2co.pretrain("demo", out=run, real=images, settings=SMALL, progress=False),
        lambda: syn2co.pretrain(run / "config.json", out=run, progress=False),
        lambda: syn2co.export(run, to="timm", out=run.parent / "export"),
        lambda: _command("pretrain", "--extend", "--out", str(run), "--set", "training.steps=3", "--quiet"),
    )
    uses[int(draws.integers(len(uses)))]()


def run_folders(draws: Draws, folder: Path, work: Path) -> None:
    """Run folders in which one file is changed."""
    run = _copy(_run(folder), work)
    (run / "quarantine.jsonl").write_text('{"name": "0:a/1.png", "reason": "empty"}\n')
    spoil(draws, _file_of(draws, run))
    _use_run(draws, run, folder)


def sets(draws: Draws, folder: Path, work: Path) -> None:
    """Sets in which one file is changed."""
    first = json.loads((_set(folder) / "000000.jsonl").read_text().splitlines()[0])["id"]
    images = _copy(_set(folder), work)
    spoil(draws, _file_of(draws, images))
    uses: tuple[Callable[[], object], ...] = (
        lambda: syn2co.verify(images),
        lambda: syn2co.verify(images),
        lambda: syn2co.open_images([str(images)]),
        lambda: syn2co.replay(images, "0" * 32),
        lambda: syn2co.replay(images, first),
        lambda: _command("generate", "--config", str(images / "recipe.json"), "--out", str(images), "--dry-run"),
        lambda: _command("generate", "--config", str(images / "recipe.json"), "--out", str(images), "--quiet"),
    )
    uses[int(draws.integers(len(uses)))]()


def images(draws: Draws, folder: Path, work: Path) -> None:
    """Folders of which some images are damaged."""
    copy = _copy(_images(folder), work)
    for _ in range(int(draws.integers(1, 4))):
        spoil(draws, _file_of(draws, copy))
    opened = open_images([str(copy)], max_broken_share=1.0)
    for row in range(len(opened)):
        opened.read(row)


def tars(draws: Draws, folder: Path, work: Path) -> None:
    """Damaged tars of images."""
    path = work / "images.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(_images(folder), "images")
        for name, text in (("images/a/0.cls", b"7"), ("images/a/2.json", b'{"label": 3}')):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    spoil(draws, path)
    opened = open_images([str(path)], max_broken_share=1.0)
    for row in range(len(opened)):
        opened.read(row)


def lists(draws: Draws, folder: Path, work: Path) -> None:
    """Files of classes and of captions."""
    name = ("classes.txt", "classes.json", "captions.jsonl", "captions.csv", "captions.txt")[int(draws.integers(5))]
    text = {
        "classes.txt": b"cat\ndog\nn01440764\n", "classes.json": b'{"cat": 0, "dog": 1}', "captions.txt": b"a cat\na dog\n",
        "captions.jsonl": b'{"caption": "a cat"}\n{"text": "a dog"}\n', "captions.csv": b"caption,x\na cat,1\na dog,2\n",
    }[name]  # fmt: skip
    (work / name).write_bytes(text)
    spoil(draws, work / name)
    values = {"generator": "procedural", name.partition(".")[0]: str(work / name), "work": {"count": 4}}
    syn2co.plan(SynthesisSettings.parse(values))


def command_lines(draws: Draws, folder: Path, work: Path) -> None:
    """Commands with options and values drawn from all of them."""
    names = [name for name in cli.commands if name not in ("demo", "study")]
    name = names[int(draws.integers(len(names)))]
    options = [option for part in cli.commands[name].params for option in part.opts if option.startswith("-")]
    places = [str(_images(folder)), str(_run(folder)), str(_set(folder)), str(work / "out")]
    words = [name]
    for _ in range(int(draws.integers(0, 6))):
        if options and draws.random() < 0.6:
            words.append(options[int(draws.integers(len(options)))])
        value = strange(draws) if draws.random() < 0.5 else places[int(draws.integers(len(places)))]
        words.append(value if isinstance(value, str) else json.dumps(value))
    words = [word for word in words if "hf:" not in word and "timm:" not in word and "torchvision:" not in word]
    _command(*(word.replace("\x00", "").encode(errors="surrogatepass").decode(errors="replace") for word in words))


def _command(*words: str) -> None:
    cli(list(words), standalone_mode=False)


KINDS: dict[str, Callable[[Draws, Path, Path], None]] = {
    "assignments": assignments,
    "configs": configs,
    "steps": steps,
    "checkpoints": checkpoints,
    "run-folders": run_folders,
    "sets": sets,
    "images": images,
    "tars": tars,
    "lists": lists,
    "command-lines": command_lines,
}
"""What one input of each kind does with its draws, the folder of what is made once, and a folder of its own."""


if __name__ == "__main__":
    main()
