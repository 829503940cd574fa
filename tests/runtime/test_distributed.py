"""What ranks say to each other: identities on one rank, real gloo processes on two."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from runs import finish, said, start_ranks

from syn2co.core import stuck_threads
from syn2co.core.errors import ConfigError, DataError, TrainingError
from syn2co.runtime import distributed, process_group, signals


def test_one_process_is_the_identity():
    rows = torch.arange(6.0).view(3, 2)
    assert not distributed.active()
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    for talk in (distributed.all_gather_rows, distributed.all_reduce_max, distributed.all_reduce_mean):
        assert talk(rows) is rows
    assert distributed.all_reduce_sum(rows) is rows
    assert distributed.broadcast_object({"a": 1}) == {"a": 1}
    distributed.barrier()
    module = torch.nn.Linear(2, 2)
    assert distributed.wrap(module, torch.device("cpu")) is module
    before = module.weight.detach().clone()
    distributed.broadcast_state(module)
    assert torch.equal(module.weight, before)


def test_no_process_group_for_a_single_process():
    with distributed.session("cpu"):
        assert not torch.distributed.is_initialized()


def test_mps_has_no_ranks(launched):
    launched(WORLD_SIZE=2)
    with pytest.raises(ConfigError, match="machine.device = mps: torch has no collectives for it"):
        distributed.session("mps").__enter__()


@pytest.mark.parametrize("backends, device", [
    ("", "cpu"), ("cuda:nccl", "cuda"), ("cpu:gloo,cuda:nccl", "cpu"), ("cpu:gloo,cuda:gloo", "cpu"),
])  # fmt: skip
def test_hosts_talk_through_their_gpus_where_nothing_else_talks(backends, device, monkeypatch):
    """Someone's own process group of NCCL alone, in which a run is started as a function."""
    group = SimpleNamespace(WORLD=object() if backends else None)
    torch_group = SimpleNamespace(GroupMember=group, get_backend_config=lambda _: backends)
    monkeypatch.setattr(distributed, "dist", torch_group)
    sent: list[torch.device] = []
    monkeypatch.setattr(distributed, "active", lambda: True)
    monkeypatch.setattr(distributed.torch, "tensor", lambda values, device: sent.append(device) or values[0])
    monkeypatch.setattr(distributed, "all_reduce_max", lambda value: value)
    assert distributed.largest(3) == 3 and sent == [torch.device(device)]


def test_local_rank_is_torchruns(launched, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert distributed.local_rank() == 0, "left over, alone"
    launched(LOCAL_RANK=3)
    assert distributed.local_rank() == 3


def _no_disk() -> None:
    raise DataError("the disk is gone")


def _ended(me: int, act: Callable[[], None]) -> str:
    """Return how a block ends in which rank 1 alone acts."""
    try:
        with signals.Interrupts(), distributed.ending_together():
            if me:
                act()
    except (DataError, signals.Interrupted) as error:
        return f"{type(error).__name__} {error}"
    return ""


def _talk(folder: str) -> None:
    with distributed.session("cpu"):  # one before: the second must not read what this one left in the store
        distributed.all_gather_rows(torch.zeros(2))
    with distributed.session("cpu"):
        me = distributed.rank()
        values = torch.tensor([1.0 + me, -2.0 * me], requires_grad=True)
        total = distributed.all_reduce_sum(values * (me + 1))
        norm = torch.nn.BatchNorm1d(2)
        norm.num_batches_tracked += me
        torch.nn.init.constant_(norm.weight, 3 + me)
        distributed.broadcast_state(norm)
        (total * torch.tensor([1.0, 10.0]) * (me + 1)).sum().backward()  # the loss of rank r is (r + 1) (t0 + 10 t1)
        found = {
            "who": [me, distributed.world_size(), distributed.is_main(), distributed.active()],
            "rows": distributed.all_gather_rows(torch.full((3 - 2 * me, 2), me)).tolist(),
            "none": distributed.all_gather_rows(torch.arange(2 * me)).tolist(),
            "equal": distributed.all_gather_rows(torch.arange(4).view(2, 2).T + 10 * me, equal=True).tolist(),
            "max": distributed.all_reduce_max(torch.tensor([me, -me])).tolist(),
            "mean": distributed.all_reduce_mean(torch.tensor([1.0, float("nan") if me else 2.0])).isnan().tolist(),
            "object": distributed.broadcast_object(f"of rank {me}"),
            "state": [norm.weight.tolist(), int(norm.num_batches_tracked)],
            "total": total.tolist(),
            "gradient": values.grad.tolist(),
        }
        found["ends"] = [
            _ended(me, act) for act in (lambda: None, _no_disk, lambda: os.kill(os.getpid(), signal.SIGTERM))
        ]
        distributed.barrier()
        group: Any = torch.distributed.group.WORLD
        group._get_backend(torch.device("cpu"))._set_default_timeout(timedelta(seconds=1))
        found["first"] = distributed.main_first(lambda: time.sleep(0 if me else 2) or time.monotonic())
        (Path(folder) / f"{me}.json").write_text(json.dumps(found))


ENDS = ("the images of another rank could not be loaded; it says why", "the disk is gone")


def test_two_ranks(tmp_path):
    for process in start_ranks(2, _talk, str(tmp_path)):
        assert finish(process) == 0
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    first = [found.pop("first") for found in told]
    assert first[0] < first[1], "rank 1 waits for rank 0, for longer than a collective may take"
    for rank, found in enumerate(told):
        assert found["who"] == [rank, 2, rank == 0, True]
        assert found["rows"] == [[0, 0], [0, 0], [0, 0], [1, 1]]
        assert found["none"] == [0, 1]
        assert found["equal"] == [[0, 2], [1, 3], [10, 12], [11, 13]]
        assert found["max"] == [1, 0]
        assert found["mean"] == [False, True]
        assert found["object"] == "of rank 0"
        assert found["state"] == [[3, 3], 0]
        assert found["ends"] == ["", f"DataError {ENDS[rank]}", "Interrupted 15"]
        assert found["total"] == [1 * 1 + 2 * 2, 1 * 0 + 2 * -2]
        # d(sum of both losses)/dv = (1 + 2) (1, 10) times the rank's own factor
        assert found["gradient"] == [3.0 * (rank + 1), 30.0 * (rank + 1)]


def _train_a_layer(folder: str) -> None:
    with distributed.session("cpu"):
        torch.manual_seed(distributed.rank())  # DDP starts all ranks from rank 0's weights
        layer = torch.nn.Linear(2, 1, bias=False)
        wrapped = distributed.wrap(layer, torch.device("cpu"))
        wrapped(torch.tensor([[1.0 + distributed.rank(), 2.0]])).sum().backward()
        (Path(folder) / f"{distributed.rank()}.json").write_text(json.dumps(layer.weight.grad.tolist()))


def test_wrapped_gradients_are_means_over_ranks(tmp_path):
    for process in start_ranks(2, _train_a_layer, str(tmp_path)):
        assert finish(process) == 0
    assert json.loads((tmp_path / "0.json").read_text()) == [[1.5, 2.0]]
    assert json.loads((tmp_path / "1.json").read_text()) == [[1.5, 2.0]]


def _train_depthwise(folder: str) -> None:
    """The gradient of such a layer has another stride than its weight in the dimension of size one."""
    with distributed.session("cpu"):
        layer = torch.nn.Conv2d(4, 4, 3, groups=4, padding=1)
        images = torch.rand(2, 4, 5, 5).to(memory_format=torch.channels_last)
        alone = torch.autograd.grad(layer(images).square().sum(), layer.weight)[0]
        assert alone.stride() != layer.weight.stride(), "else this shows nothing"
        wrapped = distributed.wrap(layer, torch.device("cpu"))
        wrapped(images).square().sum().backward()
    (Path(folder) / os.environ["RANK"]).touch()


def test_a_layer_of_one_channel_a_group_makes_no_warning(tmp_path):
    """In these processes warnings are errors."""
    for process in start_ranks(2, _train_depthwise, str(tmp_path)):
        assert finish(process) == 0


def _hang(folder: str) -> None:
    process_group.TIME_OUT, process_group._ANSWER = timedelta(seconds=1), 1.0
    if os.environ["RANK"] == "1":
        with distributed.session("cpu"):
            time.sleep(3)
        return
    with pytest.raises(TrainingError) as caught, distributed.session("cpu"):
        distributed.all_gather_objects("there")
    (Path(folder) / os.environ["RANK"]).write_text(str(caught.value))


def test_a_rank_that_hangs_is_named_after_the_time_out(tmp_path):
    for process in start_ranks(3, _hang, str(tmp_path)):
        assert finish(process) == 0
    for rank in (0, 2):
        assert f"rank {rank}: rank 1 is gone or does not answer; see what it says" in (tmp_path / str(rank)).read_text()


def _check_named(work: Callable[[str], None], folder: Path, *, frozen: int) -> None:
    """See that the other of two ranks names the one that freezes, by what it writes into the folder."""
    processes, other = start_ranks(2, work, str(folder)), 1 - frozen
    assert finish(processes[other]) == 0
    processes[frozen].kill()
    processes[frozen].join()
    named = f"rank {other}: rank {frozen} is gone or does not answer; see what it says"
    assert named in (folder / str(other)).read_text()


def _freeze_while_others_wait(folder: str) -> None:
    with pytest.raises(TrainingError) as caught, distributed.session("cpu"):
        distributed.barrier()  # rank 1 has joined, too
        process_group.TIME_OUT = timedelta(seconds=1)
        distributed.main_first(lambda: os.kill(os.getpid(), signal.SIGSTOP))
    (Path(folder) / os.environ["RANK"]).write_text(str(caught.value))


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows freezes no process")
def test_a_first_rank_that_is_frozen_is_named_by_those_who_wait_for_it(tmp_path):
    """The store lies in rank 0: no look at it comes back."""
    _check_named(_freeze_while_others_wait, tmp_path, frozen=0)


def _freeze_while_others_join(folder: str) -> None:
    join = torch.distributed.init_process_group

    def join_late(*arguments: Any, **options: Any) -> None:
        process_group.TIME_OUT, process_group._ANSWER = timedelta(seconds=1), 1.0
        if os.environ["RANK"] == "0":
            os.kill(os.getpid(), signal.SIGSTOP)
        join(*arguments, **options)

    torch.distributed.init_process_group = join_late
    with pytest.raises(TrainingError) as caught, distributed.session("cpu"):
        pass
    (Path(folder) / os.environ["RANK"]).write_text(str(caught.value))


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows freezes no process")
def test_a_first_rank_that_is_frozen_is_named_by_those_who_join(tmp_path):
    """Their calls of torch look into its store."""
    _check_named(_freeze_while_others_join, tmp_path, frozen=0)


def test_a_rank_that_ends_before_it_joins_waits_for_no_time_out_of_a_frozen_first_rank(launched, monkeypatch):
    """Named defect: its own error was said fifteen minutes later."""
    launched(WORLD_SIZE=2)
    monkeypatch.setattr(process_group, "_ANSWER", 0.2)
    monkeypatch.setattr(process_group, "_rendezvous", lambda limit: time.sleep(60))
    started = time.monotonic()
    assert not process_group.first_says("no such file")
    assert time.monotonic() - started < 30


def _fetch_for_long(folder: str) -> None:
    with distributed.session("cpu"):
        distributed.barrier()
        process_group.TIME_OUT, process_group._SIGN = timedelta(seconds=2), 0.1
        distributed.main_first(lambda: time.sleep(4 * int(os.environ["RANK"])))
        (Path(folder) / os.environ["RANK"]).write_text(json.dumps(distributed.all_gather_objects(1)))


def test_a_rank_that_fetches_for_longer_than_the_time_out_is_waited_for(tmp_path):
    for process in start_ranks(2, _fetch_for_long, str(tmp_path)):
        assert finish(process) == 0
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["[1, 1]"] * 2


def _miss_a_file(folder: str) -> None:
    def make() -> None:
        if os.environ["RANK"] == "1":
            raise DataError("b.tar: no such file")

    with pytest.raises(DataError) as caught, distributed.session("cpu"):
        distributed.main_first(make)
    (Path(folder) / os.environ["RANK"]).write_text(str(caught.value))


def test_a_file_that_one_rank_alone_misses_ends_all(tmp_path):
    for process in start_ranks(2, _miss_a_file, str(tmp_path)):
        assert finish(process) == 0
    said = [(tmp_path / rank).read_text() for rank in "01"]
    assert said == ["another rank could not open its images or weights; it says why", "b.tar: no such file"]


def _look_late(folder: str) -> None:
    me = int(os.environ["RANK"])
    process_group._POLL = 0.8 if me == 1 else 0.05
    with distributed.session("cpu"):
        distributed.main_first(lambda: time.sleep(1 if me == 2 else 0))


def test_no_rank_leaves_with_the_store_while_another_still_looks(tmp_path):
    for process in start_ranks(3, _look_late, str(tmp_path)):
        assert finish(process) == 0


def _freeze_while_fetching(folder: str) -> None:
    with pytest.raises(TrainingError) as caught, distributed.session("cpu"):
        distributed.barrier()
        process_group.TIME_OUT, process_group._SIGN = timedelta(seconds=1), 0.1
        distributed.main_first(lambda: os.environ["RANK"] == "1" and os.kill(os.getpid(), signal.SIGSTOP))
    (Path(folder) / os.environ["RANK"]).write_text(str(caught.value))


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows freezes no process")
def test_a_rank_that_is_frozen_while_others_wait_for_it_is_named(tmp_path):
    _check_named(_freeze_while_fetching, tmp_path, frozen=1)


def _die_while_others_wait(folder: str) -> None:
    process_group._SILENCE, process_group._SIGN = timedelta(seconds=1), 0.1
    with (
        pytest.raises(TrainingError) as caught, distributed.session("cpu"), distributed.ending_together()
    ):  # fmt: skip
        if os.environ["RANK"] == "1":
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGKILL)
    (Path(folder) / os.environ["RANK"]).write_text(str(caught.value))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no such signal")
def test_a_rank_that_dies_while_others_wait_for_it_is_named_long_before_the_time_out(tmp_path):
    processes = start_ranks(2, _die_while_others_wait, str(tmp_path))
    assert [finish(process, 60) for process in processes] == [0, -9]
    assert "rank 0: rank 1 is gone or does not answer; see what it says" in (tmp_path / "0").read_text()


def _told_to_leave(folder: str) -> None:
    if os.environ["RANK"] == "1":
        return
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with signals.ends_on_signals(), distributed.session("cpu"):
        raise AssertionError("rank 1 never came")


def test_a_signal_ends_the_wait_for_ranks_that_never_come(tmp_path):
    assert [finish(process) for process in start_ranks(2, _told_to_leave, str(tmp_path))] == [143, 0]


def _mistaken(ranks: str) -> None:
    from syn2co.cli import main as cli

    process_group._ANSWER = 3.0 if ranks == "01" else 0.5
    if os.environ["RANK"] in ranks:
        sys.argv = ["syn2co", "recipes", "no-such"]
        cli.main()


@pytest.mark.parametrize("ranks", ["01", "1"])
def test_an_error_before_the_ranks_have_joined_is_said_once(ranks):
    processes = start_ranks(2, _mistaken, ranks)
    assert [finish(process) for process in processes] == [2 if ranks == "01" else 0, 2]
    sentence = "ConfigError: --recipe no-such: there is no such recipe"
    first, second = map(said, processes)
    assert first.startswith(sentence) if ranks == "01" else first == ""
    assert second == "" if ranks == "01" else second.startswith(f"rank 1: {sentence}")
    assert (first + second).count("\n") == 1


def test_a_store_whose_process_is_frozen_names_nobody_and_does_not_hang(monkeypatch):
    class Frozen:
        def set(self, key, value): ...

        def check(self, keys):
            threading.Event().wait()

    monkeypatch.setattr(process_group, "_ANSWER", -0.9)
    monkeypatch.setattr(process_group.dist, "get_world_size", lambda: 2)
    assert process_group._silent_ranks(Frozen(), 0) is None


def _resumed(folder: str) -> None:
    """Two backward passes of equal inputs: the second is where a resumed run would take its first."""
    torch.set_num_threads(1)
    with distributed.session("cpu"):
        torch.manual_seed(0)
        network = torch.nn.Sequential(*(torch.nn.Linear(512, 512) for _ in range(4)))
        wrapped = distributed.wrap(network, torch.device("cpu"))
        assert all(parameter.grad is None for parameter in network.parameters())
        inputs = torch.randn(8, 512, generator=torch.Generator().manual_seed(1 + distributed.rank()))
        passes = []
        for _ in range(2):
            wrapped.zero_grad()
            wrapped(inputs).square().mean().backward()
            passes.append([parameter.grad.clone() for parameter in network.parameters()])
        (Path(folder) / str(distributed.rank())).write_text(str(all(map(torch.equal, *passes))))


def test_the_first_backward_pass_adds_in_the_order_of_all_others(tmp_path):
    """DDP changes its buckets after the first one, which three ranks see in the last bits."""
    for process in start_ranks(3, _resumed, str(tmp_path)):
        assert finish(process) == 0
    assert [(tmp_path / rank).read_text() for rank in "012"] == ["True"] * 3


@pytest.fixture
def joined(monkeypatch, launched):
    """The second of two ranks, whose group is none."""
    launched(RANK=1, WORLD_SIZE=2)
    monkeypatch.setattr(process_group, "_rendezvous", lambda _: (torch.distributed.HashStore(), 1, 2))
    monkeypatch.setattr(process_group, "_name_of_group", lambda *_: "group")
    monkeypatch.setattr(process_group.dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(process_group.dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(process_group, "_silent_ranks", lambda *_: [])


def test_an_error_does_not_wait_for_a_group_that_cannot_be_left(joined, monkeypatch):
    never, left = threading.Event(), list[int]()
    monkeypatch.setattr(process_group.dist, "destroy_process_group", never.wait)
    monkeypatch.setattr(stuck_threads, "_SECONDS", 0.1)
    monkeypatch.setattr(stuck_threads, "_stuck", [])
    monkeypatch.setattr(stuck_threads.os, "_exit", left.append)
    with pytest.raises(DataError, match="the disk is gone"), distributed.session("cpu"):
        _no_disk()
    stuck_threads.leave_if_stuck(2)
    never.set()
    assert left == [2]


@pytest.mark.parametrize("error, raised, sentence", [
    (RuntimeError("NCCL error: bad socket\nmore"), TrainingError, r"^rank 1: the ranks are there, and cannot talk to "
     r"each other \(NCCL error: bad socket\); fix that, and run the same command again"),
    (RuntimeError("NCCL error: CUDA out of memory"), RuntimeError, "out of memory"),
    (torch.OutOfMemoryError("of NCCL"), torch.OutOfMemoryError, "of NCCL"),
])  # fmt: skip
def test_an_error_of_a_collective_keeps_its_reason(error, raised, sentence, joined):
    with pytest.raises(raised, match=sentence) as caught, distributed.session("cpu"):
        raise error
    assert caught.value is error or caught.value.__cause__ is error
