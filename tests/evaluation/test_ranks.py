"""The same report on 1 rank and on 2, also when the ranks get different numbers of batches, or none.

Named defect (method.md 6.10): a k-NN bank that is not gathered over ranks, so that more ranks give a lower number.
"""

import json
import os
import time
from pathlib import Path

import pytest
import torch
from evaluation_folders import TINY, paint
from runs import finish, said, start_ranks

from syn2co.data.open import open_images
from syn2co.evaluation.embed import embed
from syn2co.evaluation.features import extract
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.models.encoder import build_encoder
from syn2co.reports.evaluation import evaluate
from syn2co.runtime.distributed import session

BATCH_SIZES = (4, 100)  # 27 images: seven batches, so 3 and 4 a rank, the last one short; one batch, so none for rank 0

PROTOCOLS = (
    "knn", "linear", "linear-augmented", "few-shot", "fine-tune", "fine-tune-few", "robustness", "calibration",
    "adversarial", "retrieval", "health",
)  # fmt: skip


def report_of(folder: Path, out: Path | None) -> str:
    encoder = build_encoder(TINY, seed=1)
    quick = {
        "linear_augmented": {"epochs": 1},
        "few_shot": {"shares": [0.3], "per_class": [1], "draws": 2},
        "adversarial": {"epsilons": [4], "steps": 2},
        "fine_tune": {"epochs": 1, "min_steps": 3, "shares": [0.3], "draws": 2},
        "robustness": {"corruptions": ["shot_noise"], "severities": [3], "reference": "random init"},
    }
    settings = EvaluationSettings.parse({"device": "cpu", "batch_size": 4, **quick})
    report = evaluate(encoder, [folder / "train"], [folder / "test"], protocols=PROTOCOLS, settings=settings, out=out)
    body = json.loads(report.to_json())
    del body["machine"]
    return json.dumps(body)


def features_of(folder: Path) -> list[torch.Tensor]:
    encoder, images = build_encoder(TINY, seed=1), open_images([folder / "train"])
    return [extract(encoder, images, batch_size=size) for size in BATCH_SIZES]


def embed_all(folder: Path, name: str) -> None:
    for size in BATCH_SIZES:
        settings = EvaluationSettings(device="cpu", batch_size=size)
        out = folder / f"{name}-{size}.parquet"
        embed(build_encoder(TINY, seed=1), folder / "train", out, tokens=True, settings=settings)


def one_rank(folder: Path) -> None:
    """What each of the two processes does: leave its features, files and report in the folder."""
    torch.set_num_threads(1)
    rank = os.environ["RANK"]
    with session("cpu"):
        torch.save(features_of(folder), folder / f"features-{rank}.pt")
        embed_all(folder, "shared")
    (folder / f"report-{rank}.json").write_text(report_of(folder, folder / "out"))  # joins the ranks by itself


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two ranks' work on 27 training and 12 test images."""
    folder = tmp_path_factory.mktemp("ranks")
    paint(folder / "train", {"blue": 9, "green": 8, "red": 10}, noise=120)
    paint(folder / "test", {"blue": 3, "green": 4, "red": 5}, seed=1, noise=120)
    assert [finish(process, 240) for process in start_ranks(2, one_rank, folder)] == [0, 0]
    return folder


def test_every_rank_has_every_row_once_and_bit_for_bit(folder):
    alone = features_of(folder)
    for rank in range(2):
        for found, wanted in zip(torch.load(folder / f"features-{rank}.pt"), alone, strict=True):
            assert found.shape == (27, 12)
            assert torch.equal(found, wanted)


def test_the_report_is_that_of_one_rank(folder):
    alone = report_of(folder, None)
    assert (folder / "report-0.json").read_text() == alone
    assert (folder / "report-1.json").read_text() == alone
    written = json.loads((folder / "out" / "evaluation.json").read_text())
    assert written["machine"]["ranks"] == 2 and written["scores"] == json.loads(alone)["scores"]


def test_the_file_of_features_is_that_of_one_rank(folder):
    """Batches go round the ranks: in the last round one of them has none, or it never has one."""
    embed_all(folder, "alone")
    for size in BATCH_SIZES:
        shared, alone = (folder / f"{name}-{size}.parquet" for name in ("shared", "alone"))
        assert shared.read_bytes() == alone.read_bytes()


def _evaluate_unlike(folder: Path, situation: str) -> None:
    """As on a second machine that has another encoder, settings, packages or images than the first one."""
    import cv2

    torch.set_num_threads(1)
    second = os.environ["RANK"] == "1"
    encoder = build_encoder(TINY, seed=2 if second and situation == "encoder" else 1)
    train = "test" if second and situation == "images" else "train"
    settings = {"precision": "bfloat16"} if second and situation == "precision" else {}
    protocols = ["knn", "linear"] if second and situation == "protocols" else ["knn"]
    cv2.__version__ = "4.0" if second and situation == "versions" else cv2.__version__
    given = EvaluationSettings.parse({"device": "cpu", "cache_gib": 0, "baselines": False, "workers": 0, **settings})
    evaluate(encoder, [folder / train], [folder / "other"], protocols=protocols, settings=given)


@pytest.mark.parametrize(
    ("situation", "difference"),
    [
        ("encoder", "weights of encoder "),
        ("images", "images of the evaluation "),
        ("precision", "precision bfloat16, and rank 0 has float32; start all ranks by the same command"),
        ("protocols", "protocols ('knn', 'linear'), and rank 0 has ('knn',); start all ranks by the same command"),
        ("versions", "opencv 4.0, and rank 0 has "),
    ],
)
def test_ranks_that_are_unlike_are_refused_with_the_difference(situation: str, difference: str, folder: Path) -> None:
    """Named defect: two ranks mixed the features of two networks, or gave two reports, and said nothing."""
    paint(folder / "other", {"blue": 3, "green": 4, "red": 5}, seed=2, noise=120)
    processes = start_ranks(2, _evaluate_unlike, folder, situation)
    assert [finish(process, 120) for process in processes] == [1, 1]
    for process in processes:
        assert f"ConfigError: rank 1: has {difference}" in said(process)


def _embed_unlike(folder: Path) -> None:
    precision = "bfloat16" if os.environ["RANK"] == "1" else "float32"
    settings = EvaluationSettings.parse({"device": "cpu", "precision": precision})
    embed(build_encoder(TINY, seed=1), folder / "train", folder / "unlike.parquet", settings=settings)


def test_a_file_of_features_is_not_made_by_ranks_that_are_unlike(folder: Path) -> None:
    processes = start_ranks(2, _embed_unlike, folder)
    assert [finish(process, 120) for process in processes] == [1, 1]
    assert "rank 1: has precision bfloat16, and rank 0 has float32" in said(processes[0])
    assert not (folder / "unlike.parquet").exists()


def _evaluate_slowly_on_rank_1(folder: Path) -> None:
    from datetime import timedelta

    from syn2co.images.image_set import ImageSet
    from syn2co.runtime import process_group

    torch.set_num_threads(1)
    process_group.TIME_OUT, process_group._SIGN = timedelta(seconds=3), 0.1
    if os.environ["RANK"] == "1":
        read = ImageSet.read

        def slowly(self: ImageSet, index: int) -> object:
            time.sleep(0.4)
            return read(self, index)

        ImageSet.read = slowly  # type: ignore[assignment]
    given = {"device": "cpu", "batch_size": 4, "cache_gib": 0, "baselines": False, "workers": 1}
    settings = EvaluationSettings.parse(given)
    evaluate(build_encoder(TINY, seed=1), [folder / "train"], [folder / "test"], protocols=["knn"], settings=settings)
    (folder / f"slow-{os.environ['RANK']}").touch()


def test_a_rank_that_is_slower_by_more_than_the_time_out_is_waited_for(folder: Path) -> None:
    """Named defect: a rank with a colder disk counted as lost, since the ranks of an extraction meet once."""
    processes = start_ranks(2, _evaluate_slowly_on_rank_1, folder)
    assert [finish(process, 120) for process in processes] == [0, 0], said(processes[0])
    assert len(list(folder.glob("slow-*"))) == 2
