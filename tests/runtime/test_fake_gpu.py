"""Everything runs on a GPU without float64: a run with synthetic negatives and online k-NN, and protocols."""

from pathlib import Path

import pytest
import torch
from evaluation_folders import TINY, paint
from fake_gpu import NAME, fake_gpu
from runs import finish, metrics, start

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


@pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch takes no device that is written in Python",
)
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
