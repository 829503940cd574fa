"""One run is one run, on any number of ranks: real gloo processes, compared with a single one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from runs import (
    KILLED_ONCE,
    assert_same_run,
    finish,
    interrupt_at,
    metrics,
    said,
    saved_steps,
    start,
    start_ranks,
    train,
    train_slowly,
)

EXACT = ("training.precision=float64", "training.steps=5")
STATE = ("online.", "target.", "queue", "optimizer.")


def _alone(config, out: Path) -> Path:
    from syn2co.pretraining.train import pretrain

    pretrain(config, out=out, progress=False)
    return out


def _on_ranks(config, out: Path, ranks: int = 2) -> Path:
    codes = [finish(process) for process in start_ranks(ranks, train, config.to_json(), str(out))]
    assert codes == [0] * ranks
    return out


def _largest_difference(one: Path, two: Path) -> dict[str, float]:
    """Return the largest difference of any tensor, by the part of the run that it belongs to, and of the losses."""
    from syn2co.runtime.checkpoint import load_checkpoint

    left, right = load_checkpoint(one).tensors, load_checkpoint(two).tensors
    assert left.keys() == right.keys()
    found = dict.fromkeys(STATE, 0.0)
    for name, tensor in left.items():
        part = next(prefix for prefix in STATE if name.startswith(prefix))
        found[part] = max(found[part], float((tensor.double() - right[name].double()).abs().max()))
    assert len(metrics(one)) == len(metrics(two))
    for here, there in zip(metrics(one), metrics(two), strict=True):
        assert here.keys() == there.keys()
        found["loss"] = max(found.get("loss", 0.0), abs(here["loss"] - there["loss"]))
        logged = here.keys() - {"images_per_second", "data_wait"}  # stds among them: of the global batch
        assert {name: here[name] for name in logged} == pytest.approx({name: there[name] for name in logged}, rel=1e-6)
    return found


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_two_ranks_equal_one_in_float64_across_the_opening_of_the_window(micro_batches, tiny, tmp_path):
    config = tiny(*EXACT, f"training.micro_batches={micro_batches}")
    alone = _alone(config, tmp_path / "one")
    assert [record["synthetic"] for record in metrics(alone)] == [False, False, False, True, True]
    assert any(record["masked_share"] > 0 for record in metrics(alone)), "the queue must hold images twice"
    assert config.encoder.drop_path > 0
    together = _on_ranks(config, tmp_path / "two")
    assert max(_largest_difference(alone, together).values()) < 1e-9
    assert saved_steps(alone) == saved_steps(together)


def test_four_ranks_equal_one_in_float64(tiny, tmp_path):
    config = tiny(*EXACT)
    apart = _largest_difference(_alone(config, tmp_path / "one"), _on_ranks(config, tmp_path / "four", 4))
    assert max(apart.values()) < 1e-9


def test_activations_that_are_computed_again_change_no_bit_on_two_ranks_or_one(tiny, tmp_path):
    """Three blocks with drop path; other forward passes than those of the plain run would give other bits."""
    words = ["encoder.options.depth=3", "encoder.drop_path=0.5", "training.steps=4"]
    for train_on, name in ((_alone, "alone"), (_on_ranks, "ranks")):
        again = train_on(tiny(*words, "machine.activation_checkpointing=true"), tmp_path / f"{name} again")
        assert_same_run(again, train_on(tiny(*words), tmp_path / name))


def _train_and_stop(config: str, out: str) -> None:
    """Train, and stop with the state saved in the third step."""
    interrupt_at(pytest.MonkeyPatch(), 2, signal.SIGTERM)
    train(config, out)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_run_goes_on_with_another_number_of_ranks(before, after, tiny, tmp_path):
    config = tiny(*EXACT)
    alone = _alone(config, tmp_path / "alone")
    begun = start_ranks(before, _train_and_stop, config.to_json(), str(tmp_path / "run"))
    assert [finish(process) for process in begun] == [143] * before
    assert saved_steps(tmp_path / "run")[-1] in (2, 3)
    ended = start_ranks(after, train, config.to_json(), str(tmp_path / "run"))
    assert [finish(process) for process in ended] == [0] * after
    assert any("the last bits may differ" in said(process) for process in ended), "the start says so"
    assert max(_largest_difference(alone, tmp_path / "run").values()) < 1e-9


def test_first_step_in_float32(tiny, tmp_path):
    """Loss and gradients; beyond the first step AdamW turns reordered sums into differences of the size of the lr."""
    from syn2co.runtime.checkpoint import load_checkpoint

    config = tiny("training.steps=1", "negatives.start=0", "optimizer.warmup_epochs=0")
    one, two = _alone(config, tmp_path / "one"), _on_ranks(config, tmp_path / "two")
    assert metrics(one)[0]["loss"] == pytest.approx(metrics(two)[0]["loss"], abs=1e-5)
    left, right = load_checkpoint(one).tensors, load_checkpoint(two).tensors
    gradients = [name for name in left if name.endswith(".exp_avg")]  # 0.1 times the gradient after one step
    assert len(gradients) > 20
    largest = max(float(left[name].abs().max()) for name in gradients)
    assert largest > 1e-4
    assert max(float((left[name] - right[name]).abs().max()) for name in gradients) < 1e-5 * largest


@pytest.mark.parametrize("encoder", ["test_resnet", "test_efficientnet"])
def test_an_encoder_with_batch_norm_equals_one_rank(encoder, tiny, tmp_path):
    """torch's own BatchNorm2d, and timm's that holds the activation."""
    config = tiny(*EXACT, "negatives.start=0", f"encoder.name={encoder}", "encoder.options={}", "views.size=32")
    apart = _largest_difference(_alone(config, tmp_path / "one"), _on_ranks(config, tmp_path / "two"))
    assert max(apart.values()) < 1e-9


def test_defect_02_the_window_counts_global_steps_on_any_ranks(tiny, tmp_path):
    config = tiny("negatives.start=1.0", "negatives.stop=2.0", "training.steps=9")
    runs = [_alone(config, tmp_path / "one"), _on_ranks(config, tmp_path / "two")]
    for run in runs:
        assert [record["step"] for record in metrics(run) if record["synthetic"]] == [4, 5, 6]


def test_a_signal_to_one_rank_stops_all_and_the_run_goes_on_bit_for_bit(tiny, tmp_path):
    config, run = tiny(), tmp_path / "run"
    whole = _on_ranks(config, tmp_path / "whole")
    processes = start_ranks(2, train_slowly, config.to_json(), str(run), 0.1)
    end = time.monotonic() + 60
    while len(metrics(run)) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert processes[1].pid is not None
    os.kill(processes[1].pid, signal.SIGTERM)
    assert [finish(process) for process in processes] == [143, 143]
    assert saved_steps(run) == [metrics(run)[-1]["step"]]
    assert saved_steps(run)[0] < 12
    assert_same_run(_on_ranks(config, run), whole)


def _train_unlike(config: str, out: str, situation: str) -> None:
    """As on a second machine that has other settings, packages or images than the first one."""
    import cv2

    from syn2co.runtime import alike

    if situation == "device" and os.environ["RANK"] == "0":
        software = alike.software
        alike.software = lambda device: {**software(device), "device": "cuda"}
    if os.environ["RANK"] == "1":
        values = {name: value for name, value in json.loads(config).items() if name not in ("hash", "written_by")}
        values["machine"]["log_steps"] = 7 if situation == "in step" else values["machine"]["log_steps"]
        values["queue"]["size"] = 32 if situation == "config" else values["queue"]["size"]
        values["data"]["real"] = [f"{out}-images"] if situation == "images" else values["data"]["real"]
        if situation == "files":
            alike.source_hash = lambda: "other"
        cv2.__version__ = "4.0" if situation == "versions" else cv2.__version__
        config = json.dumps(values)
    train(config, out)


@pytest.mark.parametrize(
    ("situation", "sentence"),
    [
        ("config", "rank 1: has another config (queue.size = 60 on rank 0, 32 on rank 1); start all ranks by the same"),
        ("in step", "rank 1: has machine.log_steps = 7, and rank 0 has 1; start all ranks by the same command"),
        ("versions", "rank 1: has opencv 4.0, and rank 0 has "),
        ("files", "rank 1: has files of syn2co other, and rank 0 has "),
        ("device", "rank 1: has device cpu, and rank 0 has cuda; install the same versions on all machines, and give"),
        ("images", "data.real: rank 1 has other images than rank 0 (30, or other names or sizes)"),
    ],
)
def test_ranks_that_are_unlike_are_refused_with_the_difference(situation, sentence, tiny, tmp_path):
    from tiny_images import write_images

    write_images(tmp_path / "run-images", 30)
    processes = start_ranks(2, _train_unlike, tiny().to_json(), str(tmp_path / "run"), situation)
    assert finish(processes[1]) == 2
    processes[0].kill() if situation == "images" else None
    finish(processes[0])
    assert sentence in said(processes[situation == "images"])
    assert not metrics(tmp_path / "run")


def test_a_rank_that_is_killed_ends_the_others_with_one_sentence(tiny, tmp_path):
    processes = start_ranks(2, train_slowly, tiny().to_json(), str(tmp_path / "run"), 0.2)
    end = time.monotonic() + 60
    while len(metrics(tmp_path / "run")) < 1 and time.monotonic() < end:
        time.sleep(0.01)
    assert processes[1].pid is not None
    os.kill(processes[1].pid, signal.SIGKILL)
    assert [finish(process) for process in processes] == [2, -9]
    [sentence] = [line for line in said(processes[0]).splitlines() if not line.startswith("note:")]
    assert sentence.startswith("TrainingError: rank 0: rank 1 is gone or does not answer; see what it says")


def _train_until_rank_1_freezes(config: str, out: str) -> None:
    import syn2co.pretraining.loop as loop
    from syn2co.runtime import process_group

    process_group.TIME_OUT = timedelta(seconds=10)
    take = loop.training_step

    def step(model, online, batch, place, *args, **named):
        if place.step == 4 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGSTOP)
        return take(model, online, batch, place, *args, **named)

    loop.training_step = step
    train(config, out)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows freezes no process")
def test_a_rank_that_is_frozen_in_mid_training_is_named_after_the_time_out_and_the_run_resumes(tiny, tmp_path):
    """A machine that hangs: it is alive for the system, closes no connection and says nothing."""
    config, run = tiny("machine.save_steps=1"), tmp_path / "run"
    processes = start_ranks(2, _train_until_rank_1_freezes, config.to_json(), str(run))
    assert finish(processes[0]) == 2
    processes[1].kill()
    processes[1].join()
    assert "TrainingError: rank 0: rank 1 is gone or does not answer; see what it says, and run" in said(processes[0])
    assert saved_steps(run)[-1] == 4 == metrics(run)[-1]["step"]
    assert_same_run(_on_ranks(config, run), _on_ranks(config, tmp_path / "whole"))


def _before_views_of_rank_1(after: int, act: Callable[[], object]) -> None:
    """Let rank 1 act before each view that it makes after so many."""
    import syn2co.data.loader as loader

    one_view, seen = loader.one_view, list[None]()

    def view(*args, **named):
        seen.append(None)
        if len(seen) > after and os.environ["RANK"] == "1":
            act()
        return one_view(*args, **named)

    loader.one_view = view


def _train_without_a_disk_on_rank_1(config: str, out: str) -> None:
    from syn2co.core.errors import DataError

    def fail() -> None:
        raise DataError("the disk is gone")

    _before_views_of_rank_1(2 * 8, fail)  # in the third step: two views of four images a step
    train(config, out)


def test_images_that_one_rank_cannot_load_end_all_of_them_with_the_state_saved(tiny, tmp_path):
    config, run = tiny("machine.save_steps=1000"), tmp_path / "run"
    processes = start_ranks(2, _train_without_a_disk_on_rank_1, config.to_json(), str(run))
    assert [finish(process) for process in processes] == [2, 2]
    assert "DataError: the images of another rank could not be loaded; it says why" in said(processes[0])
    assert "DataError: the disk is gone" in said(processes[1])
    assert saved_steps(run) == [2] == [metrics(run)[-1]["step"]]
    assert_same_run(_on_ranks(config, run), _on_ranks(config, tmp_path / "whole"))


def _train_beside_a_stalled_disk_on_rank_1(config: str, out: str) -> None:
    """The real limits, so many times shorter: a rank ends by its own words before the others take it for lost."""
    import syn2co.data.loader as loader
    from syn2co.runtime import process_group

    process_group.TIME_OUT *= 6 / loader.PATIENCE_SECONDS
    loader.PATIENCE_SECONDS = 6.0
    _before_views_of_rank_1(2 * 4 * 3, lambda: time.sleep(60))  # in the fourth step
    train(config, out)


def test_a_disk_that_stalls_on_one_rank_ends_all_of_them_with_the_state_saved(tiny, tmp_path):
    """Named defect: both limits were ten minutes, so nothing was saved and the wrong reason was told."""
    config, run = tiny("machine.save_steps=1000"), tmp_path / "run"
    processes = start_ranks(2, _train_beside_a_stalled_disk_on_rank_1, config.to_json(), str(run))
    assert [finish(process, 120) for process in processes] == [2, 2]
    assert "DataError: the images of another rank could not be loaded; it says why" in said(processes[0])
    assert "no batch came for " in said(processes[1])
    assert "see whether the disk of the images answers" in said(processes[1])
    assert saved_steps(run) == [metrics(run)[-1]["step"]]


def _train_with_a_nan_on_rank_1(config: str, out: str) -> None:
    import syn2co.pretraining.loop as loop

    take = loop.training_step

    def poisoned(model, online, batch, place, *args, **named):
        outcome = take(model, online, batch, place, *args, **named)
        if place.step == 7 and os.environ["RANK"] == "1":
            outcome.measured["loss"] = outcome.measured["loss"] * float("nan")
        return outcome

    loop.training_step = poisoned
    train(config, out)


def test_a_loss_that_is_not_finite_on_one_rank_stops_all_before_the_step(tiny, tmp_path):
    run = tmp_path / "run"
    processes = start_ranks(2, _train_with_a_nan_on_rank_1, tiny().to_json(), str(run))
    assert [finish(process) for process in processes] == [2, 2]
    assert "TrainingError: loss at step 7: not finite, so the optimizer step was not taken" in said(processes[0])
    assert said(processes[1]) == "", "what all ranks find, the first one says"
    found = json.loads((run / "nonfinite-step-7.json").read_text())
    assert len(found["images"]) == 8 == len({image["index"] for image in found["images"]})
    assert saved_steps(run) == [5]


def test_a_batch_that_does_not_divide_by_ranks_and_micro_batches(tiny, tmp_path):
    processes = start_ranks(3, train, tiny().to_json(), str(tmp_path / "run"))
    assert [finish(process) for process in processes] == [2, 2, 2]
    sentence = "training.batch = 8: must divide by ranks x micro-batches = 3 x 1; choose a multiple of 3"
    assert [said(process) for process in processes] == [f"ConfigError: {sentence}\n", "", ""]


def test_images_that_the_first_rank_refuses_end_all_ranks_with_one_sentence(tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    config = tiny(f'data.real=["{tmp_path / "empty"}"]')
    processes = start_ranks(2, train, config.to_json(), str(tmp_path / "run"))
    assert [finish(process) for process in processes] == [2, 2]
    assert said(processes[0]).startswith("DataError: ") and "this folder is empty" in said(processes[0])
    assert said(processes[0]).count("\n") == 1 and said(processes[1]) == ""


def _train_without_the_folder(config: str, out: str) -> None:
    """As on a second machine that does not share the first one's file system."""
    train(config, out if os.environ["RANK"] == "0" else out + "-elsewhere")


def test_ranks_that_do_not_share_the_run_folder_are_told(tiny, tmp_path):
    run = tmp_path / "run"
    _alone(tiny("training.steps=4", "machine.save_steps=2"), run)
    (tmp_path / "run-elsewhere").mkdir()
    config = tiny("training.steps=4", "machine.save_steps=2")
    for path in (run / "checkpoints").glob("*4.safetensors"):
        path.unlink()
    processes = start_ranks(2, _train_without_the_folder, config.to_json(), str(run))
    assert finish(processes[1]) == 2
    processes[0].kill()
    finish(processes[0])
    assert "rank 1 does not find the checkpoint that rank 0 resumes from" in said(processes[1])


def _train_with_torchruns_agent(config: str, out: str) -> None:
    """As `torchrun --max-restarts 1 -m syn2co pretrain` does, with ranks that need not import torch again."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    address = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    launch = LaunchConfig(1, 1, 2, run_id="run", max_restarts=1, start_method="fork", **address)
    elastic_launch(launch, _train_killed_once)(config, out)


def _train_killed_once(config: str, out: str) -> None:
    exec(KILLED_ONCE, {})
    try:
        train(config, out)
    except SystemExit as left:
        if left.code:  # with 0 torch would wait for what the function returns
            raise


def test_a_killed_rank_is_started_again_by_torchruns_agent(tiny, tmp_path):
    """Both ranks start again, and go on from the last checkpoint."""
    config = tiny("training.steps=4", "machine.save_steps=1").to_json()
    process = start(_train_with_torchruns_agent, config, str(tmp_path / "run"))
    assert finish(process) == 0
    assert said(process).count("(exitcode: -9)") == 1, "no other rank is started again"
    assert said(process).count("run: 4 steps done.") == 1, "only the first rank speaks"
    assert_same_run(tmp_path / "run", _on_ranks(tiny("training.steps=4"), tmp_path / "other"))


@pytest.mark.slow
def test_torchrun_itself_starts_a_killed_rank_again(tiny, tmp_path):
    """The command of the documentation, in five processes that each import torch."""
    (tmp_path / "tiny.json").write_text(tiny("training.steps=4", "machine.save_steps=1").to_json())
    (tmp_path / "sitecustomize.py").write_text(KILLED_ONCE)
    torchrun = (sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command = (*torchrun, "--max-restarts", "1", "-m", "syn2co", "pretrain", "--config", "tiny.json", "--out", "run")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [*command, "--quiet"], cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "exitcode: -9" in done.stderr and "Traceback" not in done.stderr
    assert done.stdout.count("run: 4 steps done.") == 1, "only the first rank speaks"
    assert_same_run(tmp_path / "run", _on_ranks(tiny("training.steps=4"), tmp_path / "other"))


def test_all_ranks_stop_early_together(tiny, image_folder, tmp_path):
    """Weights that do not move have one score: with a patience of 1 the second one ends the run, on both ranks."""
    from tiny_images import write_images

    test = write_images(tmp_path / "held out", seed=1)
    still = ("optimizer.base_lr=1e-30", "optimizer.warmup_lr=0", "optimizer.final_lr=0", "optimizer.weight_decay=0")
    knn = ("online_knn.every_epochs=1", f'online_knn.train=["{image_folder}"]', f'online_knn.test=["{test}"]')
    config = tiny(*still, *knn, "online_knn.patience=1")
    for _ in range(2):  # the second time nothing is left to do
        assert saved_steps(_on_ranks(config, tmp_path / "run"))[-1] == 6
    assert [record["step"] for record in metrics(tmp_path / "run") if "knn" in record] == [3, 6]
