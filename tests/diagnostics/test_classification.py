"""The doctor on supervised runs: real ones, left alone and sabotaged."""

from collections.abc import Callable
from pathlib import Path

import pytest

from syn2co.diagnostics.diagnosis import Diagnosis
from syn2co.diagnostics.doctor import doctor
from syn2co.pretraining.config import Config
from syn2co.pretraining.train import pretrain

KINDS = ("interpolated", "extrapolated", "mixup", "noise", "perturbed", "adversarial")


@pytest.fixture
def diagnosed(tiny: Callable[..., Config], tmp_path: Path) -> Callable[..., Diagnosis]:
    """`diagnosed("a.b=c", ...)`: the diagnosis of a run of 52 steps on four colors."""
    from evaluation_folders import paint
    from runs import forget_waiting

    def make(*assignments: str) -> Diagnosis:
        paint(tmp_path / "colors", dict.fromkeys(("blue", "green", "red", "white"), 8))
        labels = ("training.objective=supervised", *(f"negatives.{kind}=0" for kind in KINDS), "views.grayscale=0")
        config = tiny(f'data.real=["{tmp_path / "colors"}"]', "training.steps=52", *labels, *assignments)
        run = pretrain(config, out=tmp_path / "run", progress=False).folder
        forget_waiting(run)
        return doctor(run)

    return make


def test_a_supervised_run_left_alone_is_healthy(diagnosed: Callable[..., Diagnosis]) -> None:
    diagnosis = diagnosed()
    assert diagnosis.healthy and "healthy" in diagnosis.checks, diagnosis.text()
    assert not {"flat", "no synthetic negatives", "negatives off"} & set(diagnosis.checks)
    (finding,) = [part for part in diagnosis.findings if part.check == "healthy"]
    assert finding.reason.startswith("cross-entropy ") and "1.39 where all classes are equal" in finding.reason
    assert finding.evidence["top1"] > 0.5


def test_a_tiny_learning_rate_is_flat(diagnosed: Callable[..., Diagnosis]) -> None:
    diagnosis = diagnosed("optimizer.base_lr=1e-6", "optimizer.warmup_epochs=0")
    (finding,) = [part for part in diagnosis.findings if part.check == "flat"]
    assert finding.evidence["gain"] < 0.02
    assert finding.advice == ("set optimizer.base_lr=0.001 in a new run: it is 1e-06 here",)


def test_labels_that_say_nothing_are_flat(diagnosed: Callable[..., Diagnosis], image_folder: Path) -> None:
    """Noise in three classes."""
    diagnosis = diagnosed(f'data.real=["{image_folder}"]', "optimizer.base_lr=0.005")
    (finding,) = [part for part in diagnosis.findings if part.check == "flat"]
    assert finding.advice == (
        "set optimizer.base_lr=0.02 in a new run",
        "look at the labels: names of folders that say nothing about their images give nothing to learn",
    )


def test_a_short_supervised_run_is_too_short_to_tell(diagnosed: Callable[..., Diagnosis]) -> None:
    assert "too short to tell" in diagnosed("training.steps=8").checks
