"""The flow: keyed training that resumes bit for bit, samples that stand alone, variations, a folder that is guarded."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from syn2co.core.errors import CheckpointError, ConfigError, DataError, SynthesisError, TrainingError
from syn2co.data.open import open_images
from syn2co.images.image_set import ImageSet
from syn2co.runtime.checkpoint import FOLDER
from syn2co.synthesis.generation.generate import generate
from syn2co.synthesis.generation.replay import replay
from syn2co.synthesis.generators.flow import model as flow_model
from syn2co.synthesis.generators.flow import training as flow_training
from syn2co.synthesis.generators.flow.generator import open_generator
from syn2co.synthesis.generators.flow.network import Velocity, build_velocity
from syn2co.synthesis.generators.flow.options import FlowOptions
from syn2co.synthesis.generators.flow.sampling import euler, to_pixels
from syn2co.synthesis.generators.flow.training import draw_batch, to_unit
from syn2co.synthesis.sets.job import Job, make_job
from syn2co.synthesis.sets.settings import SynthesisSettings
from syn2co.synthesis.sets.spec import Context, Generator

SIZE = 8
TINY = FlowOptions(
    clusters=2, channels=(32,), steps=6, batch=4, warmup=2, save_steps=2, sampling_steps=4, attention=False
)  # fmt: skip


def _write(folder: Path) -> Path:
    """24 pictures of 2 x 3 patches around one color, red and blue, 10 x 12 pixels."""
    for number in range(24):
        rng = np.random.default_rng(number)
        name, color = (("red", (180, 60, 40)), ("blue", (40, 60, 180)))[number % 2]
        patches = np.array(color) + rng.normal(0, 40, (2, 3, 3))
        pixels = patches.repeat(5, axis=0).repeat(4, axis=1) + rng.normal(0, 6, (10, 12, 3))
        (folder / name).mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / name / f"{number}.png"), pixels.clip(0, 255).astype(np.uint8)[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("patches"))


@pytest.fixture(scope="module")
def real(folder: Path) -> ImageSet:
    return open_images(folder)


@pytest.fixture(scope="module")
def trained(real: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Generator, Path]:
    """A finished flow and its folder; not to be changed."""
    place = tmp_path_factory.mktemp("trained") / "model"
    return open_generator(TINY, Context(size=SIZE, real=real, folder=place)), place


@pytest.fixture
def model(trained: tuple[Generator, Path], tmp_path: Path) -> Path:
    """A copy of the finished model's folder."""
    import shutil

    return shutil.copytree(trained[1], tmp_path / "model")


def _jobs(count: int, **named) -> list[Job]:
    return [make_job("recipe", "", k, **named) for k in range(count)]


def _with(options: FlowOptions = TINY, **changes) -> FlowOptions:
    return FlowOptions.model_validate({**options.model_dump(), **changes})


def _weights(folder: Path) -> bytes:
    return (folder / flow_model.FILE).read_bytes()


# Training


class _Killed(Exception):
    pass


def _killed_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """End the training hard when the batch of `step` is drawn."""

    def draw(*args):
        if args[-1] == step:
            raise _Killed
        return draw_batch(*args)

    monkeypatch.setattr(flow_training, "draw_batch", draw)


@pytest.mark.parametrize("step", range(1, 6))
def test_a_run_killed_at_any_step_ends_bit_for_bit_like_one_that_was_not(step, real, trained, tmp_path, monkeypatch):
    place = tmp_path / "model"
    with monkeypatch.context() as patch, pytest.raises(_Killed):
        _killed_at(patch, step)
        open_generator(TINY, Context(size=SIZE, real=real, folder=place))
    assert not (place / flow_model.FILE).exists()
    steps: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(flow_training, "draw_batch", lambda *args: (steps.append(args[-1]), draw_batch(*args))[1])
        again = open_generator(TINY, Context(size=SIZE, real=real, folder=place))
    assert steps == list(range(step // 2 * 2, 6)), "it went on from the newest checkpoint"
    assert _weights(place) == _weights(trained[1]) and again.metadata == trained[0].metadata
    assert not (place / FOLDER).exists()


def test_a_run_without_a_folder_gives_the_same_model(real, trained):
    assert open_generator(TINY, Context(size=SIZE, real=real)).metadata == trained[0].metadata


@pytest.mark.parametrize("number, leaves", [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_an_interrupted_run_saves_and_the_same_call_goes_on(number, leaves, real, trained, tmp_path, monkeypatch):
    options, place = _with(save_steps=1000), tmp_path / "model"

    def draw(*args):
        if args[-1] == 3:
            os.kill(os.getpid(), number)
        return draw_batch(*args)

    with monkeypatch.context() as patch, pytest.raises(leaves) as caught:
        patch.setattr(flow_training, "draw_batch", draw)
        open_generator(options, Context(size=SIZE, real=real, folder=place))
    assert leaves is KeyboardInterrupt or caught.value.code == 128 + signal.SIGTERM
    assert [path.name for path in (place / FOLDER).iterdir()] == ["step-000000004.safetensors"]
    open_generator(options, Context(size=SIZE, real=real, folder=place))
    assert _weights(place) == _weights(trained[1])


def test_the_draws_of_a_step_are_its_own(real):
    pixels = np.arange(24, dtype=np.uint8)[:, None, None, None] * np.ones((24, SIZE, SIZE, 3), np.uint8)
    conditions = np.arange(24) % 2

    def rows(step: int) -> list[int]:
        _, x1, _, _ = draw_batch(pixels, conditions, TINY, 2, 0, step)
        return ((x1[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()

    epoch = [row for step in range(6) for row in rows(step)]
    assert sorted(epoch) == list(range(24)), "every image once an epoch"
    assert [row for step in range(6, 12) for row in rows(step)] != epoch
    one, two, other = (list(draw_batch(pixels, conditions, TINY, 2, 0, step)) for step in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0], other[0]) and not torch.equal(one[2], other[2])


def test_times_are_logit_normal_and_a_tenth_of_the_labels_is_dropped():
    pixels = np.zeros((50, SIZE, SIZE, 3), np.uint8)
    pixels[:, :, 0] = 255
    _, x1, t, condition = draw_batch(pixels, np.arange(50) % 4, _with(batch=4000), 4, 0, 0)
    logits = torch.log(t / (1 - t))
    assert abs(logits.mean()) < 0.06 and abs(logits.std() - 1) < 0.04  # 4 standard errors of 4000
    assert abs((condition == 4).float().mean() - 0.1) < 0.02
    mirrored = (x1[:, 0, 0, 0] < 0).float().mean()
    assert abs(mirrored - 0.5) < 0.035
    _, x1, _, condition = draw_batch(pixels, np.arange(50) % 4, _with(batch=400, flip=False, label_drop=0), 4, 0, 0)
    assert (x1[:, 0, 0, 0] == 1).all() and (condition < 4).all()


def test_training_learns(real):
    """The loss on fixed draws falls below that of the linear guess that the network starts from."""
    pixels = np.stack([cv2.resize(real.read(index), (SIZE, SIZE)) for index in range(len(real))])
    velocity = build_velocity(size=SIZE, channels=(32,), blocks=1, attention=False, conditions=2, seed=0)
    labels = np.asarray(real.labels)
    recipe = _with(steps=40, batch=16)
    named = {"seed": 0, "folder": None, "state": {}, "progress": False}
    mean = flow_training.train(velocity, pixels, labels, recipe, **named)
    x0, x1, t, condition = draw_batch(pixels, labels, _with(batch=200), 2, 1, 0)
    spread = t[:, None, None, None]
    mixed, target = (1 - spread) * x0 + spread * x1, x1 - x0
    with torch.no_grad():
        learned = (mean(mixed, t, condition) - target).square().mean()
        linear = (mean.linear(mixed, t) - target).square().mean()
        nothing = (mixed * 0 - target).square().mean()
    assert linear < 0.6 * nothing
    assert learned < 0.98 * linear


def test_a_loss_that_is_not_finite_stops_with_advice(real, tmp_path, monkeypatch):
    def poisoned(*args):
        x0, x1, t, condition = draw_batch(*args)
        return x0, x1 * (float("nan") if args[-1] == 3 else 1.0), t, condition

    monkeypatch.setattr(flow_training, "draw_batch", poisoned)
    with pytest.raises(TrainingError, match="loss and gradient of the flow at step 3: not finite, so .*; lower lr"):
        open_generator(TINY, Context(size=SIZE, real=real, folder=tmp_path))
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["step-000000002.safetensors"]


# The network


class _Nothing(torch.nn.Module):
    """A network that adds nothing to the linear guess."""

    def forward(self, x, timestep, class_labels):
        from types import SimpleNamespace

        return SimpleNamespace(sample=torch.zeros_like(x))


def test_the_linear_part_alone_carries_noise_to_the_colors_and_spectrum_of_the_data():
    rng = np.random.default_rng(0)
    f = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None, :])
    f[0, 0] = 1 / SIZE
    waves = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((3000, 3, SIZE, SIZE))) * 0.02 / f, s=(SIZE, SIZE))
    colors = np.array([[1, 0.2, 0], [1, 0, 0.3], [1, -0.2, -0.3]])
    images = torch.from_numpy(np.einsum("ij,bjhw->bihw", colors, waves) + [[[0.1]], [[-0.2]], [[0.3]]]).float()
    velocity = Velocity(_Nothing(), SIZE, null=1)
    velocity.measure(iter(images.split(500)))
    noise = torch.from_numpy(rng.standard_normal((3000, 3, SIZE, SIZE), dtype=np.float32))
    zeros = torch.zeros(3000)
    made = euler(velocity, noise, zeros, zeros.long(), steps=100, guidance=1.0)
    for statistic in (_means, _covariance, _power):
        np.testing.assert_allclose(statistic(made), statistic(images), rtol=0.12, atol=0.012)


def _means(images: torch.Tensor) -> np.ndarray:
    return images.mean((0, 2, 3)).numpy()


def _covariance(images: torch.Tensor) -> np.ndarray:
    return np.cov(images.permute(1, 0, 2, 3).flatten(1).numpy())


def _power(images: torch.Tensor) -> np.ndarray:
    gray = images.mean(1) - images.mean((0, 1, 2, 3))
    return torch.fft.rfft2(gray, norm="ortho").abs().square().mean(0).numpy()


def test_guidance_goes_along_the_difference_to_the_null_condition():
    class Constant(torch.nn.Module):
        null = 7

        def forward(self, x, t, condition):
            return torch.where(condition == 7, 1.0, 3.0)[:, None, None, None].expand_as(x)

    x, zeros = torch.zeros(2, 3, 4, 4), torch.zeros(2)
    ended = euler(Constant(), x, zeros, zeros.long(), steps=5, guidance=1.5)  # type: ignore[arg-type]
    torch.testing.assert_close(ended, torch.full_like(x, 4.0))  # 1 + 1.5 (3 - 1)
    halfway = euler(Constant(), x, zeros + 0.5, zeros.long(), steps=5, guidance=1.0)  # type: ignore[arg-type]
    torch.testing.assert_close(halfway, torch.full_like(x, 1.5))  # 3 for half of the time


def test_pixels_survive_the_unit_interval():
    pixels = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    np.testing.assert_array_equal(to_pixels(to_unit(pixels)), pixels)


# Sampling


def test_a_sample_does_not_depend_on_its_batch(real, trained):
    generator = trained[0]
    jobs = [*_jobs(4), *(make_job("recipe", "", k, source=real.key(k)) for k in range(3))]
    together = generator.make(jobs)
    assert not generator.exact
    for job, made in zip(jobs, together, strict=True):
        alone = generator.make([job])[0]
        assert np.abs(alone.image.astype(int) - made.image).max() <= 1 and alone.notes == made.notes
    assert generator.make([]) == []
    assert len({made.image.tobytes() for made in together}) == 7


@pytest.mark.parametrize("most, share", [(0.3, 1.0), (0.6, 0.5)])
def test_a_variation_is_nearer_to_its_source_than_to_others(most, share, real, model):
    generator = open_generator(_with(noise_level=(0.3, most)), Context(size=SIZE, real=real, folder=model))
    sources = [cv2.resize(real.read(index), (SIZE, SIZE)).astype(float) for index in range(len(real))]
    made = generator.make([make_job("recipe", "", k, source=real.key(k)) for k in range(len(real))])
    distances = np.array([[np.abs(one.image - source).mean() for source in sources] for one in made])
    own = np.diag(distances)
    assert (distances.argmin(1) == np.arange(len(real))).mean() >= share
    assert (own < np.median(distances, axis=1)).all() and (own > 2).all(), "near, but no copy"
    levels = [one.notes["noise_level"] for one in made]
    assert all(0.3 <= level <= most for level in levels) and (most == 0.3 or len(set(levels)) == len(made))


def test_more_noise_goes_further_from_the_source(real, model):
    def distance(level: float) -> float:
        options = _with(noise_level=(level, level))
        generator = open_generator(options, Context(size=SIZE, real=real, folder=model))
        jobs = [make_job("recipe", "", k, source=real.key(k)) for k in range(8)]
        sources = [cv2.resize(real.read(k), (SIZE, SIZE)).astype(float) for k in range(8)]
        made = generator.make(jobs)
        return float(np.mean([np.abs(one.image - source).mean() for one, source in zip(made, sources, strict=True)]))

    assert distance(0.1) < distance(0.5) < distance(1.0)


def test_a_variation_has_the_condition_of_its_source(real, trained):
    made = trained[0].make([make_job("recipe", "", k, source=real.key(k)) for k in range(len(real))])
    own = {(real.classes[label], one.notes["cluster"]) for label, one in zip(real.labels, made, strict=True)}
    assert len(own) == 2, "red and blue are the two clusters"


def test_classes_use_labels_and_clusters_do_not(real, trained):
    assert not trained[0].labels_used
    options = _with(condition="class", steps=2)
    generator = open_generator(options, Context(size=SIZE, real=real))
    assert generator.labels_used
    made = generator.make([make_job("recipe", "red", 0, class_name="red"), *_jobs(20)])
    assert made[0].notes == {"of_class": "red"}
    assert {one.notes["of_class"] for one in made[1:]} == {"red", "blue"}
    with pytest.raises(ConfigError, match="condition = cluster: cannot make an image of the class 'red'"):
        trained[0].make(_jobs(1, class_name="red"))


def test_without_conditions_there_is_no_guidance(real):
    generator = open_generator(_with(condition="none", guidance=3.0, steps=2), Context(size=SIZE, real=real))
    assert generator.metadata["guidance"] == 1.0 and not generator.labels_used
    assert generator.make(_jobs(1))[0].notes == {}


def test_a_source_that_cannot_be_found_is_an_error(trained, real):
    place = trained[1]
    without = open_generator(TINY, Context(size=SIZE, folder=place))
    with pytest.raises(DataError, match="source = a#1: a variation starts from a real image and none were given; name"):
        without.make(_jobs(1, source="a#1"))
    with pytest.raises(DataError, match="source = a#1: is not among the 24 real images; give the set it is from"):
        trained[0].make(_jobs(1, source="a#1"))
    np.testing.assert_array_equal(without.make(_jobs(1))[0].image, trained[0].make(_jobs(1))[0].image)


@pytest.mark.parametrize("size, made_at", [(20, 8), (5, 8)])
def test_another_stored_size_is_resized_and_said(size, made_at, real):
    generator = open_generator(_with(steps=1, train_size=8), Context(size=size, real=real))
    assert generator.make(_jobs(1))[0].image.shape == (size, size, 3)
    assert generator.metadata["made_at"] == made_at


def test_the_trained_side_fits_every_resolution():
    options = _with(channels=(32, 32, 64))
    assert [options.multiple(size) for size in (28, 30, 64)] == [28, 32, 64]
    with pytest.raises(ValueError, match="train_size = 30: must be a multiple of 4 with 3 resolutions; take 32"):
        _with(channels=(32, 32, 64), train_size=30)
    with pytest.raises(ValueError, match="must be .low, high. with low <= high; swap them"):
        _with(noise_level=(0.6, 0.3))


# The model folder


def test_a_finished_model_is_reused(real, trained, monkeypatch):
    monkeypatch.setattr(flow_model, "train", None)
    again = open_generator(_with(guidance=2.0, sampling_steps=3), Context(size=SIZE, real=real, folder=trained[1]))
    assert again.metadata["model"] == trained[0].metadata["model"]
    assert (again.metadata["guidance"], again.metadata["steps"], again.metadata["sampler"]) == (2.0, 3, "euler")


def test_metadata_name_no_place(trained):
    text = json.dumps(dict(trained[0].metadata))
    assert str(trained[1]) not in text and {"torch", "diffusers"} <= trained[0].metadata["versions"].keys()
    assert str(trained[1].parent).encode() not in _weights(trained[1])


def _remove_model(folder: Path) -> None:
    (folder / flow_model.FILE).unlink()


def _remove_description(folder: Path) -> None:
    (folder / flow_model.DESCRIPTION).unlink()


def _break_model(folder: Path) -> None:
    (folder / flow_model.FILE).write_bytes(_weights(folder)[:-1])


def _break_description(folder: Path) -> None:
    (folder / flow_model.DESCRIPTION).write_text("{}")


def _swap_model(folder: Path) -> None:
    described = json.loads((folder / flow_model.DESCRIPTION).read_text())
    (folder / flow_model.DESCRIPTION).write_text(json.dumps({**described, "model": "0" * 16}))


@pytest.mark.parametrize(
    "harm, message",
    [
        (_remove_model, "flow.safetensors: is missing in the model folder model; restore it, or choose another folder"),
        (_remove_description, "flow.json: is missing in the model folder model, which holds a flow; restore the file"),
        (_break_model, "flow.safetensors: is damaged or not a model of syn2co"),
        (_break_description, "flow.json: does not describe a flow; restore the file or choose another folder"),
        (_swap_model, "flow.safetensors: is another model than flow.json describes; restore both"),
    ],
)
def test_a_harmed_model_folder_is_an_error(harm: Callable[[Path], None], message, real, model):
    harm(model)
    with pytest.raises(CheckpointError, match=message):
        open_generator(TINY, Context(size=SIZE, real=real, folder=model))


def test_a_model_of_other_images_or_settings_is_refused(real, model, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="steps = 7: the model in flow.json was made with 6; repeat that setting"):
        open_generator(_with(steps=7), Context(size=SIZE, real=real, folder=model))
    with pytest.raises(DataError, match="flow.json: the model was made from other images than those given now"):
        open_generator(TINY, Context(size=SIZE, real=real.subset(range(20)), folder=model))
    with monkeypatch.context() as patch, pytest.raises(_Killed):
        _killed_at(patch, 3)
        open_generator(TINY, Context(size=SIZE, real=real, folder=tmp_path / "half"))
    with pytest.raises(ConfigError, match="steps = 7"):
        open_generator(_with(steps=7), Context(size=SIZE, real=real, folder=tmp_path / "half"))


def test_no_images_or_no_diffusers_is_said(real, monkeypatch):
    with pytest.raises(DataError, match="the flow is not trained yet and no images were given; name some with --real"):
        open_generator(TINY, Context(size=SIZE))
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ConfigError, match="needs the package diffusers, which is not installed; pip install"):
        open_generator(TINY, Context(size=SIZE, real=real))


def test_a_replay_reads_the_flow_and_never_trains_one_on(folder: Path, tmp_path: Path) -> None:
    options = TINY.model_dump()
    recipe = SynthesisSettings.parse({"generator": "flow", "size": SIZE, "options": options})
    out = tmp_path / "set"
    generate(recipe, out, count=2, real=[folder])
    name = json.loads((out / "000000.jsonl").read_text().splitlines()[0])["id"]
    assert replay(out, name).same
    about = out / "model" / "flow.json"
    written = json.loads(about.read_text())
    about.write_text(json.dumps({**written, "model": None}))  # as training leaves it until its last step
    with pytest.raises(SynthesisError, match="^set/model/.*: is missing or not finished and a replay trains no model"):
        replay(out, name, real=[folder])
