"""The cost of generation: a line of cost.jsonl for each call that worked, whatever ended it."""

import json
import os
import signal
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from runs import finish, start
from synthesis_sets import generate_in_process, settings, write_generator
from synthetic_folders import picture, write_set
from tiny_images import write_images

from syn2co.core.errors import ConfigError, DataError, SynthesisError
from syn2co.data.settings import DataSettings, MixSettings
from syn2co.data.training_data import open_training_data
from syn2co.synthesis.generation.generate import generate
from syn2co.synthesis.generation.verify import verify
from syn2co.synthesis.sets.dataset_folder import read_seconds
from syn2co.synthesis.sets.settings import SynthesisSettings, WorkSettings

BUSY = """
import time
import numpy as np
from syn2co.synthesis import Generator, Settings


class Options(Settings):
    opening: float = 0.0
    making: float = 0.0
    fail_at: int = -1


def busy(options, context):
    spin(options.opening)
    facts = dict.fromkeys(("model", "revision", "license"))
    return Generator(lambda jobs: [make(job, context.size, options) for job in jobs], {"generator": "busy", **facts})


def make(job, size, options):
    spin(options.making)
    if int(job.subject.removeprefix("program:")) == options.fail_at:
        raise RuntimeError("broken")
    return job.rng("noise").integers(0, 256, (size, size, 3), dtype=np.uint8)


def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return write_generator(tmp_path / "own", BUSY)


def costs(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "cost.jsonl").read_text().splitlines()]


def test_opening_and_making_are_counted_apart(own: Path, tmp_path: Path) -> None:
    busy = settings(own, "busy", options={"opening": 0.3, "making": 0.02})
    generate(busy, tmp_path / "set", count=10)
    [line] = costs(tmp_path / "set")
    assert (line["images"], line["device"], line["workers"], line["ended"]) == (10, "cpu", 0, "done")
    assert line["threads"] == 1, "as the tests set it"
    assert line["opening_seconds"] >= 0.3 and line["seconds"] - line["opening_seconds"] >= 0.2
    assert 0.5 <= line["cpu_seconds"] <= line["seconds"] + 0.1
    assert verify(tmp_path / "set").valid


def test_processes_that_make_images_count(own: Path, tmp_path: Path) -> None:
    """Each opens the generator too: three times 0.3 seconds, and ten images of 0.05."""
    busy = settings(own, "busy", options={"opening": 0.3, "making": 0.05}, work={"batch": 1})
    generate_in_process(busy.model_dump_json(), str(tmp_path / "set"), 10, 2)
    [line] = costs(tmp_path / "set")
    assert line["workers"] == 2 and line["cpu_seconds"] >= 1.4


def test_a_line_for_each_call_that_worked(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    for count in (10, 10, 25):
        generate(settings(own, "busy"), out, count=count)
    assert [line["images"] for line in costs(out)] == [10, 15]
    assert read_seconds(out) == pytest.approx(sum(line["seconds"] for line in costs(out)))
    (out / "cost.jsonl").write_text((out / "cost.jsonl").read_text()[:-9])
    assert read_seconds(out) is None, "torn, so the sum is not known"


def test_a_call_that_fails_counts_and_one_that_is_refused_does_not(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    with pytest.raises(SynthesisError, match="failed .RuntimeError: broken."):
        generate(settings(own, "busy", options={"fail_at": 4}), out, count=10)
    [line] = costs(out)
    assert (line["images"], line["ended"]) == (4, "SynthesisError")
    with pytest.raises(ConfigError, match="another recipe"):
        generate(settings(own, "busy", options={"fail_at": 5}), out, count=10)
    with pytest.raises(DataError, match="was given 1; name at least 2"):
        one = SynthesisSettings(generator="fitted", size=16)
        generate(one, tmp_path / "fitted", count=2, real=[write_images(tmp_path / "one", 1)])
    assert len(costs(out)) == 1 and not (tmp_path / "fitted" / "cost.jsonl").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_images_are_made(number: int, own: Path, tmp_path: Path) -> None:
    """The images made so far stay, as after a kill."""
    out, text = tmp_path / "set", settings(own, "busy", options={"making": 0.03}).model_dump_json()
    process = start(generate_in_process, text, str(out), 30, 0)
    _wait_for(out / "000000.jsonl", process)
    assert process.pid is not None
    os.kill(process.pid, number)
    assert finish(process) == (143 if number == signal.SIGTERM else 1)
    [line] = costs(out)
    assert line["ended"] == ("SystemExit" if number == signal.SIGTERM else "KeyboardInterrupt")
    assert 10 <= line["images"] < 30
    assert generate(SynthesisSettings.parse(json.loads(text)), out, count=30).made == 30 - line["images"]
    assert [(line["ended"], line["images"]) for line in costs(out)][1:] == [("done", 30 - line["images"])]


def test_a_signal_while_a_flow_trains(tmp_path: Path) -> None:
    """Training saves a checkpoint and leaves; what it took is counted, and the same call resumes in that folder."""
    real, out = write_images(tmp_path / "real", 12), tmp_path / "set"
    options = {"steps": 100_000, "batch": 4, "channels": [32], "blocks": 1, "sampling_steps": 2, "save_steps": 10}
    flow = SynthesisSettings(generator="flow", size=16, options=options, work=WorkSettings(device="cpu"))
    assert _interrupted(flow, out, real) == 143
    [line] = costs(out)
    assert (line["images"], line["ended"], line["device"]) == (0, "SystemExit", "cpu")
    assert line["opening_seconds"] == line["seconds"] > 0
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == ["cost.jsonl", "model"]
    assert _interrupted(flow, out, real) == 143, "the folder is no foreign one"
    assert len(costs(out)) == 2


def _interrupted(flow: SynthesisSettings, out: Path, real: Path) -> object:
    """Generate until a new checkpoint of the model comes, then send a signal; return the exit status."""

    def checkpoints() -> set[Path]:
        return set((out / "model" / "checkpoints").glob("*.safetensors"))

    def interrupt() -> None:
        while not left.wait(0.01):
            if not checkpoints() <= saved:
                return os.kill(os.getpid(), signal.SIGTERM)

    saved, left = checkpoints(), threading.Event()
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(SystemExit) as caught:
            generate(flow, out, count=2, real=[real])
    finally:
        left.set()
        thread.join()
    return caught.value.code


def _wait_for(pattern: Path, process: BaseProcess, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not list(pattern.parent.glob(pattern.name)):
        assert process.exitcode is None, f"the process ended with {process.exitcode}"
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def test_a_handler_of_the_callers_stays(own: Path, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        generate(settings(own, "busy"), tmp_path / "one", count=2)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    generate(settings(own, "busy"), tmp_path / "two", count=2)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_sums_the_seconds_of_its_stored_sets(own: Path, image_folder: Path, tmp_path: Path) -> None:
    def metadata(*synthetic: Path | str) -> dict[str, Any]:
        sources = DataSettings(real=(str(image_folder),), synthetic=tuple(map(str, synthetic)))
        return open_training_data(sources, MixSettings(), seed=0, batch=8, size=16).metadata

    sets = [tmp_path / "one", tmp_path / "two"]
    for seed, folder in enumerate(sets):
        generate(settings(own, "busy", seed=seed, options={"opening": 0.1}), folder, count=4)
    seconds = [read_seconds(folder) for folder in sets]
    assert None not in seconds
    assert metadata(*sets, "procedural:mix:20:16")["generation_seconds"] == pytest.approx(sum(filter(None, seconds)))
    unknown = write_set(tmp_path / "by hand", [picture(number) for number in range(4)], [{}] * 4)
    assert "generation_seconds" not in metadata(sets[0], unknown)
    assert "generation_seconds" not in metadata("procedural:mix:20:16")


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ([{"began": 10.0, "seconds": 4.0}, {"began": 100.0, "seconds": 2.0}], 6.0),
        ([{"began": 12.0, "seconds": 4.0}, {"began": 10.0, "seconds": 4.0}, {"began": 11.0, "seconds": 1.0}], 6.0),
        ([{"seconds": 3.0}, {"began": 10.0, "seconds": 4.0}], 7.0),
        ([], 0.0),
        ([{"began": "noon", "seconds": 4.0}], None),
    ],
)
def test_calls_at_the_same_time_count_once(lines: list[dict[str, Any]], seconds: float | None, tmp_path: Path) -> None:
    """Named defect: four ranks that shared the work for an hour had taken four, and as many GPU hours each."""
    (tmp_path / "cost.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_seconds(tmp_path) == seconds
