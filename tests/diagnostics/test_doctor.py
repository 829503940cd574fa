"""The doctor on real runs that were sabotaged on purpose, and on metrics made by hand at the borders."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from runs import forget_waiting
from tiny_images import write_images

if TYPE_CHECKING:
    from syn2co.data.batch import Batch
    from syn2co.diagnostics.diagnosis import Diagnosis
    from syn2co.pretraining.config import Config

KINDS = ("interpolated", "extrapolated", "mixup", "noise", "perturbed", "adversarial")
COUNTS = [f"negatives.{kind}=0" for kind in KINDS]
SMALL = [
    *("training.steps=52", "training.precision=float32", "optimizer.warmup_epochs=0.09", "encoder.options.depth=1"),
    *("encoder.options.embed_dim=96", "heads.hidden=128", "heads.width=64", "queue.size=512", "negatives.hardest=64"),
    *(f"negatives.{kind}=12" for kind in KINDS),
    *("machine.device=cpu", "machine.threads=1", "machine.workers=0", "machine.tensorboard=false"),
    *("machine.log_steps=4", "machine.save_steps=1000", "machine.save_minutes=60"),
]
Make = Callable[..., Path]


def diagnosed(run: Path) -> "Diagnosis":
    from syn2co.diagnostics.doctor import doctor

    return doctor(run)


def finding(run: Path, verdict: str) -> Any:
    found = diagnosed(run)
    assert verdict in found.checks, found.text()
    return next(part for part in found.findings if part.check == verdict)


def train(config: "Config", out: Path) -> Path:
    from syn2co.pretraining.train import pretrain

    return pretrain(config, out=out, progress=False).folder


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`real("a.b=c", ...)`: the folder of a real run of the demo recipe, shrunk to 52 small steps; made once."""
    made: dict[tuple[str, ...], Path] = {}

    def make(*assignments: str) -> Path:
        from syn2co.pretraining.recipes import recipe

        if assignments not in made:
            out = tmp_path_factory.mktemp("doctor") / "run"
            made[assignments] = train(recipe("demo").with_settings([*SMALL, *assignments]), out)
            forget_waiting(made[assignments])
        return made[assignments]

    return make


# Real runs


def test_a_run_left_alone_is_healthy(real: Make) -> None:
    found = diagnosed(real())
    assert found.healthy and found.headline == "healthy, negatives on"
    assert all(not part.advice for part in found.findings)


def test_a_huge_temperature_is_flat(real: Make) -> None:
    run = real("training.temperature=50")
    part = finding(run, "flat")
    assert part.evidence["gain"] < 0.005 and part.evidence["embedding_std"] > 0.7  # not collapsed
    assert part.advice == ("set training.temperature=0.2 in a new run: it is 50.0 here",)
    assert not diagnosed(run).healthy


def test_a_huge_weight_decay_collapses_the_features(real: Make) -> None:
    run = real("optimizer.weight_decay=200", "optimizer.base_lr=0.04")
    part = finding(run, "collapsing")
    assert part.evidence["effective_rank"] < 2 and part.evidence["embedding_std"] > 0.7  # BN hides it in the keys
    assert "set optimizer.weight_decay=0.05 in a new run: it is 200.0 here" in part.advice
    assert diagnosed(run).headline.startswith("collapsing")


def test_a_learning_rate_of_nothing_is_frozen(tiny: "Callable[..., Config]", tmp_path: Path) -> None:
    nothing = ("optimizer.base_lr=1e-7", "optimizer.warmup_lr=0", "optimizer.final_lr=0")
    part = finding(train(tiny("training.steps=52", *nothing), tmp_path / "run"), "frozen")
    assert part.evidence["lr_sum"] < 1e-6
    assert part.advice == ("set optimizer.base_lr=0.001 in a new run; it is 1e-07 here",)


def test_slow_reading_is_starved(
    tiny: "Callable[..., Config]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that reads ahead is held back until the loop asks, and then for four times as long as a step took."""
    from syn2co.images.image_set import ImageSet
    from syn2co.pretraining.run import BatchStream

    read, reads, next_step = ImageSet.read, 0, BatchStream.next_step
    asked, handed, busy = threading.Semaphore(0), 0.0, 0.0

    def asking(stream: BatchStream, micro_batches: int) -> "Iterator[Batch]":
        nonlocal handed, busy
        busy = time.monotonic() - handed if handed else 0.0
        asked.release()
        batches = next_step(stream, micro_batches)
        handed = time.monotonic()
        return batches

    def slowly(images: ImageSet, index: int) -> np.ndarray:
        nonlocal reads
        if reads % 8 == 0:  # the first of a batch
            assert asked.acquire(timeout=60)
            time.sleep(4 * busy)
        reads += 1
        return read(images, index)

    config = tiny()
    monkeypatch.setattr(BatchStream, "next_step", asking)
    monkeypatch.setattr(ImageSet, "read", slowly)
    part = finding(train(config, tmp_path / "run"), "starved")
    assert part.evidence["data_wait"] > 0.5
    assert any("--set machine.workers=" in line for line in part.advice)


def test_a_window_at_the_very_end_is_negatives_off(tiny: "Callable[..., Config]", tmp_path: Path) -> None:
    run = train(tiny("training.steps=24", "negatives.start=7.66"), tmp_path / "run")
    part = finding(run, "negatives off")
    assert part.evidence["window_share"] == pytest.approx(0.34 / 8)
    assert part.advice == ("in a new run: --set negatives.start=0.0 --set negatives.stop=null (the whole run)",)


def test_counts_of_zero_under_a_recipe_with_counts_are_negatives_off(
    tiny: "Callable[..., Config]", tmp_path: Path
) -> None:
    config = tiny("training.steps=3", *COUNTS).model_copy(update={"recipe": "synco-cifar10"})
    part = finding(train(config, tmp_path / "run"), "negatives off")
    assert "recipe synco-cifar10 has 576 per query" in part.reason
    assert "--set negatives.mixup=128 --set negatives.noise=64" in part.advice[0]


def test_three_images_mask_a_third_of_the_negatives(tiny: "Callable[..., Config]", tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 3)
    config = tiny("training.batch=3", "training.steps=23", f'data.real=["{images.as_posix()}"]')
    part = finding(train(config, tmp_path / "run"), "masked")
    assert part.evidence["masked_share"] == pytest.approx(1 / 3)
    assert part.advice[0].startswith("set queue.size=3 in a new run")


def test_a_stop_on_a_loss_that_is_not_finite(tiny: "Callable[..., Config]", tmp_path: Path) -> None:
    from syn2co.core.errors import TrainingError

    config = tiny("optimizer.base_lr=1e30")
    with pytest.raises(TrainingError, match="not finite"):
        train(config, tmp_path / "run")
    part = finding(tmp_path / "run", "non-finite")
    assert "nonfinite-step-" in part.advice[0] and "set optimizer.base_lr=" in part.advice[1]
    assert "unfinished" not in diagnosed(tmp_path / "run").checks  # the same command would only stop again


def test_an_interrupted_run_names_the_command_that_ends_it(
    tiny: "Callable[..., Config]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex
    import sys

    import syn2co.pretraining.loop as loop
    from syn2co.cli import main as cli

    step = loop.training_step

    def dies(model: Any, online: Any, batch: Any, place: Any, *args: Any, **named: Any) -> Any:
        if place.step == 8:
            raise RuntimeError("killed")
        return step(model, online, batch, place, *args, **named)

    run = tmp_path / "a run"
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(loop, "training_step", dies)
        train(tiny(), run)
    part = finding(run, "unfinished")
    assert part.reason == "step 8 of 12; nothing is running" and part.advice[0].endswith("(it resumes from step 5)")
    command = shlex.split(part.advice[0].partition("   (")[0])
    monkeypatch.setattr(sys, "argv", [*command, "--quiet"])
    cli.main()
    assert "unfinished" not in diagnosed(run).checks


def test_a_run_that_stopped_early_is_finished(by_hand: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of step 60 of 100, and three scores that are not better than the first."""
    import syn2co.diagnostics.evidence as module

    knn = ["online_knn.every_epochs=1", 'online_knn.train=["a"]', 'online_knn.test=["b"]', "online_knn.patience=3"]
    run, saved = by_hand(tuple(knn), count=6), {"step": 60, "total_steps": 100, "steps_per_epoch": 20}
    monkeypatch.setattr(module, "_checkpoint", lambda run: (saved, [], False, None))
    lines = (run / "metrics.jsonl").read_text()
    for scores, stopped in (([50, 40, 45, 50], True), ([50, 40, 45, 51], False), ([40, 45, 50], False)):
        records = [json.dumps({"step": 60 - n, "epoch": 3, "knn": score}) for n, score in enumerate(scores[::-1])]
        (run / "metrics.jsonl").write_text(lines + "\n".join(records[::-1]) + "\n")
        checks = diagnosed(run).checks
        assert ("stopped early" in checks, "unfinished" in checks) == (stopped, not stopped)
    (run / "metrics.jsonl").write_text(lines + json.dumps({"step": 40, "epoch": 2, "knn": 50.0}) + "\n")
    with open(run / "metrics.jsonl", "a") as file:
        file.writelines(json.dumps({"step": step, "epoch": 3, "knn": 40.0}) + "\n" for step in (45, 50, 55))
    part = finding(run, "stopped early")
    assert (part.level, part.reason) == ("info", "no better k-NN in 3 scores; step 60 of 100")
    monkeypatch.setattr(module, "_checkpoint", lambda run: ({**saved, "step": 50}, [], False, None))
    assert "unfinished" in diagnosed(run).checks, "killed before the checkpoint of the stop: the command goes on"


def test_each_phase_of_a_run_is_judged_by_its_own_records(by_hand: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthetic images were easy, and the loss on the real ones that follow is higher: nothing diverges."""
    import syn2co.diagnostics.evidence as module

    run = by_hand(real_loss=[9.0] * 5 + [13.0] * 5)
    assert "diverging" in diagnosed(run).checks
    saved = {"step": 100, "total_steps": 100, "steps_per_epoch": 20, "mix": {"switch_step": 50}}
    monkeypatch.setattr(module, "_checkpoint", lambda run: (saved, [], False, None))
    assert diagnosed(run).healthy
    assert finding(by_hand(real_loss=[9.0] * 5 + [13.95] * 5, lr=[1e-2] * 5 + [1e-7] * 5), "frozen")


@pytest.mark.parametrize("broken, level", [(3, "info"), (4, "fail")])
def test_broken_images_are_counted(tiny: "Callable[..., Config]", tmp_path: Path, broken: int, level: str) -> None:
    """A few of them are no problem, however small the set."""
    images = write_images(tmp_path / "images", 20)
    for number in range(broken):
        (images / f"broken{number}.png").write_bytes(b"no picture")
    config = tiny("training.steps=3", "data.max_broken_share=0.3", f'data.real=["{images.as_posix()}"]')
    part = finding(train(config, tmp_path / "run"), "broken images")
    assert part.level == level and part.evidence["quarantined"] == broken
    assert part.evidence["share"] == pytest.approx(broken / (20 + broken))


def test_12_bit_values_read_as_16_are_a_finding(tiny: "Callable[..., Config]", tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 20)
    for path in sorted(images.rglob("*.png")):
        deep = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert deep is not None
        cv2.imwrite(str(path), deep.astype(np.uint16) * 16)
    for spec, dark in ((str(images), True), (f"12bit:{images}", False)):
        run = train(tiny("training.steps=3", f'data.real=["{spec}"]'), tmp_path / f"run{dark}")
        checks = diagnosed(run).checks
        assert ("dark images" in checks) is dark
    part = finding(tmp_path / "runTrue", "dark images")
    assert part.level == "warn" and part.evidence == {"dark": 20} and "12bit:SOURCE" in part.advice[0]


def test_a_damaged_checkpoint_is_named(tiny: "Callable[..., Config]", tmp_path: Path) -> None:
    run = train(tiny("training.steps=6"), tmp_path / "run")
    newest = run / "checkpoints" / "step-000000006.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    part = finding(run, "damaged checkpoint")
    assert part.level == "info" and "step-000000006.safetensors does not verify; step 5 does" in part.reason
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"")
    part = finding(run, "damaged checkpoint")
    assert part.level == "fail" and part.evidence["files"] == 2


# Metrics made by hand


@pytest.fixture
def by_hand(tmp_path: Path) -> Make:
    """`by_hand(settings, name=value or list, ...)`: a run folder of ten records, 10 steps apart, 20 steps an epoch."""

    def make(settings: tuple[str, ...] = (), *, count: int = 10, total: int = 100, **changes: Any) -> Path:
        from syn2co.pretraining.recipes import recipe

        config = recipe("demo").with_settings([f"training.steps={total}", "optimizer.warmup_epochs=1", *settings])
        values: dict[str, Any] = {
            "loss": 12.0, "real_loss": 10.0, "uninformative": 14.0, "masked_share": 0.0, "positive": 0.6,
            "embedding_std": 0.8, "feature_std": 0.7, "effective_rank": 20.0, "gradient_norm": 3.0, "lr": 5e-4,
            "synthetic": True, "mass/interpolated": 0.3, "mass/mixup": 0.2,
            "images_per_second": 100.0, "data_wait": 0.02,
        }  # fmt: skip
        values |= {name.replace("__", "/"): value for name, value in changes.items()}
        run = tmp_path / "run"
        run.mkdir(exist_ok=True)
        (run / "config.json").write_text(config.to_json())
        lines = []
        for number in range(count):
            chosen = {k: v[number] if isinstance(v, list) else v for k, v in values.items()}
            lines.append(json.dumps({"step": 10 * number + 10, "epoch": (number + 1) / 2, **chosen}))
        (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        return run

    return make


BORDERS: list[tuple[dict[str, Any], str, bool]] = [
    ({"real_loss": 14 * (1 - 0.021)}, "flat", False),
    ({"real_loss": 14 * (1 - 0.019)}, "flat", True),
    ({"real_loss": 13.9, "lr": 0.9e-6}, "frozen", True),  # sum over 100 steps: 0.00009
    ({"real_loss": 13.9, "lr": 1.1e-6}, "frozen", False),
    ({"real_loss": 13.9, "lr": 1.1e-6}, "flat", True),
    ({"real_loss": 14 * 1.14}, "above its line", False),
    ({"real_loss": 14 * 1.16}, "above its line", True),
    ({"real_loss": 13.9, "effective_rank": 4.9}, "collapsing", True),
    ({"real_loss": 13.9, "effective_rank": 5.1}, "collapsing", False),
    ({"effective_rank": 2.6}, "collapsing", False),  # a low rank of features that solve their task
    ({"effective_rank": 2.4}, "collapsing", True),
    ({"embedding_std": 0.19}, "collapsing", True),
    ({"embedding_std": 0.21}, "collapsing", False),
    ({"feature_std": [1.0] * 7 + [0.24] * 3}, "collapsing", True),
    ({"feature_std": [1.0] * 7 + [0.26] * 3}, "collapsing", False),
    ({"real_loss": [13.0] * 7 + [13.6] * 3}, "diverging", True),  # 60 % of the gain of 1 is lost
    ({"real_loss": [13.0] * 7 + [13.4] * 3}, "diverging", False),
    ({"gradient_norm": [3.0] * 9 + [31.0]}, "unstable", True),
    ({"gradient_norm": [3.0] * 9 + [29.0]}, "unstable", False),
    ({"gradient_norm": [31.0] + [3.0] * 9}, "unstable", False),  # large at the start, as in every run
    ({"data_wait": 0.26}, "starved", True),
    ({"data_wait": 0.24}, "starved", False),
    ({"data_wait": [0.9, 0.9] + [0.02] * 8}, "starved", False),  # the start of the loading processes
    ({"masked_share": 0.21}, "masked", True),
    ({"masked_share": 0.19}, "masked", False),
    ({"mass__interpolated": 0.02, "mass__mixup": 0.005}, "negatives off", True),
    ({"mass__interpolated": 0.03, "mass__mixup": 0.005}, "negatives off", False),
    ({"synthetic": [True] * 5 + [False] * 5}, "negatives off", True),  # no longer, though the window is the whole run
    ({"synthetic": False}, "negatives off", True),
]


@pytest.mark.parametrize(("changes", "verdict", "expected"), BORDERS)
def test_borders(by_hand: Make, changes: dict[str, Any], verdict: str, expected: bool) -> None:
    found = diagnosed(by_hand(**changes))
    assert (verdict in found.checks) == expected, found.text()
    if expected:
        assert not found.healthy
        part = next(part for part in found.findings if part.check == verdict)
        assert part.level == "fail" and part.advice and part.evidence


def test_the_rank_is_expected_to_be_lower_where_there_are_fewer_images(by_hand: Make) -> None:
    low = {"real_loss": 13.9, "effective_rank": 3.0}
    assert "collapsing" in diagnosed(by_hand(**low)).checks
    assert "collapsing" not in diagnosed(by_hand(("training.batch=32",), **low)).checks
    assert "collapsing" not in diagnosed(by_hand(("training.micro_batches=2",), **low)).checks


@pytest.mark.parametrize(("count", "short"), [(0, True), (4, True), (5, False)])
def test_less_than_50_steps_are_too_short_to_tell(by_hand: Make, count: int, short: bool) -> None:
    found = diagnosed(by_hand(count=count))
    assert ("too short to tell" in found.checks) == short
    assert found.healthy != short and "unfinished" in found.checks


def test_a_finished_run_that_is_too_short_is_told_to_train_longer(by_hand: Make) -> None:
    part = finding(by_hand(count=3, total=30), "too short to tell")
    assert part.advice == ("train longer: set training.steps=1000 in a new run",)


def test_a_flat_loss_in_the_warm_up_is_too_early_to_judge(by_hand: Make) -> None:
    part = finding(by_hand(("optimizer.warmup_epochs=10",), total=1000, real_loss=13.9), "too short to tell")
    assert "in the warm-up (step 100 of 200)" in part.reason


def test_a_run_that_ends_in_its_warm_up_is_told_to_shorten_it(by_hand: Make) -> None:
    part = finding(by_hand(("optimizer.warmup_epochs=100",), real_loss=13.9, lr=1e-7), "frozen")
    assert "set optimizer.warmup_epochs=0.5 in a new run" in part.advice[0]


@pytest.mark.parametrize(
    ("epochs", "total", "long"), [(2.5, 100, False), (2.6, 100, True), (5, 100, True), (1, 40, False)]
)
def test_a_warm_up_of_more_than_half_of_the_run_is_not_healthy(
    by_hand: Make, epochs: float, total: int, long: bool
) -> None:
    found = diagnosed(by_hand((f"optimizer.warmup_epochs={epochs}",), total=total))
    assert ("long warm-up" in found.checks) == long and found.healthy != long


def test_a_long_warm_up_says_how_far_the_rate_falls(by_hand: Make) -> None:
    part = finding(
        by_hand(("optimizer.warmup_epochs=2.6",), total=60), "long warm-up"
    )  # 2 / (1 + cos(pi 52/60)) = 23.1
    assert part.reason == (
        "optimizer.warmup_epochs = 2.6 is 52 of 60 steps, and then the learning rate falls 23-fold in one step"
    )
    assert part.advice == ("set optimizer.warmup_epochs=0.3 in a new run, or train longer (training.epochs)",)
    part = finding(by_hand(("optimizer.warmup_epochs=3",), total=60), "long warm-up")
    assert part.reason.endswith("is 60 of 60 steps, and its peak is never reached")


def test_a_window_to_come_or_gone_by_is_a_note(by_hand: Make) -> None:
    found = diagnosed(by_hand(("negatives.start=7", "negatives.stop=9"), total=200, synthetic=False))
    assert found.healthy and "window not open yet" in found.headline
    assert any("step 140" in part.reason for part in found.findings)
    found = diagnosed(by_hand(("negatives.stop=2.5",), synthetic=[True] * 5 + [False] * 5))
    assert found.healthy and found.headline == "healthy, negatives on (window closed)"


def test_plain_moby_is_healthy_without_negatives(by_hand: Make) -> None:
    run = by_hand(COUNTS, synthetic=True)  # the window says nothing where all counts are zero
    values = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**values, "recipe": "moby-cifar10"}))
    found = diagnosed(run)
    assert found.healthy and found.headline == "healthy (no synthetic negatives)"


def test_values_that_were_not_finite_are_left_out(by_hand: Make) -> None:
    run = by_hand(effective_rank=[None, *[20.0] * 9], gradient_norm=[3.0] * 9 + [None])
    assert diagnosed(run).healthy


def test_a_step_that_was_not_finite_once_and_is_past_is_a_note(by_hand: Make) -> None:
    run = by_hand()
    (run / "nonfinite-step-42.json").write_text("{}")
    assert finding(run, "non-finite once").level == "info"
    (run / "nonfinite-step-100.json").write_text("{}")
    assert finding(run, "non-finite").level == "fail"


def test_a_run_at_work_is_said_to_be_running(by_hand: Make) -> None:
    from filelock import FileLock

    run = by_hand(count=6)
    with FileLock(run / ".lock"):
        assert diagnosed(run).headline == "healthy, negatives on (running)"
    assert diagnosed(run).headline == "healthy, negatives on (unfinished)"


def test_text_has_a_headline_marks_and_advice(by_hand: Make) -> None:
    lines = diagnosed(by_hand(data_wait=0.5)).text().splitlines()
    assert lines[0].endswith("run: starved")
    assert (
        "PASS healthy: real-negatives loss 10.00, uninformative line 14.00, 29 % under it; effective rank 20.0" in lines
    )
    assert "FAIL starved: 50 % of the time goes to waiting for images (100 images/s, 200 without)" in lines
    assert any(line.startswith("     -> the same command resumes with --set machine.workers=") for line in lines)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("training.momentum=0.5", "training.momentum=0.99"), ("views.crop_scale=[0.001,1]", "views.crop_scale=[0.2,1.0]")],
)
def test_settings_far_from_the_recipe_are_suspected(by_hand: Make, setting: str, value: str) -> None:
    part = finding(by_hand((setting,), real_loss=13.9), "flat")
    assert len(part.advice) == 1 and part.advice[0].startswith(f"set {value} in a new run")


# The command


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    import sys

    from syn2co.cli import main as cli

    monkeypatch.setattr(sys, "argv", ["syn2co", "doctor", *arguments])
    try:
        cli.main()
    except SystemExit as done:
        return int(done.code or 0)
    return 0


def test_the_command_prints_words_or_json(
    by_hand: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = by_hand(data_wait=0.5)
    assert command(monkeypatch, str(run)) == 0
    assert capsys.readouterr().out == diagnosed(run).text() + "\n"
    assert command(monkeypatch, str(run), "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["healthy"] is False and printed["headline"] == "starved"
    assert [part["check"] for part in printed["findings"]] == ["healthy", "negatives on", "starved"]


@pytest.mark.parametrize(
    ("name", "what"), [("nowhere", "does not exist"), ("empty", "holds no config.json"), ("file", "is a file")]
)
def test_a_path_that_is_no_run_is_one_sentence_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, what: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert command(monkeypatch, str(tmp_path / name)) == 2
    expected = f"ConfigError: RUN {tmp_path / name}: {what}; give the --out folder of a `syn2co pretrain`\n"
    assert capsys.readouterr().err == expected


def test_metrics_that_cannot_be_read_are_one_sentence(by_hand: Make) -> None:
    from syn2co.core.errors import ConfigError

    run = by_hand()
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").mkdir()
    with pytest.raises(ConfigError, match=r"metrics\.jsonl: cannot be read \(Is a directory\); fix that and try again"):
        diagnosed(run)


def test_torn_lines_and_foreign_lines_are_left_out(by_hand: Make) -> None:
    run = by_hand()
    with open(run / "metrics.jsonl", "a") as file:
        file.write('[1]\n{"epoch": 5}\n{"step": 100, "epoch": 5.0, "knn": 61.25}\n{"step": 1')
    found = diagnosed(run)
    assert found.healthy and "k-NN 61.2 %" in found.summary


def test_a_checkpoint_of_another_format_is_a_failure(by_hand: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pretrain` refuses it, so the doctor must not say that the run starts from the beginning as if nothing were."""
    import syn2co.runtime.checkpoint as module

    run = by_hand()
    with monkeypatch.context() as patch:
        patch.setattr(module, "FORMAT", 9)
        module.save_checkpoint(run, 5, {}, {"machine": {"syn2co": "7.0"}}, keep=2)
    part = finding(run, "unreadable checkpoint")
    assert part.level == "fail" and "was written by syn2co 7.0 in checkpoint format 9" in part.reason
