"""A set whose making was killed, again and again, ends byte for byte like one that was not."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from runs import finish, start, start_ranks
from synthesis_sets import (
    POINTS,
    assert_same_set,
    files,
    generate_and_die,
    generate_in_process,
    settings,
    write_generator,
)

from syn2co.core import keyed_rng
from syn2co.synthesis.generation.generate import generate

COUNT = 80  # in shards of 5: 16 tars and manifests
LATEST = {"before a flush": 6, "before an image": 12, "after an image": 12, "half a file": 12}


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    """Settings of a set of which a few images are skipped."""
    own = write_generator(tmp_path_factory.mktemp("own"))
    work = {"shard_size": 5, "batch": 2, "max_skipped_share": 0.2}
    return settings(own, options={"black_every": 15}, work=work).model_dump_json()


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "set"
    generate_in_process(text, str(out), COUNT, 0)
    assert {"skipped.jsonl", "README.md", "contact.png", "recipe.json", "000015.tar"} <= files(out).keys()
    return out


@pytest.mark.parametrize("seed", [0, 2])
def test_a_set_killed_eight_times_ends_like_one_that_was_not(seed, text, whole, tmp_path):
    """16 kills of real processes at keyed moments; one of each eight with two processes that make the images."""
    draws, out = keyed_rng.generator("kills of generate", seed), tmp_path / "set"
    for attempt, point in enumerate(draws.permutation(POINTS)[:8]):
        number = int(draws.integers(1, LATEST.get(str(point), 3), endpoint=True))
        workers = 2 if attempt == 4 and point != "before a call of the generator" else 0
        process = start(generate_and_die, text, str(out), COUNT, workers, str(point), number)
        assert finish(process) == -signal.SIGKILL, f"{point} was not passed {number} times"
        assert not (out / "README.md").exists(), "killed too late to show anything"
    assert finish(start(generate_in_process, text, str(out), COUNT, 0)) == 0
    assert_same_set(out, whole)


@pytest.mark.parametrize("point, number", [("before a rename", n) for n in (1, 34, 35)] + [("after a rename", 35)])
def test_a_kill_around_the_first_and_last_files(point, number, text, whole, tmp_path):
    """recipe.json is the first rename; skips apart, contact.png and README.md are the last two."""
    out, skips = tmp_path / "set", len((whole / "skipped.jsonl").read_text().splitlines())
    number += skips if number > 1 else 0  # each skip lies in a shard of its own here
    assert len({json.loads(line)["index"] // 5 for line in (whole / "skipped.jsonl").read_text().splitlines()}) == skips
    assert finish(start(generate_and_die, text, str(out), COUNT, 0, point, number)) == -signal.SIGKILL
    assert finish(start(generate_in_process, text, str(out), COUNT, 0)) == 0
    assert_same_set(out, whole)


def test_images_of_a_torn_shard_are_not_made_again(text, whole, tmp_path, monkeypatch):
    """Hours of diffusion must not be lost with a shard that lacks its last image."""
    from syn2co.synthesis.generation.encode import JobRunner

    out = tmp_path / "set"
    assert finish(start(generate_and_die, text, str(out), 5, 0, "before a flush", 3)) == -signal.SIGKILL
    assert (out / ".000000.tar.tmp").exists() and not (out / "000000.tar").exists()
    made: list[str] = []
    make = JobRunner.make
    monkeypatch.setattr(JobRunner, "make", lambda self, jobs: made.extend(job.id for job in jobs) or make(self, jobs))
    generate_in_process(text, str(out), 5, 0)
    assert made == []


def test_growth_that_is_killed_loses_nothing(text, whole, tmp_path):
    out = tmp_path / "set"
    generate_in_process(text, str(out), 27, 0)
    before = files(out)
    for point, number in (("before a rename", 2), ("after a rename", 2), ("half a file", 4)):
        assert finish(start(generate_and_die, text, str(out), COUNT, 0, point, number)) == -signal.SIGKILL
        kept = files(out)
        assert all(
            kept[name] == data for name, data in before.items() if name[:6] < "000005" and name != "skipped.jsonl"
        )
    generate_in_process(text, str(out), COUNT, 0)
    assert_same_set(out, whole)


def test_helping_processes_do_not_outlive_a_kill(tmp_path):
    slow = "import time, numpy as np\n\ndef slow(job, size):\n    time.sleep(30)\n"
    text = settings(write_generator(tmp_path, slow), "slow").model_dump_json()
    process = start(generate_in_process, text, str(tmp_path / "set"), 20, 2)
    assert process.pid is not None
    helpers: list[int] = []
    end = time.monotonic() + 30
    while len(helpers) < 2:
        assert time.monotonic() < end and process.exitcode is None
        time.sleep(0.05)
        helpers = [pid for pid in _descendants(process.pid) if b"forkserver" in _command(pid)][1:]
    os.kill(process.pid, signal.SIGKILL)
    assert finish(process) == -signal.SIGKILL
    end = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() and _alive(pid) for pid in helpers):
        assert time.monotonic() < end, "a process that makes images outlives the work"
        time.sleep(0.02)


def _descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [grandchild for child in children for grandchild in _descendants(child)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ranks_of_torchrun_share_the_work(text, whole, tmp_path):
    out = tmp_path / "set"
    ranks = start_ranks(3, generate_in_process, text, str(out), COUNT, 0, "auto")
    assert [finish(rank) for rank in ranks] == [0, 0, 0]
    assert_same_set(out, whole)


def test_processes_that_were_told_nothing_of_each_other_share_the_work(text, whole, tmp_path):
    out = tmp_path / "set"
    processes = [start(generate_in_process, text, str(out), COUNT, 0) for _ in range(3)]
    assert [finish(process) for process in processes] == [0, 0, 0]
    assert_same_set(out, whole)


def test_the_whole_is_what_generate_makes_here(text, whole, tmp_path):
    from syn2co.synthesis.sets.settings import SynthesisSettings

    done = generate(SynthesisSettings.parse(json.loads(text)), tmp_path / "set", count=COUNT)
    assert done.complete and done.made == COUNT and done.images + done.skipped == COUNT
    assert_same_set(tmp_path / "set", whole)
