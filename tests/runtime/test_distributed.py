"""What ranks say to each other: identities on one rank, real gloo processes on two."""

import json
import os
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import finish, start_ranks

from syn2co.core.errors import ConfigError, TrainingError
from syn2co.runtime import distributed


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


def test_local_rank_is_torchruns(launched, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert distributed.local_rank() == 0, "left over, alone"
    launched(LOCAL_RANK=3)
    assert distributed.local_rank() == 3


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
        distributed.barrier()
        group: Any = torch.distributed.group.WORLD
        group._get_backend(torch.device("cpu"))._set_default_timeout(timedelta(seconds=0.5))
        found["first"] = distributed.main_first(lambda: time.sleep(0 if me else 1.5) or time.monotonic())
        (Path(folder) / f"{me}.json").write_text(json.dumps(found))


def test_two_ranks(tmp_path):
    for process in start_ranks(2, _talk, str(tmp_path)):
        assert finish(process) == 0
    said = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    first = [found.pop("first") for found in said]
    assert first[0] < first[1], "rank 1 waits for rank 0, for longer than a collective may take"
    for rank, found in enumerate(said):
        assert found["who"] == [rank, 2, rank == 0, True]
        assert found["rows"] == [[0, 0], [0, 0], [0, 0], [1, 1]]
        assert found["none"] == [0, 1]
        assert found["equal"] == [[0, 2], [1, 3], [10, 12], [11, 13]]
        assert found["max"] == [1, 0]
        assert found["mean"] == [False, True]
        assert found["object"] == "of rank 0"
        assert found["state"] == [[3, 3], 0]
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


def _hang(folder: str) -> None:
    distributed.TIME_OUT, distributed._ANSWER = timedelta(seconds=1), 1.0
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


def test_a_store_whose_process_is_frozen_names_nobody_and_does_not_hang(monkeypatch):
    class Frozen:
        def set(self, key, value): ...

        def check(self, keys):
            threading.Event().wait()

    monkeypatch.setattr(distributed, "_ANSWER", -0.9)
    assert distributed._silent_ranks(Frozen(), 0) == []
