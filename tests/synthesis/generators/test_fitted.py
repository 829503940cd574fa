"""Fitted images: the spectrum and colors of the real ones, keyed draws, one file that belongs to its images."""

import json
import re

import cv2
import numpy as np
import pytest

from syn2co.core.errors import CheckpointError, ConfigError, DataError
from syn2co.data.open import open_images
from syn2co.images.image_set import ImageSet
from syn2co.synthesis.generators import procedural
from syn2co.synthesis.generators.fitted import generator as fitted
from syn2co.synthesis.generators.fitted import statistics as fitted_statistics
from syn2co.synthesis.generators.fitted.generator import FittedOptions, open_generator
from syn2co.synthesis.sets.job import Job, make_job
from syn2co.synthesis.sets.spec import Context, Skipped

SIZE = 16
RANDOM = FittedOptions(phases="random", clusters=2)
COLORS = {"red": (190, 70, 50), "blue": (40, 90, 200)}


def _picture(color: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """20 x 24 pixels of gray 1/f texture on a color: |F| ~ 1/f^1.5, so power falls 30 times from f to 10 f."""
    f = np.hypot(np.fft.fftfreq(20)[:, None], np.fft.rfftfreq(24)[None, :])
    f[0, 0] = np.inf
    texture = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((20, 24))) / f**1.5, s=(20, 24))
    gray = 25 * texture[..., None] / texture.std() + 4 * rng.standard_normal(3)
    return np.rint(np.array(color) + gray).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """30 red and 10 blue textures."""
    folder = tmp_path_factory.mktemp("textures")
    for number in range(40):
        name = "blue" if number % 4 == 0 else "red"
        (folder / name).mkdir(exist_ok=True)
        pixels = _picture(COLORS[name], np.random.default_rng(number))
        assert cv2.imwrite(str(folder / name / f"{number}.png"), pixels[..., ::-1])
    return open_images(folder)


def _jobs(count: int, **named) -> list[Job]:
    return [make_job("recipe", "", k, **named) for k in range(count)]


def _images(real: ImageSet, options: FittedOptions = RANDOM, count: int = 60, **named) -> np.ndarray:
    made = open_generator(options, Context(size=SIZE, real=real)).make(_jobs(count, **named))
    return np.stack([one.image for one in made])


def _reals(real: ImageSet) -> np.ndarray:
    from syn2co.images.resize import resize_and_crop

    return np.stack([resize_and_crop(real.read(index), SIZE, 1.0) for index in range(len(real))])


def _slope(images: np.ndarray) -> float:
    """Slope of log power over log frequency of the luminance, under a Hann window."""
    window = np.outer(np.hanning(SIZE + 2)[1:-1], np.hanning(SIZE + 2)[1:-1])
    gray = images.mean(3) - images.mean((1, 2, 3))[:, None, None]
    power = np.square(np.abs(np.fft.fft2(gray * window))).mean(0)
    f = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE)[None, :])
    inside = (f > 1.5 / SIZE) & (f < 0.45)
    return float(np.polyfit(np.log(f[inside]), np.log(power[inside]), 1)[0])


def test_the_spectrum_is_that_of_the_real_images(real, monkeypatch):
    expected = _slope(_reals(real))
    assert expected < -1.5
    assert abs(_slope(_images(real)) - expected) < 0.5
    monkeypatch.setattr(fitted_statistics.np.fft, "irfft2", _without_amplitude(np.fft.irfft2))
    assert abs(_slope(_images(real)) - expected) > 1.0, "the test would not see that the amplitude was dropped"


def _without_amplitude(inverse):
    def flat(spectrum, s):
        return inverse(spectrum / np.maximum(np.abs(spectrum), 1e-12), s=s)

    return flat


def test_colors_are_those_of_the_real_images(real):
    options = RANDOM.model_copy(update={"condition": "class"})
    reals = _reals(real)
    for name in COLORS:
        own = reals[[real.classes[label] == name for label in real.labels]]
        made = _images(real, options, class_name=name)
        np.testing.assert_allclose(made.mean((0, 1, 2)), own.mean((0, 1, 2)), atol=4)
        np.testing.assert_allclose(made.std((0, 1, 2)), own.std((0, 1, 2)), rtol=0.15)
        quantiles = [np.quantile(images.reshape(-1, 3), (0.05, 0.5, 0.95), axis=0) for images in (made, own)]
        np.testing.assert_allclose(*quantiles, atol=8)


def test_clusters_are_drawn_in_proportion_to_their_sizes(real):
    made = open_generator(RANDOM, Context(size=SIZE, real=real)).make(_jobs(400))
    blue = [one.image[..., 2].mean() > one.image[..., 0].mean() for one in made]
    assert abs(np.mean(blue) - 0.25) < 0.07  # 3 standard deviations of 400 draws
    assert {one.notes["cluster"] for one in made} == {"0", "1"}


@pytest.mark.parametrize("phases", ["random", "procedural"])
def test_an_image_depends_on_its_job_alone(real, phases):
    options = RANDOM.model_copy(update={"phases": phases})
    generator = open_generator(options, Context(size=SIZE, real=real))
    jobs = _jobs(7)
    together = [one.image for one in generator.make(jobs)]
    for job, image in zip(jobs[::-1], together[::-1], strict=True):
        np.testing.assert_array_equal(generator.make([job])[0].image, image)
    assert len({image.tobytes() for image in together}) == 7
    assert generator.exact and all(i.shape == (SIZE, SIZE, 3) and i.dtype == np.uint8 for i in together)


def test_procedural_phases_bring_the_edges_of_the_procedural_image(real):
    statistics = fitted_statistics.fit(real, "none", clusters=1, size=SIZE, seed=0)[1]
    square = np.full((SIZE, SIZE, 3), 60, np.uint8)
    square[4:12, 4:12] = 200
    mask = (square[..., 0] > 100).ravel()

    def likeness(edges):
        rngs = [np.random.default_rng(number) for number in range(20)]
        images = [fitted_statistics.draw(statistics, 0, rng, edges).mean(2).ravel() for rng in rngs]
        return np.mean([np.corrcoef(image, mask)[0, 1] for image in images])

    assert likeness(square) > 0.6
    assert abs(likeness(None)) < 0.2


def test_the_recipe_follows_the_revision_of_procedural_phases(real, monkeypatch):
    from syn2co.synthesis.generation.plan import plan
    from syn2co.synthesis.sets.settings import SynthesisSettings

    def digest(phases: str) -> str:
        chosen = SynthesisSettings(generator="fitted", size=SIZE, options={"phases": phases})
        return plan(chosen, count=1, real=real).recipe_hash

    before = [digest("random"), digest("procedural")]
    monkeypatch.setattr(procedural, "REVISION", "another")
    assert digest("random") == before[0] and digest("procedural") != before[1]
    generator = open_generator(FittedOptions(phases="procedural", clusters=2), Context(size=SIZE, real=real))
    assert generator.metadata["procedural_revision"] == "another"


def test_a_job_that_the_procedural_generator_skips_is_skipped(real, monkeypatch):
    from syn2co.synthesis.sets.spec import Generator

    skipping = Generator(make=lambda jobs: [Skipped("why")] * len(jobs), metadata={})
    monkeypatch.setattr(procedural, "open_generator", lambda options, context: skipping)
    assert open_generator(FittedOptions(), Context(size=SIZE, real=real)).make(_jobs(2)) == [Skipped("why")] * 2


def test_labels_used_is_said_of_classes_alone(real):
    used = {
        kind: open_generator(FittedOptions(phases="random", condition=kind), Context(size=SIZE, real=real)).labels_used
        for kind in ("cluster", "class", "none")
    }
    assert used == {"cluster": False, "class": True, "none": False}


def test_the_metadata_name_the_model_and_not_the_place(real, tmp_path):
    generator = open_generator(RANDOM, Context(size=SIZE, real=real, folder=tmp_path / "model"))
    metadata = dict(generator.metadata)
    assert metadata["generator"] == "fitted" and metadata["license"] == "as the images it was fitted to"
    assert re.fullmatch("[0-9a-f]{16}", metadata["model"]) and metadata["versions"]["numpy"] == np.__version__
    assert str(tmp_path) not in json.dumps(metadata)
    assert str(tmp_path).encode() not in (tmp_path / "model" / fitted.FILE).read_bytes()


def test_the_model_file_is_reused_even_without_the_images(real, tmp_path, monkeypatch):
    first = open_generator(RANDOM, Context(size=SIZE, real=real, folder=tmp_path))
    monkeypatch.setattr(fitted, "fit", None)
    for again in (real, None):
        second = open_generator(RANDOM, Context(size=SIZE, real=again, folder=tmp_path))
        assert second.metadata == first.metadata
        for job in _jobs(5):
            np.testing.assert_array_equal(second.make([job])[0].image, first.make([job])[0].image)


def test_a_model_of_other_images_or_settings_is_refused(real, tmp_path):
    open_generator(RANDOM, Context(size=SIZE, real=real, folder=tmp_path))
    fewer = real.subset(range(20))
    with pytest.raises(DataError, match="the model was made from other images than those given now"):
        open_generator(RANDOM, Context(size=SIZE, real=fewer, folder=tmp_path))
    with pytest.raises(ConfigError, match=r"clusters = 3: the model in fitted.safetensors was made with 2; repeat"):
        open_generator(FittedOptions(phases="random", clusters=3), Context(size=SIZE, real=real, folder=tmp_path))
    with pytest.raises(ConfigError, match="size = 8: the model in"):
        open_generator(RANDOM, Context(size=8, real=real, folder=tmp_path))


def test_a_damaged_model_is_refused(real, tmp_path):
    open_generator(RANDOM, Context(size=SIZE, real=real, folder=tmp_path))
    path = tmp_path / fitted.FILE
    whole = path.read_bytes()
    for data in (whole[:-3], whole[:-1] + bytes([whole[-1] ^ 1]), b"nothing"):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="fitted.safetensors: is damaged or not a model of syn2co; delete"):
            open_generator(RANDOM, Context(size=SIZE, real=real, folder=tmp_path))


def test_a_full_disk_leaves_no_part_of_a_model(real, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="the model cannot be written .no space is left on the device; free some"):
        open_generator(RANDOM, Context(size=SIZE, real=real, folder=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_made_is_said(real):
    generator = open_generator(RANDOM, Context(size=SIZE, real=real))
    with pytest.raises(ConfigError, match="condition = cluster: cannot make an image of the class 'red'; set cond"):
        generator.make(_jobs(1, class_name="red"))
    with pytest.raises(ConfigError, match="source = a#1: the fitted generator makes no variations of an image"):
        generator.make(_jobs(1, source="a#1"))
    by_class = open_generator(FittedOptions(phases="random", condition="class"), Context(size=SIZE, real=real))
    with pytest.raises(ConfigError, match="class 'rde': the model knows 2 classes and not this one; did you mean red"):
        by_class.make(_jobs(1, class_name="rde"))
    with pytest.raises(DataError, match="made from real images and was given 0; name at least 2 with --real"):
        open_generator(RANDOM, Context(size=SIZE))
    unlabeled = ImageSet.subset(real, range(40))
    unlabeled.labels = np.where(np.arange(40) < 3, -1, unlabeled.labels)
    with pytest.raises(DataError, match="condition = class: 3 of 40 images have no class; put each class in a folder"):
        open_generator(FittedOptions(phases="random", condition="class"), Context(size=SIZE, real=unlabeled))


def test_at_most_so_many_images_are_read(real, monkeypatch):
    seen = []
    fit = fitted.fit
    monkeypatch.setattr(
        fitted, "fit", lambda images, *args, **named: seen.append(images) or fit(images, *args, **named)
    )
    for seed in (0, 0, 1):
        open_generator(RANDOM.model_copy(update={"max_images": 10}), Context(size=SIZE, real=real, seed=seed))
    rows = [images.rows.tolist() for images in seen]
    assert [len(set(chosen)) for chosen in rows] == [10, 10, 10] and rows[0] == rows[1] != rows[2]


def test_the_periodic_part_takes_the_cross_of_a_ramp_away():
    ramp = np.broadcast_to(np.arange(16.0)[:, None], (3, 16, 16))
    smooth = fitted_statistics.periodic_part(ramp)
    jump = np.abs(smooth[:, -1] - smooth[:, 0]).max()
    assert jump < 2 and abs(smooth.mean() - 7.5) < 1e-9, "the border's jump of 15 is gone, the mean stays"
    wave = np.broadcast_to(np.cos(2 * np.pi * np.arange(64) / 64)[:, None], (3, 64, 64))
    np.testing.assert_allclose(fitted_statistics.periodic_part(wave), wave, atol=0.02)
