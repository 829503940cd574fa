"""Procedural images: functions of the job alone, byte for byte, never black or flat; groups are positive pairs."""

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

from syn2co.audits.health import ROUGH
from syn2co.audits.scan import statistics
from syn2co.core.errors import ConfigError
from syn2co.synthesis.generation.generate import generate
from syn2co.synthesis.generation.plan import plan
from syn2co.synthesis.generation.replay import replay
from syn2co.synthesis.generators.procedural import ProceduralOptions, open_generator, program_of, programs
from syn2co.synthesis.generators.procedural.palettes import LUMA, Palette, draw_palette, with_contrast
from syn2co.synthesis.generators.registry import load_generator
from syn2co.synthesis.sets.job import Job, make_job
from syn2co.synthesis.sets.recipe import Recipe, public_settings, resolve
from syn2co.synthesis.sets.settings import SynthesisSettings, load_settings, settings_of_recipe
from syn2co.synthesis.sets.spec import Context, GeneratedImage, Generator

NAMES = ("leaves", "spectrum", "fractals", "warps", "blend")


def opened(size: int = 32, **options: object) -> Generator:
    return open_generator(ProceduralOptions.model_validate(options), Context(size=size))


def made(generator: Generator, jobs: list[Job]) -> list[GeneratedImage]:
    return [one for one in generator.make(jobs) if isinstance(one, GeneratedImage)]


def jobs_of(count: int, *, per_program: int = 1) -> list[Job]:
    return [
        make_job("recipe", str(number // per_program), number % per_program, group=f"program:{number // per_program}")
        for number in range(count)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_an_image_depends_on_its_job_alone_byte_for_byte(name: str) -> None:
    jobs = jobs_of(7)
    together = made(opened(program=name), jobs)
    alone = [made(opened(program=name), [job])[0] for job in reversed(jobs)][::-1]
    for one, other in zip(together, alone, strict=True):
        assert one.image.tobytes() == other.image.tobytes()
        assert one.notes == {"program": name}
    assert len({one.image.tobytes() for one in together}) == len(jobs)


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_changes_nothing(name: str) -> None:
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = made(opened(96, program=name), jobs_of(3))
        cv2.setNumThreads(4)
        four = made(opened(96, program=name), jobs_of(3))
    finally:
        cv2.setNumThreads(before)
    assert [picture.image.tobytes() for picture in one] == [picture.image.tobytes() for picture in four]


@pytest.mark.parametrize("size", [8, 33, 64])
@pytest.mark.parametrize("name", NAMES)
def test_images_are_uint8_rgb_of_the_size_asked_for(name: str, size: int) -> None:
    (picture,) = made(opened(size, program=name), jobs_of(1))
    assert picture.image.shape == (size, size, 3) and picture.image.dtype == np.uint8
    assert picture.image.flags.c_contiguous


@pytest.mark.parametrize("name", NAMES)
def test_no_image_is_black_or_flat(name: str) -> None:
    for picture in made(opened(program=name), jobs_of(120)):
        gray = cv2.cvtColor(picture.image, cv2.COLOR_RGB2GRAY)
        assert gray.std() > 12 and 20 < gray.mean() < 235


def test_supersampled_warps_are_no_noise_however_small() -> None:
    """At 32 px 5 of 300 warps have lines finer than a pixel, and no neighbors alike: the audit calls them noise."""
    smooth = [
        [statistics(picture.image)[2] for picture in made(opened(program="warps", supersampling=side), jobs_of(300))]
        for side in (1, 2)
    ]
    assert sum(value < ROUGH for value in smooth[0]) == 5 and min(smooth[1]) > ROUGH
    for size, program, side in ((63, "warps", 2), (64, "warps", 1), (32, "fractals", 1)):
        jobs = jobs_of(5)
        left, given = (
            made(opened(size, program=program), jobs),
            made(opened(size, program=program, supersampling=side), jobs),
        )
        assert all((one.image == other.image).all() for one, other in zip(left, given, strict=True))
        assert all(picture.image.shape == (size, size, 3) for picture in left)


def test_recipes_leave_out_the_supersampling_of_the_first_sets() -> None:
    def recipe_at(size: int, **options: object) -> Recipe:
        return resolve(SynthesisSettings(size=size, options=options), load_generator("procedural"), None)

    first, large = recipe_at(32, supersampling=1), recipe_at(64)
    assert all("supersampling" not in public_settings(one.settings)["options"] for one in (first, large))
    assert len({recipe_at(32).hash, recipe_at(32, supersampling=2).hash, first.hash}) == 3
    assert settings_of_recipe({"generator": "procedural", **public_settings(first.settings)})["options"] == {
        **first.settings.options
    }


def test_a_set_begun_before_supersampling_goes_on_and_is_replayed(tmp_path: Path) -> None:
    old = SynthesisSettings(size=32, options={"supersampling": 1})
    info = generate(old, tmp_path / "set", count=2)
    assert generate(SynthesisSettings(size=32), info.folder, count=3).made == 1
    assert generate(load_settings(info.folder / "recipe.json"), info.folder).made == 0
    last = plan(old, count=3)[2].id
    assert replay(info.folder, last).identical


@pytest.mark.parametrize("name", NAMES)
def test_the_strongest_jitter_still_gives_pictures(name: str) -> None:
    for picture in made(opened(64, program=name, jitter=1), jobs_of(40, per_program=8)):
        assert cv2.cvtColor(picture.image, cv2.COLOR_RGB2GRAY).std() > 8


@pytest.mark.parametrize("name", NAMES)
def test_two_images_of_a_program_differ_but_less_than_two_programs(name: str) -> None:
    images = [picture.image.astype(float) for picture in made(opened(program=name), jobs_of(24, per_program=2))]
    pairs = [np.abs(a - b).mean() for a, b in zip(images[::2], images[1::2], strict=True)]
    others = [np.abs(a - b).mean() for a, b in combinations(images[::2], 2)]
    assert min(pairs) > 0
    assert np.mean(pairs) < 0.75 * np.mean(others)


def test_stronger_jitter_moves_images_further_apart() -> None:
    def distance(strength: float) -> float:
        images = [picture.image.astype(float) for picture in made(opened(jitter=strength), jobs_of(40, per_program=2))]
        return float(np.mean([np.abs(a - b).mean() for a, b in zip(images[::2], images[1::2], strict=True)]))

    assert distance(0.0) < distance(0.05) < distance(0.3)


def test_without_jitter_a_program_without_own_draws_gives_one_image() -> None:
    first, second = made(opened(program="warps", jitter=0), jobs_of(2, per_program=2))
    assert first.image.tobytes() == second.image.tobytes()


def test_the_mix_draws_each_program_about_equally_and_a_group_has_one() -> None:
    known = programs()
    drawn = [program_of(job, NAMES, known, 0.1)[0] for job in jobs_of(600, per_program=2)]
    assert drawn[::2] == drawn[1::2]
    counts = [drawn[::2].count(name) for name in NAMES]
    assert sum((count - 60) ** 2 / 60 for count in counts) < 18.5  # chi-square, 4 degrees of freedom, p = 0.001


def test_a_blend_has_as_many_parts_as_asked_for() -> None:
    _, program, _ = program_of(jobs_of(1)[0], ["blend"], programs(blend_of=5), 0.1)
    assert len(program.names) == len(program.parts) == len(program.weights) == 5


def test_metadata_say_what_a_manifest_needs() -> None:
    generator = opened(program="leaves")
    assert generator.exact and not generator.labels_used and generator.batch == 1
    assert generator.metadata["generator"] == "procedural" and generator.metadata["model"] == "leaves"
    assert generator.metadata["license"] == "CC0-1.0" and set(generator.metadata["versions"]) == {
        "syn2co",
        "numpy",
        "scipy",
        "opencv",
    }


@pytest.mark.parametrize(
    "wrong", [{"program": "shader"}, {"blend_of": 1}, {"jitter": -0.1}, {"jitter": 1.5}, {"color": 1}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ProceduralOptions.model_validate(wrong)
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ProceduralOptions.parse(wrong)


def test_palettes_have_colors_in_range_and_a_wide_span_of_lightness() -> None:
    for number in range(200):
        palette = draw_palette(np.random.default_rng(number))
        light = palette.by_lightness() @ LUMA
        assert palette.anchors.min() >= 0 and palette.anchors.max() <= 255
        assert np.all(np.diff(light) >= 0) and light[-1] - light[0] > 0.5 * 255


def test_a_palettes_scale_runs_through_its_anchors() -> None:
    palette = Palette(np.array([[0.0, 0, 0], [100, 200, 50], [255, 255, 255]]))
    table = palette.table()
    assert table.shape == (256, 1, 3) and table.dtype == np.uint8
    assert table[0, 0].tolist() == [0, 0, 0] and table[255, 0].tolist() == [255, 255, 255]
    assert np.abs(table[127, 0].astype(int) - [100, 200, 50]).max() <= 1


def test_low_contrast_is_stretched_and_enough_is_left_alone() -> None:
    flat = np.random.default_rng(0).integers(96, 104, (32, 32, 3), dtype=np.uint8)
    assert cv2.cvtColor(with_contrast(flat), cv2.COLOR_RGB2GRAY).std() > 20
    rich = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(with_contrast(rich), rich)
