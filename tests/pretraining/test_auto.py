"""The recipe auto: what it chooses from images and machine, that it says so, and that a run keeps it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from syn2co.core.errors import ConfigError
from syn2co.data.open import open_images
from syn2co.pretraining import auto
from syn2co.pretraining import train as train_module
from syn2co.pretraining.auto import Auto, Surroundings, choose, chosen_config
from syn2co.pretraining.config import Config, load_config
from syn2co.pretraining.speed import StepSpeed, measure_speed
from syn2co.pretraining.train import pretrain

SMALL = (
    "encoder.name=vit_tiny_patch16_224",
    'encoder.options={"patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}',
    "heads.hidden=32", "heads.width=16", "views.size=16", "training.steps=2", "machine.device=cpu", "machine.threads=1",
    "machine.workers=0", "machine.tensorboard=false",
)  # fmt: skip


@pytest.mark.parametrize(
    ("images", "side", "device", "size", "batch", "queue", "epochs"),
    [
        (300, 512, "cpu", 64, 16, 256, 200),
        (3_000, 512, "cpu", 64, 128, 2048, 67),
        (30_000, 512, "cpu", 64, 128, 4096, 15),
        (30_000, 32, "cpu", 32, 128, 4096, 15),
        (3_000, 512, "cuda", 224, 128, 2048, 300),
        (1_281_167, 375, "cuda", 224, 512, 4096, 300),
    ],
)
def test_sizes_follow_the_images_and_the_machine(
    images: int, side: int, device: str, size: int, batch: int, queue: int, epochs: int
) -> None:
    config = choose(Surroundings(images, side, device, True)).config
    chosen = (config.views.size, config.training.batch, config.queue.size, config.training.epochs)
    assert chosen == (size, batch, queue, epochs)
    small = "deit_small_patch16_224" not in config.encoder.name
    assert small == (images < 100_000)


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("side", [8, 32, 100, 160, 4000])
@pytest.mark.parametrize("images", [2, 5, 40, 300, 30_000, 100_000, 1_300_000])
def test_every_choice_is_an_ordinary_config(images: int, side: int, device: str) -> None:
    config, reasons = choose(Surroundings(images, side, device, False))
    assert Config.parse(config.model_dump(mode="json")) == config
    assert config.recipe == "auto" and config.training.precision == "float32"
    assert config.training.batch <= images and config.queue.size <= max(images, 2 * config.training.batch)
    assert config.views.size <= max(32, 1.25 * side)
    assert 0 < config.optimizer.warmup_epochs <= config.training.epochs / 20
    for path in ("views.size", "training.batch", "queue.size", "training.epochs", "training.precision"):
        group, name = path.split(".")
        value = getattr(getattr(config, group), name)
        shown = f"{value:g}" if isinstance(value, float) else value
        assert any(reason.startswith(f"{path} = {shown}: ") for reason in reasons)


def test_a_run_says_what_was_chosen_and_keeps_it(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pretrain(out=tmp_path / "run", real=image_folder, settings=SMALL, progress=False)
    said = capsys.readouterr().err
    assert "note: auto: 26 images, shorter side" in said and "note: auto: training.batch = 8: " in said
    assert "note: auto: views.size=16: as you set it" in said and "auto: views.size = " not in said
    assert "note: auto: heads.hidden=32: as you set it" in said and "for 2 steps, by 12 steps that were timed" in said
    config = load_config(run.folder / "config.json")
    assert (config.recipe, config.training.batch, config.data.real) == ("auto", 8, (str(image_folder),))
    other = pretrain(config, out=tmp_path / "other", progress=False)  # what it chose is an ordinary config
    losses = [json.loads((r.folder / "metrics.jsonl").read_text().splitlines()[-1])["loss"] for r in (run, other)]
    assert losses[0] == losses[1]
    monkeypatch.setattr(auto, "look", lambda *_: pytest.fail("a begun run keeps what was chosen"))
    again = pretrain(Auto(budget=60.0), out=tmp_path / "run", real=image_folder, settings=SMALL, progress=False)
    said = capsys.readouterr().err
    assert again.steps == 2 and "the run in run has begun and keeps its length; the budget is not used again" in said
    pretrain(out=tmp_path / "run", real=image_folder, settings=SMALL, progress=False)
    assert "auto" not in capsys.readouterr().err
    with pytest.raises(ConfigError, match="holds a run of another config"):
        pretrain(out=tmp_path / "run", real=image_folder, settings=[*SMALL, "seed=5"], progress=False)


@pytest.mark.parametrize("native", [True, False])
def test_a_cpu_without_bfloat16_trains_in_float32(
    native: bool, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: native, raising=False)
    data = Config().data.model_copy(update={"real": (str(image_folder),)})
    choice = auto.choose(auto.look(data, Config().machine.model_copy(update={"device": "cpu"})))
    precision = "bfloat16" if native else "float32"
    assert choice.config.training.precision == precision
    assert any(line.startswith(f"training.precision = {precision}: the device ") for line in choice.reasons)


def _chosen(monkeypatch: pytest.MonkeyPatch, around: Surroundings, budget: float, *settings: str) -> Config:
    """Return the config for a budget on a machine that takes two seconds per step."""
    monkeypatch.setattr(auto, "look", lambda *_: around)
    monkeypatch.setattr(auto, "measure_speed", lambda *_: StepSpeed(2.0, 10))
    return chosen_config(Auto(budget), Config().data, settings, trial=lambda *_: None)


def test_a_budget_fits_the_steps_to_the_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _chosen(monkeypatch, Surroundings(3000, 512, "cpu", True), 1000.0)
    assert (config.training.steps, config.training.epochs) == (450, 45)  # 0.9 of 1000 s in steps of 2 s, 10 per epoch
    assert config.optimizer.warmup_epochs == pytest.approx(67 / 20 * 45 / 67)
    assert "about 0:15:00 for 450 steps" in capsys.readouterr().err


def test_a_budget_moves_the_window_along(monkeypatch: pytest.MonkeyPatch) -> None:
    config = _chosen(monkeypatch, Surroundings(1_281_167, 375, "cuda", True), 2000.0)  # 90 of 300 epochs
    assert (config.negatives.start, config.negatives.stop) == pytest.approx((9, 30))
    assert Config.parse(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("budget", "settings", "sentence"),
    [
        (2.0, (), "budget = 2 seconds: is less than one step takes; give more"),
        (60.0, ("training.steps=3",), "training.steps = 3: is the length beside a budget; give one of them"),
    ],
)
def test_budgets_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, budget: float, settings: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        _chosen(monkeypatch, Surroundings(300, 64, "cpu", True), budget, *settings)


def test_a_budget_is_refused_under_torchrun(launched: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    launched(WORLD_SIZE=2)
    with pytest.raises(ConfigError, match="budget: is timed in one process, not under torchrun; set training.steps"):
        _chosen(monkeypatch, Surroundings(300, 64, "cpu", True), 60.0)


def test_a_speed_is_measured_without_the_weights_to_begin_with(tmp_path: Path) -> None:
    """They change no time, and a pickle among them is read only if the run itself is told to trust it."""
    timed: list[Config] = []

    def trial(config: Config, out: Path) -> None:
        timed.append(config)
        raise ConfigError("seen")

    config = Config(init_from="weights.pth", init_hash="0" * 32)
    with pytest.raises(ConfigError, match="seen"):
        measure_speed(config, trial)
    assert timed[0].init_from is None and timed[0].init_hash is None


@pytest.mark.parametrize("warm", [True, False])
def test_steps_that_are_timed_find_their_images_decoded(
    warm: bool, tiny: Callable[..., Config], image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time images are kept when they are first read: a run of 12 steps would time the decoding."""
    open_images(image_folder)
    kept: list[int] = []
    loop = train_module.train
    monkeypatch.setattr(
        train_module,
        "train",
        lambda run, state: kept.append(run.average_and_check.images.nbytes_cache) or loop(run, state),
    )
    train_module._begin_or_resume(tiny("training.steps=1", "negatives.start=0"), tmp_path / "run", warm=warm)
    assert kept == [8 * 20 * 24 * 3 if warm else 0]
