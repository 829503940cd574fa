"""A run that asks for bfloat16 where it would only be emulated: what it computes in, keeps, and says."""

import os
import platform
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runs import assert_same_tensors, finish, interrupt_at, said, start_ranks, train

from syn2co.core.errors import TrainingError
from syn2co.diagnostics.evidence import read_evidence
from syn2co.pretraining import precision, preparation
from syn2co.pretraining.config import Config
from syn2co.pretraining.planner import estimate, forecast
from syn2co.pretraining.run_folder import PRECISION
from syn2co.pretraining.train import pretrain
from syn2co.reports.run_page import _changed
from syn2co.reports.run_summary import read_run
from syn2co.runtime.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from syn2co.runtime.device import emulates_bfloat16

Tiny = Callable[..., Config]
ASKED = "training.precision=bfloat16"


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """`device(emulates)`: let this process believe that."""

    def become(emulates: bool) -> None:
        monkeypatch.setattr(precision, "emulates_bfloat16", lambda kind: emulates)

    return become


def _ended(config: Config, run: Path) -> Checkpoint:
    pretrain(config, out=run, progress=False)
    return load_checkpoint(run)


def _stop(config: Config, run: Path) -> None:
    """Stop a run in its fifth step."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        interrupt_at(patch, 4, signal.SIGTERM)
        pretrain(config, out=run, progress=False)


def _same(one: Checkpoint, other: Checkpoint) -> bool:
    return all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def test_bfloat16_that_would_be_emulated_is_float32_bit_for_bit(tiny, tmp_path, device, capsys):
    """Named defect: recipes asked for it, and a CPU with AVX2 alone took 15 times as long for them."""
    device(True)
    run = _ended(tiny(ASKED), tmp_path / "asked")
    told = capsys.readouterr().err
    assert (
        told.count("training.precision = bfloat16: this device only emulates it, so the run computes in float32") == 1
    )
    assert run.state["precision"] == "float32" and run.state["config"]["training"]["precision"] == "bfloat16"
    plain = _ended(tiny(), tmp_path / "plain")
    assert plain.state["precision"] == "float32" and "precision" not in capsys.readouterr().err
    assert_same_tensors(run.tensors, plain.tensors)
    evidence = read_evidence(tmp_path / "asked")
    assert evidence.config.training.precision == "float32", "doctor advises none that the run has"


def test_a_run_without_a_checkpoint_has_the_precision_that_it_computes_in(tiny, tmp_path, device):
    """Named defect: the advice to a run that ended at its first step was the precision that it had."""
    config, run = tiny(ASKED, "optimizer.base_lr=1e30"), tmp_path / "run"
    device(True)
    with pytest.raises(TrainingError, match=r"with a lower optimizer\.base_lr or a longer optimizer\.warmup_epochs$"):
        pretrain(config, out=run, progress=False)
    evidence = read_evidence(run)
    assert evidence.saved_step is None and evidence.config.training.precision == "float32"
    assert read_run(run).settings["training.precision"] == '"float32"'
    device(False)
    with pytest.raises(TrainingError, match=r"warmup_epochs or training\.precision=float32$"):
        pretrain(config, out=run, progress=False)
    assert read_evidence(run).config.training.precision == "bfloat16"
    (run / PRECISION).write_text('{"precision": "int8"}')
    assert read_evidence(run).config.training.precision == "bfloat16", "as asked for, where nothing readable says more"


def test_a_device_that_multiplies_it_or_is_to_emulate_it_computes_in_it(tiny, tmp_path, device, capsys):
    device(False)
    native = _ended(tiny(ASKED), tmp_path / "native")
    device(True)
    emulated = _ended(tiny(ASKED, "machine.emulate_bfloat16=true"), tmp_path / "emulated")
    assert "precision" not in capsys.readouterr().err
    assert native.state["precision"] == emulated.state["precision"] == "bfloat16"
    assert_same_tensors(native.tensors, emulated.tensors)
    assert not _same(native, _ended(tiny(), tmp_path / "plain")), "else this shows nothing"


@pytest.mark.parametrize("emulates", [True, False])
def test_a_run_keeps_the_precision_that_it_began_in(emulates, tiny, tmp_path, device, capsys):
    config, run = tiny(ASKED), tmp_path / "run"
    device(emulates)
    whole = _ended(config, tmp_path / "whole")
    _stop(config, run)
    capsys.readouterr()
    device(not emulates)
    ended = _ended(config, run)
    assert ended.state["precision"] == ("float32" if emulates else "bfloat16")
    assert_same_tensors(ended.tensors, whole.tensors)
    words = (
        "the run began in float32, for a device that only emulates bfloat16, and keeps it"
        if emulates
        else "is only emulated by this device, slower than float32; the run began in it and keeps it"
    )
    assert f"training.precision = bfloat16: {words}" in capsys.readouterr().err


def test_pages_and_scores_while_training_have_the_precision_that_a_run_computes_in(tiny, tmp_path, device, monkeypatch):
    taken = list[str]()
    monkeypatch.setattr(preparation, "OnlineKnn", lambda config: taken.append(config.training.precision))
    device(True)
    config = tiny(ASKED, "training.steps=2", "negatives.start=0")
    config = config.model_copy(update={"recipe": "synco-cifar10"})
    knn = ["online_knn.every_epochs=1", *(f'online_knn.{side}=["builtin:digits:test"]' for side in ("train", "test"))]
    config = config.with_settings(knn)
    pretrain(config, out=tmp_path / "run", progress=False)
    assert taken == ["float32"]
    summary = read_run(tmp_path / "run")
    assert summary.settings["training.precision"] == '"float32"' and summary.config.hash == config.hash
    assert ("training.precision", '"float32"', '"bfloat16"') in _changed(summary), "of the recipe, which asks for it"


def test_a_run_from_before_the_precision_was_recorded_keeps_what_it_asked_for(tiny, tmp_path, device):
    config, run = tiny(ASKED), tmp_path / "run"
    device(False)
    whole = _ended(config, tmp_path / "whole")
    _stop(config, run)
    begun = load_checkpoint(run)
    state = {name: value for name, value in begun.state.items() if name not in ("precision", "format", "step")}
    save_checkpoint(run, begun.state["step"], begun.tensors, state, keep=2)
    device(True)
    assert_same_tensors(_ended(config, run).tensors, whole.tensors)


def _train_where_rank_1_emulates(config: str, out: str) -> None:
    precision.emulates_bfloat16 = lambda kind: os.environ["RANK"] == "1"
    train(config, out)


def test_one_rank_that_emulates_it_decides_for_all(tiny, tmp_path):
    config, run = tiny(ASKED, "training.steps=4"), tmp_path / "run"
    processes = start_ranks(2, _train_where_rank_1_emulates, config.to_json(), str(run))
    assert [finish(process) for process in processes] == [0, 0]
    assert load_checkpoint(run).state["precision"] == "float32"
    assert "so the run computes in float32" in said(processes[0])


def test_what_is_said_before_a_run_is_of_the_precision_that_it_computes_in(tiny: Tiny, tmp_path, device, monkeypatch):
    monkeypatch.setattr("syn2co.pretraining.planner._measured", lambda config, count: 10.0)
    monkeypatch.setattr("syn2co.pretraining.planner.WORTH", 0)
    device(True)
    plain = estimate(tiny())
    for plan in (estimate(tiny(ASKED)), forecast(tiny(ASKED), tmp_path / "run")):
        assert plan is not None and plan.memory == plain.memory
        assert "assumed: it computes in float32: this machine only emulates bfloat16" in plan.text()
    device(False)
    assert "emulates" not in estimate(tiny(ASKED)).text()


@pytest.mark.parametrize("own", [True, False])
def test_a_gpu_that_torch_counts_as_able_may_emulate(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or own)
    assert emulates_bfloat16("cuda") is not own
    assert not emulates_bfloat16("mps")


@pytest.mark.parametrize("able", [True, False])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_cpu_emulates_what_it_has_no_instructions_for(able, machine, monkeypatch):
    other = not able  # of the other kind of machine, which must not count
    monkeypatch.setattr(platform, "machine", lambda: machine)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: able if machine == "x86_64" else other, raising=False)
    arm = able if machine == "aarch64" else other
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: arm, raising=False)
    assert emulates_bfloat16("cpu") is not able


def test_a_torch_that_cannot_tell_of_an_arm_cpu_is_taken_to_emulate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named defect: a run on the CPU of a Mac ended with an AttributeError, for torch has no such question there."""
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    assert emulates_bfloat16("cpu")
