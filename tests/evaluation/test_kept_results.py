"""What protocols found is kept until an evaluation is whole: the same call resumes, with equal bytes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_folders import TINY, paint

from syn2co.core import versions
from syn2co.evaluation import evaluate as module
from syn2co.evaluation import kept_results
from syn2co.evaluation.evaluate import score
from syn2co.evaluation.kept_results import NEVER_KEPT, KeptResults, _load, _packed
from syn2co.evaluation.protocols.protocol import Protocol, ProtocolResult, Task
from syn2co.evaluation.protocols.registry import PROTOCOLS
from syn2co.evaluation.results import EvaluationReport
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.models.encoder import build_encoder

KEPT = tuple(name for name in PROTOCOLS if name not in (*NEVER_KEPT, "dense"))
"""All but `dense`, which needs masks."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for seed, side in enumerate(("train", "test")):
        paint(folder / side, {"blue": 6, "green": 6, "red": 6}, seed=seed)
    return folder


def evaluated(folder: Path, keep: Path | None, *, protocols: Sequence[str], seed: int = 0) -> EvaluationReport:
    few = {"robustness": {"max_images": 6}, "fine_tune": {"epochs": 1, "min_steps": 3}}
    settings = EvaluationSettings.parse(
        {"device": "cpu", "workers": 0, "seed": seed, "cache_gib": 0, "baselines": False, **few}
    )
    report, _ = score(
        [build_encoder(TINY, seed=1)], [str(folder / "train")], [str(folder / "test")], protocols=protocols,
        transfer=(), settings=settings, progress=False, kept=KeptResults(keep),
    )  # fmt: skip
    return report


def never(task: Task) -> Sequence[ProtocolResult]:
    raise AssertionError("it was kept")


def test_every_protocol_is_kept_and_gives_equal_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluated(folder, tmp_path / "scores", protocols=KEPT)
    assert len(list((tmp_path / "scores").iterdir())) == len(KEPT) and len(first.rows) >= len(KEPT)
    monkeypatch.setattr(module, "PROTOCOLS", {name: Protocol(never, PROTOCOLS[name].needs) for name in PROTOCOLS})
    again = evaluated(folder, tmp_path / "scores", protocols=KEPT)
    assert again.to_json() == first.to_json() and again.notes == first.notes
    for one, other in zip(first.rows, again.rows, strict=True):
        for name in ("predicted", "labels", "values"):
            values = getattr(one, name), getattr(other, name)
            assert (values[0] is None) == (values[1] is None)
            assert values[0] is None or np.array_equal(*values, equal_nan=True)


def test_other_settings_other_code_and_damage_are_computed_anew(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, ran = tmp_path / "scores", list[int]()

    def counted(task: Task) -> Sequence[ProtocolResult]:
        ran.append(task.settings.seed)
        return PROTOCOLS["knn"].run(task)

    monkeypatch.setattr(module, "PROTOCOLS", PROTOCOLS | {"knn": Protocol(counted)})
    first = evaluated(folder, keep, protocols=["knn"])
    evaluated(folder, keep, protocols=["knn"])
    assert ran == [0]
    evaluated(folder, keep, protocols=["knn"], seed=1)
    assert ran == [0, 1]
    monkeypatch.setattr(kept_results, "source_hash", lambda: "other code")
    evaluated(folder, keep, protocols=["knn"])
    assert ran == [0, 1, 0] and versions.source_hash() != "other code"
    files = list(keep.iterdir())
    assert len(files) == 3
    for file in files:
        file.write_bytes(file.read_bytes()[:-40])
    assert evaluated(folder, keep, protocols=["knn"]).to_json() == first.to_json()
    assert ran == [0, 1, 0, 0]


def test_a_folder_that_cannot_be_made_loses_no_score(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    report = evaluated(folder, tmp_path / "file" / "scores", protocols=["knn"])
    assert report.to_json() == evaluated(folder, None, protocols=["knn"]).to_json()


def test_a_full_disk_loses_no_score(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named defect: torch's own writer raises RuntimeError where the disk is full, and the cell failed."""

    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    report = evaluated(folder, tmp_path / "scores", protocols=["knn"])
    monkeypatch.undo()
    assert report.to_json() == evaluated(folder, None, protocols=["knn"]).to_json()
    assert not list((tmp_path / "scores").glob("*.pt"))


def test_what_was_kept_tells_the_seconds_that_it_took(folder: Path, tmp_path: Path) -> None:
    kept = [KeptResults(tmp_path / "scores") for _ in range(2)]
    settings = EvaluationSettings.parse({"device": "cpu", "workers": 0, "cache_gib": 0, "baselines": False})
    for one in kept:
        score(
            [build_encoder(TINY, seed=1)], [str(folder / "train")], [str(folder / "test")], protocols=["linear"],
            transfer=(), settings=settings, progress=False, kept=one,
        )  # fmt: skip
    assert kept[0].seconds == 0 and kept[1].seconds > 0


def test_results_of_every_plain_type_come_back_and_variants_are_not_kept(tmp_path: Path) -> None:
    """The images of variants lie in folders that may have filled since."""
    definition = {"k": [1, 2.5, None], "by": {3: "three", 20: True}, "pair": (1, "two")}
    one = ProtocolResult(torch.rand(3, 4), definition, "k = 1", predicted=torch.arange(4), notes=("a", "b"))
    (tmp_path / "x.pt").write_bytes(_packed([one], 1.5))
    loaded = _load(tmp_path / "x.pt")
    assert loaded is not None and loaded[1] == 1.5
    (again,) = loaded[0]
    assert torch.equal(again.values, one.values) and torch.equal(again.predicted, one.predicted)  # type: ignore[arg-type]
    assert (again.definition, again.setting, again.notes) == (one.definition, one.setting, one.notes)
    assert NEVER_KEPT == ("variants",)
