"""Everything runs on a GPU without float64: a run with synthetic negatives and online k-NN, and protocols.

And a step waits for the GPU once, for the verdict on finite values, on any number of ranks.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_folders import TINY, paint
from fake_gpu import NAME, WAITS, fake_gpu
from runs import finish, metrics, said, start

PROTOCOLS = ("knn", "linear-augmented", "fine-tune", "retrieval", "health", "calibration")


def train_and_score(config: str, folder: str) -> None:
    from syn2co.evaluation.settings import EvaluationSettings
    from syn2co.models.encoder import build_encoder
    from syn2co.pretraining.config import Config
    from syn2co.pretraining.train import pretrain
    from syn2co.reports.evaluation import evaluate
    from syn2co.runtime import device

    device.WITHOUT_FLOAT64.add(NAME)
    here = Path(folder)
    with fake_gpu():
        pretrain(Config.model_validate_json(config), out=here / "run", progress=False)
        settings = EvaluationSettings.parse(
            {
                "device": NAME, "workers": 0, "linear_augmented": {"epochs": 1},
                "fine_tune": {"epochs": 1, "min_steps": 2},
            }
        )  # fmt: skip
        evaluate(
            build_encoder(TINY, seed=1), [here / "train"], [here / "test"], protocols=PROTOCOLS, settings=settings,
            out=here / "scores",
        )  # fmt: skip


written_in_python = pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch takes no device that is written in Python",
)


@written_in_python
def test_a_run_and_protocols_need_no_float64_on_the_device(tiny, tmp_path: Path) -> None:
    sides = [paint(tmp_path / side, {"blue": 4, "red": 4}, seed=seed) for seed, side in enumerate(("train", "test"))]
    config = tiny(
        "training.steps=2", "negatives.start=0", f"machine.device={NAME}", "machine.workers=0", "machine.log_steps=1",
        "training.precision=float32", "online_knn.every_epochs=1",
        *(f'online_knn.{name}=["{side}"]' for name, side in zip(("train", "test"), sides, strict=True)),
    )  # fmt: skip
    assert finish(start(train_and_score, config.model_dump_json(), str(tmp_path))) == 0
    assert [record["effective_rank"] > 1 for record in metrics(tmp_path / "run") if "loss" in record] == [True] * 2
    assert (tmp_path / "scores" / "evaluation.json").exists()


def print_waits(configs: list[str], folder: str) -> None:
    """Print the waits of the first step of each run, on the first of two ranks, whose collectives are all forced."""
    from syn2co.core import transfer
    from syn2co.pretraining.config import Config
    from syn2co.pretraining.run import BatchStream
    from syn2co.pretraining.train import pretrain
    from syn2co.runtime import distributed

    def gathered(parts: list[Any], part: Any) -> None:
        for copy in parts:
            copy.copy_(part)

    dist: Any = torch.distributed
    ranks: Any = distributed
    dist.get_rank, dist.get_world_size, dist.is_initialized = lambda: 0, lambda: 2, lambda: True
    dist.all_reduce, dist.all_gather, dist.barrier = lambda *_, **__: None, gathered, lambda: None
    dist.broadcast_object_list = lambda *_, **__: None
    dist.all_gather_object = lambda parts, value: parts.__setitem__(slice(None), [value] * len(parts))
    ranks.main_first, ranks.wrap = lambda make: make(), lambda module, _: module
    transfer.PINNED.add(NAME)
    tensor: Any = torch.Tensor
    tensor.pin_memory = lambda self: setattr(self, "pinned", True) or self
    stream: Any = BatchStream
    begin, counts = stream.next_step, list[int]()
    stream.next_step = lambda self, number: counts.append(len(WAITS)) or begin(self, number)
    with fake_gpu():
        for number, config in enumerate(configs):
            pretrain(Config.model_validate_json(config), out=Path(folder, str(number)), progress=False)
    print(json.dumps([WAITS[start:end] for start, end in zip(counts[::2], counts[1::2], strict=True)]))


@written_in_python
def test_a_micro_batch_waits_for_the_gpu_once(tiny, tmp_path: Path) -> None:
    """For the verdict on finite values; with negatives, and with labels."""
    usual = (
        "training.steps=2", "training.micro_batches=2", f"machine.device={NAME}", "machine.log_steps=9",
        "optimizer.warmup_epochs=0",
    )  # fmt: skip
    configs = (tiny(*usual, "negatives.start=0"), tiny(*usual, "negatives=none", "training.objective=supervised"))
    process = start(print_waits, [config.model_dump_json() for config in configs], str(tmp_path))
    assert finish(process) == 0
    assert json.loads(said(process).splitlines()[-1]) == [["SoundnessCheck.__call__"] * 2] * 2
