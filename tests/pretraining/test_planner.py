"""What a run will take: operations by hand, checkpoints as they are written, hours by the data sheet."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from syn2co.cli import runs
from syn2co.cli.main import cli
from syn2co.core.errors import ConfigError
from syn2co.data.open import open_images
from syn2co.pretraining import planner, train
from syn2co.pretraining.config import Config
from syn2co.pretraining.device_kinds import KINDS, kind_of
from syn2co.pretraining.operations import CLASSES, count_step
from syn2co.pretraining.planner import (
    HOST_SECONDS,
    SHARE,
    THIS,
    VIEW_PIXEL_SECONDS,
    VIEW_SECONDS,
    estimate,
    forecast,
)
from syn2co.pretraining.recipes import recipe
from syn2co.pretraining.speed import measure_speed
from syn2co.pretraining.train import pretrain

Tiny = Callable[..., Config]


def encoder_by_hand() -> int:
    """Two layers of width 32 on 4 patches of 8 px and a class token, of whose second layer that token alone is made."""
    tokens, width = 5, 32

    def layer(queries: int) -> int:
        attention = 2 * width * (2 * tokens * width + 2 * queries * width) + 2 * 2 * queries * tokens * width
        return attention + 2 * queries * width * (2 * 4 * width)

    return 2 * 4 * (3 * 8 * 8) * width + layer(tokens) + layer(1)


def test_operations_of_a_vision_transformer_by_hand(tiny: Tiny) -> None:
    """Heads of 32 and 16; 60 keys, 11 negatives."""
    encoder, width, hidden, out = encoder_by_hand(), 32, 32, 16
    projector, predictor = 2 * (width * hidden + hidden * out), 2 * (out * hidden + hidden * out)
    online, target = encoder + projector + predictor, encoder + projector
    objective = 4 * 2 * out * (60 + 11)
    assert count_step(tiny()).flops == 2 * (3 * online + target) + objective


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {"patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2, "global_pool": "map"}),
        ("pit_ti_224", {}),
        ("cait_xxs24_224", {"depth": 1, "patch_size": 4}),
    ],
)
def test_networks_that_expand_a_weight_are_counted(tiny: Tiny, name: str, options: dict[str, object]) -> None:
    """Named defect: their runs ended with an AssertionError of torch before the first step."""
    settings = [f"encoder.name={name}", f"encoder.options={json.dumps(options)}", "views.size=32"]
    count = count_step(tiny(*settings))
    assert count.flops > 0 and count.activations > 0


def test_activations_grow_with_images_alone_and_bfloat16_halves_most(tiny: Tiny) -> None:
    whole, half = (count_step(tiny(f"training.precision={name}")) for name in ("float32", "bfloat16"))
    assert 0.4 * whole.activations < half.activations < 0.9 * whole.activations
    assert half.state > whole.state  # the weights once more, in bfloat16


def test_a_checkpoint_is_as_large_as_it_was_said(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny("training.steps=4", "heads.hidden=512")
    run = pretrain(config, out=tmp_path / "run", progress=False).folder
    size = max(path.stat().st_size for path in (run / "checkpoints").glob("*.safetensors"))
    plan = estimate(config, images=26, kind="h100")
    assert plan.disk / config.machine.keep == pytest.approx(size, rel=0.1)


def test_hours_are_operations_over_the_rate_of_the_data_sheet() -> None:
    settings = ["training.steps=1000"]
    one, eight = (estimate("synco-deit-s", images=5120, kind="a100", gpus=n, settings=settings) for n in (1, 8))
    flops = count_step(recipe("synco-deit-s")).flops * 1000 * 512
    assert one.seconds == pytest.approx(flops / (SHARE["bfloat16"] * KINDS["a100"].bfloat16 * 1e12))
    assert eight.seconds == pytest.approx(one.seconds / 8)
    assert (one.steps, one.epochs, one.images) == (1000, 100.0, 5120)
    assert (
        "1,000 steps of 512 images, 100 epochs of 5,120" in one.text()
        and "20% of 312 TFLOP/s (a100, bfloat16; the rate by its data sheet, the share assumed)" in one.text()
    )
    assert f"{one.images_per_second * (VIEW_SECONDS + VIEW_PIXEL_SECONDS * 224**2):.1f} cores per GPU" in one.text()


def test_a_gpu_that_only_emulates_bfloat16_computes_in_float32() -> None:
    emulated, plain = (
        estimate("synco-deit-s", images=50_000, kind="v100", settings=f"training.precision={name}")
        for name in ("bfloat16", "float32")
    )
    assert (
        emulated.seconds == plain.seconds and "it computes in float32: v100 only emulates bfloat16" in emulated.text()
    )


def test_bfloat16_that_a_gpu_is_to_emulate_has_no_hours() -> None:
    forced = ["training.precision=bfloat16", "machine.emulate_bfloat16=true"]
    plan = estimate("synco-deit-s", images=50_000, kind="v100", settings=forced)
    assert plan.seconds is None and plan.memory > 0
    assert "no hours: no data sheet has the speed of bfloat16 that is emulated" in plan.text()
    assert "computes in" not in plan.text()


def test_a_small_network_is_as_fast_as_its_kernels_start(tiny: Tiny) -> None:
    """Whatever the GPUs and their number, and twice as slow in twice the micro-batches."""
    one, eight, halves = (
        estimate(tiny("training.steps=1000", f"training.micro_batches={parts}"), images=800, kind="h100", gpus=gpus)
        for parts, gpus in ((1, 1), (1, 8), (2, 1))
    )
    kernels = count_step(tiny()).kernels
    assert one.seconds == eight.seconds == pytest.approx(1000 * kernels * HOST_SECONDS)
    assert halves.seconds == pytest.approx(2 * one.seconds)
    assert (
        f"the host starts {kernels:,} kernels per forward and backward pass, 10 us each, longer than 50% of 67"
        in one.text()
    )
    assert "the share assumed" in one.text() and "no GPU was timed" in one.text()
    assert "ms per image from a JPEG of 500 x 375 on one core of an AMD EPYC, more from larger files" in one.text()
    assert "disk: the checkpoints that are kept, and one more while it is saved" in one.text()


def test_kernels_grow_with_layers_alone(tiny: Tiny) -> None:
    two, three, four = (count_step(tiny(f"encoder.options.depth={depth}")).kernels for depth in (2, 3, 4))
    assert four - three == three - two > 4 * 10  # of a layer, in four passes: products, norms, softmax, GELU, sums
    assert count_step(tiny("training.batch=16")).kernels == count_step(tiny()).kernels
    assert count_step(tiny("training.precision=bfloat16")).kernels > count_step(tiny()).kernels  # casts


def test_epochs_are_counted_in_whole_batches(tiny: Tiny, image_folder: Path) -> None:
    config = tiny("training.steps=null", "training.epochs=4")
    assert estimate(config, kind="l4").steps == 12  # three batches of 8 of 26 images
    assert estimate(config, real=image_folder / "class-1", kind="l4").images < 26


def test_an_epoch_is_what_the_mix_makes_of_it(tiny: Tiny, image_folder: Path) -> None:
    made = 'data.synthetic=["procedural:mix:40:16"]'
    union, half = (tiny(made, *more) for more in (("mix.mode=union",), ("mix.ratio=0.5", "mix.max_real=16")))
    assert estimate(union, kind="l4").images == 66 and estimate(half, kind="l4").images == 16


def test_a_supervised_run_has_one_branch_and_no_queues(tiny: Tiny) -> None:
    supervised = ("training.objective=supervised", "negatives=none")
    labeled, unlabeled = count_step(tiny(*supervised)), count_step(tiny())
    assert (
        labeled.flops == 2 * 3 * (encoder_by_hand() + 2 * 32 * CLASSES) and labeled.parameters == unlabeled.parameters
    )
    assert estimate(tiny(*supervised, "views.size=32"), images=26).images_per_second > 0


def test_what_does_not_fit_names_the_micro_batches_that_do() -> None:
    whole = estimate("synco-deit-s", images=50_000, kind="t4", settings="training.precision=float32")
    assert whole.available is not None and whole.memory > whole.available and whole.micro_batches is not None
    assert f"does not fit: set training.micro_batches={whole.micro_batches}" in whole.text()
    on_six = estimate("syn2co-deit-s", images=50_000, kind="t4", gpus=6, settings="training.batch=1536")
    assert on_six.micro_batches is None or 1536 % (6 * on_six.micro_batches) == 0
    settings = ["training.precision=float32", f"training.micro_batches={whole.micro_batches}"]
    split = estimate("synco-deit-s", images=50_000, kind="t4", settings=settings)
    assert split.memory <= whole.available and split.micro_batches is None and "does not fit" not in split.text()


def test_without_a_kind_the_speed_is_that_of_real_steps_here(tiny: Tiny) -> None:
    plan = estimate(tiny("views.size=32", "training.steps=10"), images=26)
    assert plan.kind == THIS and plan.available is None and plan.images_per_second > 0
    assert "12 steps on patches of photographs here" in plan.text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"images": 26, "kind": "h10"}, r"kind = h10: is no known kind of GPU; did you mean h100\?"),
        ({"images": 26, "gpus": 4}, "gpus = 4: must be at least 1, and more need their kind"),
        ({"images": 4, "kind": "h100"}, "training.batch = 8: is more than 4 images; set a smaller one"),
        ({"images": 26, "kind": "h100", "gpus": 3}, "batch = 8: must divide by GPUs x micro-batches = 3 x 1"),
        (
            {"real": "builtin:digits:test", "kind": "h100", "settings": 'data.real=["photos"]'},
            "--set data.real: the sources are named by --real too; name them there alone",
        ),
    ],
)
def test_what_cannot_be_is_refused(tiny: Tiny, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        estimate(tiny(), **options)  # type: ignore[arg-type]


def test_the_command() -> None:
    words = ["estimate", "synco-cifar10", "--kind", "h100"]
    done = CliRunner().invoke(cli, [*words, "--images", "50000", "--json"])
    assert done.exit_code == 0 and '"kind": "h100"' in done.output
    assert isinstance(CliRunner().invoke(cli, words).exception, ConfigError)
    assert "give either RECIPE or --config FILE" in CliRunner().invoke(cli, ["estimate"]).output


def test_a_run_that_is_worth_it_begins_with_its_estimate(
    tiny: Tiny, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Timed steps may take a hundredth of a run; 12 of 8 images are worth it from 1,200 steps on."""
    config = tiny("views.size=32", f"data.real={json.dumps([str(image_folder)])}")
    assert forecast(config.with_settings(["training.steps=1199"]), tmp_path) is None
    monkeypatch.setattr(planner, "_measured", lambda *_: 100.0)
    long = config.with_settings(["training.steps=1200"])
    expected = forecast(long, tmp_path)
    assert expected is not None and expected.seconds == 1200 * 8 / 100
    (tmp_path / "config.json").write_text(long.to_json())
    monkeypatch.setattr(runs, "_config", lambda *_: tmp_path / "config.json")
    monkeypatch.setattr(train, "pretrain", lambda *_, **__: train.FinishedRun(tmp_path, 0, {}))
    words = ["pretrain", "--config", "x", "--out", str(tmp_path / "run")]
    assert "1,200 steps of 8 images" in CliRunner().invoke(cli, words).output
    assert "1,200 steps" not in CliRunner().invoke(cli, [*words, "--quiet"]).output
    monkeypatch.setattr(planner, "MOST_TRIAL_FLOPS", 1e6)
    slow = forecast(long, tmp_path / "new")
    assert slow is not None and slow.seconds is None and slow.memory == expected.memory
    assert slow.text().startswith("1,200 steps of 8 images, 400 epochs of 26 (9,600 images, ")
    assert "no hours: timing a few steps would take minutes here; `syn2co estimate` does" in slow.text()
    with monkeypatch.context() as patch:
        patch.setattr(planner, "count_step", None)  # a second that three steps are not worth
        assert forecast(config.with_settings(["training.steps=3"]), tmp_path / "new") is None, "no word of a short run"
    shared = forecast(long, tmp_path / "new", ranks=2)
    assert shared is not None and "no hours: steps are timed in one process alone" in shared.text()
    assert 0 < slow.memory - shared.memory < slow.memory - planner._CONTEXT


@pytest.mark.parametrize(("name", "gib", "kind"), [
    ("NVIDIA H100 80GB HBM3", 79.1, "h100"),
    ("NVIDIA H200", 139.7, "h200"),
    ("NVIDIA A100-SXM4-80GB", 79.2, "a100"),
    ("NVIDIA A100-SXM4-40GB", 39.4, None),  # half the memory of the sheet
    ("NVIDIA L40S", 44.4, "l40s"),
    ("Tesla T4", 14.6, "t4"),
    ("Tesla V100-SXM2-32GB", 31.7, "v100"),
    ("NVIDIA GeForce RTX 4090", 23.5, "rtx4090"),
    ("NVIDIA GeForce RTX 4090 Laptop GPU", 15.7, None),
    ("NVIDIA RTX A1000", 7.7, None),
])  # fmt: skip
def test_a_gpu_is_known_by_its_name_and_memory(
    name: str, gib: float, kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = SimpleNamespace(name=name, total_memory=int(gib * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    assert kind_of(torch.device("cuda", 0)) == kind


def test_several_ranks_on_known_gpus_begin_with_the_hours_of_the_data_sheet(
    tiny: Tiny, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("views.size=32", f"data.real={json.dumps([str(image_folder)])}", "training.steps=1200")
    monkeypatch.setattr(planner, "kind_of", lambda _: "h100")
    begun = forecast(config, tmp_path / "new", ranks=2)
    assert begun == estimate(config, kind="h100", gpus=2) and begun.seconds
    assert "on 2 x h100: 1,200 steps" in begun.text() and "no GPU was timed" in begun.text()


@pytest.mark.parametrize(("rank", "wrong", "said"), [("0", False, True), ("1", False, False), ("0", True, False)])
def test_the_first_of_several_ranks_says_it_and_leaves_refusals_to_all(
    rank: str, wrong: bool, said: bool, tiny: Tiny, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank that refused the images before the run would leave the others waiting for it."""
    sources = json.dumps([str(tmp_path / "gone" if wrong else image_folder)])
    (tmp_path / "config.json").write_text(tiny("training.steps=1200", f"data.real={sources}").to_json())
    monkeypatch.setattr(runs, "_config", lambda *_: tmp_path / "config.json")
    monkeypatch.setattr(train, "pretrain", lambda *_, **__: train.FinishedRun(tmp_path, 0, {}))
    place = {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    done = CliRunner(env=place).invoke(cli, ["pretrain", "--config", "x", "--out", str(tmp_path / "run")])
    assert done.exit_code == 0 and ("no hours: steps are timed in one process alone" in done.output) == said


def test_steps_that_are_timed_write_no_checkpoints_and_all_but_the_first_ones_count(tiny: Tiny) -> None:
    """Named defect: with machine.save_steps=1 the time of a step was that of its checkpoint."""
    timed: list[Config] = []

    def trial(config: Config, out: Path) -> None:
        timed.append(config)
        out.mkdir()
        speeds = (99.0, 12.0, 6.0)  # the first ones warm up, and the last ones were slowed by something else
        lines = (
            json.dumps({"step": 4 * number, "epoch": 4 / 3 * number, "images_per_second": speed})
            for number, speed in enumerate(speeds, 1)
        )
        (out / "metrics.jsonl").write_text("\n".join(lines) + "\n")

    assert measure_speed(tiny("machine.save_steps=1", "machine.save_minutes=0.01"), trial).seconds == 1
    assert timed[0].machine.save_steps is None and timed[0].machine.save_minutes >= 60


@pytest.mark.parametrize("name", ["a-file", "closed"])
def test_a_folder_that_will_be_refused_is_not_looked_into(
    name: str, tiny: Tiny, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named defect: a file as --out, or a folder without leave to list it, ended in a traceback."""
    (tmp_path / "a-file").touch()
    (tmp_path / "closed").mkdir()
    listed = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    sources = f"data.real={json.dumps([str(image_folder)])}"
    assert forecast(tiny("views.size=32", "training.steps=5000", sources), tmp_path / name) is None


def test_on_a_gpu_a_whole_micro_batch_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named defect: six images of DeiT-S are too few for a GPU, which starts kernels for longer than it computes."""
    monkeypatch.setattr(planner, "_on_cpu", lambda _: False)
    config = recipe("synco-deit-s").with_settings(["training.batch=512", "training.micro_batches=2"])
    assert planner._trial_batch(config, count_step(config)) == 256
    assert len(open_images(planner.TRIAL_IMAGES, cache="never")) >= planner.MOST_TRIAL_IMAGES
    monkeypatch.setattr(planner, "MOST_TRIAL_IMAGES", 100)
    assert planner._trial_batch(config, count_step(config)) == 100


def test_float64_takes_twice_the_bytes(tiny: Tiny) -> None:
    single, double = (count_step(tiny(f"training.precision={name}")) for name in ("float32", "float64"))
    assert (double.state, double.checkpoint) == (2 * single.state, 2 * single.checkpoint)
    assert double.activations == 2 * single.activations


def test_computing_again_is_named_only_where_it_makes_the_run_fit(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("encoder.options.depth=4", "training.batch=26")
    kept, again = (
        count_step(config.with_settings([f"machine.activation_checkpointing={word}"])) for word in ("false", "true")
    )

    def said(memory: float, *settings: str) -> str:
        monkeypatch.setitem(KINDS, "t4", KINDS["t4"]._replace(memory=memory / 1e9))
        return estimate(config.with_settings([*settings]), images=26, kind="t4").text()

    whole, recomputing, least = (planner._memory(count, rows) for count, rows in ((kept, 26), (again, 26), (again, 2)))
    assert "does not fit" not in said(whole)
    cures = "set training.micro_batches=2 or machine.activation_checkpointing=true, or take more devices"
    assert cures in said(max(recomputing, planner._memory(kept, 13)))
    assert "checkpointing" not in said(recomputing - 1) and "micro_batches=13" in said(planner._memory(kept, 2))
    assert "does not fit: a smaller training.batch or more devices" in said(
        least - 1, "machine.activation_checkpointing=true"
    )


def test_a_large_encoder_is_timed_on_few_images() -> None:
    """Named defect: DeiT-S, which takes days, began without its estimate. 12 steps stay below a minute."""
    batches = {name: planner._trial_batch(recipe(name), count_step(recipe(name))) for name in ("synco-deit-s", "demo")}
    assert batches == {"synco-deit-s": 6, "demo": 64}


def test_activations_that_are_computed_again_take_less_memory_and_a_pass_more(tiny: Tiny) -> None:
    """Of four blocks one is kept at a time, beside what goes into each."""
    kept, again = (
        count_step(tiny("encoder.options.depth=4", f"machine.activation_checkpointing={word}"))
        for word in ("false", "true")
    )
    assert 0.2 * kept.activations < again.activations < 0.7 * kept.activations
    assert 1.2 < again.flops / kept.flops < 4 / 3


def test_blocks_of_any_name_are_computed_again(tiny: Tiny) -> None:
    """Named defect: those of MLP-Mixer have another name, and the setting was said to cost memory."""
    settings = ("encoder.name=mixer_s32_224", "encoder.options={}", "encoder.drop_path=0", "views.size=64")
    kept, again = (
        count_step(tiny(*settings, f"machine.activation_checkpointing={word}")) for word in ("false", "true")
    )
    assert 0.05 * kept.activations < again.activations < 0.5 * kept.activations
