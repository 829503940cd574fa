"""The diffusion generator on tiny pipelines with random weights: real loading, prompts, seeds, safety, no network."""

import importlib
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers", reason="the extra `diffusion` is not installed")
pytest.importorskip("transformers", reason="the extra `diffusion` is not installed")

import tiny_diffusion

from syn2co.core.errors import ConfigError, DataError
from syn2co.data.open import open_images
from syn2co.images.image_set import ImageSet
from syn2co.synthesis.generators.diffusion import DiffusionOptions, open_generator
from syn2co.synthesis.generators.diffusion.drawing import attempt_seed, draw
from syn2co.synthesis.sets.job import Job, make_job
from syn2co.synthesis.sets.spec import Context, GeneratedImage, Generator, Skipped

Models = Callable[[str], Path]
SIZE, STEPS = 16, 3
CLASSES = ("tench", "goldfish", "crane, machine")
STABLE_DIFFUSION, DIT = "stable_diffusion", "dit"
ABILITIES = [
    ("stable_diffusion", "text-to-image"),
    ("stable_diffusion", "image-to-image"),
    ("stable_diffusion_xl", "text-to-image"),
    ("stable_diffusion_xl", "image-to-image"),
    ("latent_consistency", "text-to-image"),
    ("latent_consistency", "image-to-image"),
    ("image_variation", "image-variation"),
    ("unclip", "image-variation"),
    ("dit", "class-conditional"),
    ("stable_diffusion_3", "text-to-image"),
    ("stable_diffusion_3", "image-to-image"),
    ("flux", "text-to-image"),
    ("flux", "image-to-image"),
    ("pixart_sigma", "text-to-image"),
    ("sana", "text-to-image"),
    ("ddpm", "unconditional"),
    ("ddim", "unconditional"),
]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """`models(name)`: the folder of a tiny pipeline, built once; not to be written to."""
    root = tmp_path_factory.mktemp("private-models")

    def build(name: str) -> Path:
        folder = root / name
        return folder if folder.exists() else getattr(tiny_diffusion, name)(folder)

    return build


@pytest.fixture
def copy(models: Models, tmp_path: Path) -> Path:
    """A copy of the tiny Stable Diffusion that a test may spoil."""
    return Path(shutil.copytree(models(STABLE_DIFFUSION), tmp_path / "model"))


@pytest.fixture(scope="session")
def real(image_folder: Path) -> ImageSet:
    return open_images([str(image_folder)])


def options(folder: Path, **settings: Any) -> DiffusionOptions:
    return DiffusionOptions(model=str(folder), **{"steps": STEPS, **settings})


def opened(folder: Path, real: ImageSet | None = None, **settings: Any) -> Generator:
    return open_generator(options(folder, **settings), Context(size=SIZE, real=real))


@cache
def shared(folder: Path, real: ImageSet | None, name: str, task: str) -> Generator:
    """One generator of each model and task for several tests; Flux pads each prompt to 512 tokens."""
    return opened(folder, real, task=task, guidance=7, steps=2 if name == "flux" else STEPS)


def jobs(count: int, real: ImageSet | None = None, prompt: str | None = "a photo of the cat") -> list[Job]:
    return [
        make_job(
            "recipe", f"image {number}", 0, prompt=prompt, class_name=CLASSES[number % len(CLASSES)],
            source=None if real is None else real.key(number),
        )
        for number in range(count)
    ]  # fmt: skip


def made(generator: Generator, asked: list[Job]) -> list[GeneratedImage]:
    results = generator.make(asked)
    assert all(isinstance(result, GeneratedImage) for result in results)
    return [result for result in results if isinstance(result, GeneratedImage)]


def difference(one: GeneratedImage, other: GeneratedImage) -> int:
    """Largest difference of two images, in 1/255."""
    return int(np.abs(one.image.astype(int) - other.image.astype(int)).max())


@pytest.mark.parametrize(("name", "task"), ABILITIES)
def test_every_task_draws_the_same_image_alone_and_in_a_batch(
    models: Models, real: ImageSet, name: str, task: str
) -> None:
    asked = jobs(2 if name == "flux" else 3, real)
    generator = shared(models(name), real, name, task)
    batch = made(generator, asked)
    assert max(difference(one, *made(generator, [job])) for one, job in zip(batch, asked, strict=True)) <= 1
    assert all(one.image.shape == (SIZE, SIZE, 3) and one.image.dtype == np.uint8 for one in batch)
    assert min(difference(batch[0], other) for other in batch[1:]) > 20
    assert generator.metadata["task"] == task and not generator.exact
    assert generator.labels_used == (task == "class-conditional")


@pytest.mark.parametrize(("name", "task"), [pair for pair in ABILITIES if pair[1] != "unconditional"])
def test_what_is_asked_for_moves_the_image(models: Models, real: ImageSet, name: str, task: str) -> None:
    job = jobs(1, real)[0]
    generator = shared(models(name), real, name, task)
    asked = {
        "text-to-image": {"prompt": "the red boat"},
        "image-to-image": {"source": real.key(1)},
        "image-variation": {"source": real.key(1)},
        "class-conditional": {"class_name": "goldfish"},
    }[task]
    other = Job(**{**{name: getattr(job, name) for name in Job.__slots__}, **asked})
    assert difference(*made(generator, [job, other])) > 0


def test_the_seed_of_the_manifest_is_the_seed_of_a_plain_diffusers_call(models: Models) -> None:
    import torch

    diffusers: Any = importlib.import_module("diffusers")
    asked, folder = jobs(3), models(STABLE_DIFFUSION)
    generator = open_generator(options(folder, guidance=3, negative_prompt="dog"), Context(size=tiny_diffusion.SIDE))
    images = made(generator, asked)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    for job, image in zip(asked, images, strict=True):
        plain = pipe(
            job.prompt, num_inference_steps=STEPS, guidance_scale=3, negative_prompt="dog", output_type="np",
            generator=torch.Generator().manual_seed(job.seed),
        )  # fmt: skip
        assert np.abs(plain.images[0] * 255 - image.image).max() <= 1
    assert [difference(*pair) for pair in zip(images, made(generator, asked), strict=True)] == [0, 0, 0]


def test_images_are_stored_at_their_size_and_drawn_at_the_resolution(models: Models) -> None:
    folder, asked = models(STABLE_DIFFUSION), jobs(1)
    assert opened(folder).metadata["resolution"] == tiny_diffusion.SIDE
    larger = open_generator(options(folder, resolution=48), Context(size=40))
    assert larger.metadata["resolution"] == 48 and made(larger, asked)[0].image.shape == (40, 40, 3)
    with pytest.raises(ConfigError, match="size = 40: must be at most the 32 pixels that the model draws at"):
        open_generator(options(folder), Context(size=40))
    with pytest.raises(ConfigError, match="resolution = 64: this model draws at 32 pixels only"):
        opened(models(DIT), resolution=64)


@pytest.mark.parametrize(
    ("name", "sampler", "scheduler", "steps"),
    [
        (STABLE_DIFFUSION, "auto", "DDIMScheduler", 50),
        (STABLE_DIFFUSION, "dpm++", "DPMSolverMultistepScheduler", 20),
        (STABLE_DIFFUSION, "lcm", "LCMScheduler", 4),
        (STABLE_DIFFUSION, "model", "PNDMScheduler", 50),
        ("stable_diffusion_xl", "ddim", "DDIMScheduler", 50),
        ("stable_diffusion_xl", "model", "EulerDiscreteScheduler", 50),
        ("latent_consistency", "auto", "LCMScheduler", 4),
        (DIT, "dpm++", "DPMSolverMultistepScheduler", 20),
    ],
)
def test_samplers_and_their_steps(models: Models, name: str, sampler: str, scheduler: str, steps: int) -> None:
    metadata = opened(models(name), sampler=sampler, steps=None).metadata
    assert (metadata["sampler"], metadata["steps"]) == (scheduler, steps)


def test_samplers_keep_the_noise_schedule_and_never_clip_latents(models: Models) -> None:
    from syn2co.synthesis.generators.diffusion.model_folder import find_model
    from syn2co.synthesis.generators.diffusion.pipelines import load_pipeline

    torch = pytest.importorskip("torch")
    chosen = options(models("stable_diffusion_xl"))
    pipe = load_pipeline(find_model(chosen), "text-to-image", chosen, torch.device("cpu"))
    assert pipe.scheduler.config.beta_end == 0.012 and pipe.scheduler.config.clip_sample is False
    assert pipe.watermark is None


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
def test_a_few_step_model_refuses_many_step_samplers(models: Models, sampler: str) -> None:
    with pytest.raises(ConfigError, match=rf"sampler = {sampler.replace('+', '.')}: .* set sampler to model"):
        opened(models("latent_consistency"), sampler=sampler)


def test_class_conditional_models_refuse_samplers_that_draw_from_ambient_state(models: Models) -> None:
    with pytest.raises(ConfigError, match="sampler = lcm: LCMScheduler draws noise at every step"):
        opened(models(DIT), sampler="lcm")


def test_cut_prompts_are_noted(models: Models) -> None:
    whole, cut = "the " * 14, "the " * 15  # with start and end 16 and 17 tokens; the text encoder reads 16
    images = made(opened(models("stable_diffusion_xl")), [*jobs(1, prompt=whole), *jobs(1, prompt=cut)])
    assert [image.notes["prompt_cut"] for image in images] == [False, True]
    with pytest.raises(ConfigError, match="negative_prompt: has more than the 16 tokens"):
        opened(models(STABLE_DIFFUSION), negative_prompt=cut)


def test_metadata_name_model_license_and_versions_and_no_path(models: Models, copy: Path) -> None:
    metadata = opened(models(STABLE_DIFFUSION), revision="v1").metadata
    assert {
        "generator": "diffusion",
        "model": "stable_diffusion",
        "revision": "v1",
        "guidance": 2.0,
    }.items() <= metadata.items()
    assert metadata["license"] is None and set(metadata["versions"]) == {"torch", "diffusers", "transformers"}
    assert "/" not in json.dumps(metadata) and "private-models" not in json.dumps(metadata)
    for front, license in {
        "license: creativeml-openrail-m\ntags:\n- a": "creativeml-openrail-m",
        'license: other\nlicense_name: "my-license"': "my-license",
        "tags:\n- license": None,
        "license:\n- mit\n- other": None,
        "license: [mit": None,
        "license: mit\nprompt: a cat: sitting": "mit",
        "license: mit\n\ttags: a": "mit",
        "just a sentence": None,
    }.items():
        (copy / "README.md").write_text(f"---\n{front}\n---\n# A model\nlicense: no-front-matter\n")
        assert opened(copy).metadata["license"] == license
    (copy / "README.md").write_bytes(b"---\nlicense: mit\n---\n\xff")
    assert opened(copy).metadata["license"] == "mit"
    assert opened(copy, license="mine").metadata["license"] == "mine"


def test_the_hash_covers_what_is_loaded_and_nothing_else(copy: Path) -> None:
    before = opened(copy).metadata["model_hash"]
    (copy / "README.md").write_text("other words")
    (copy / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"another variant")
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"another format")
    assert opened(copy).metadata["model_hash"] == before
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.012", "0.013"))
    assert opened(copy).metadata["model_hash"] != before


def test_a_variant_is_read_where_it_is_named(copy: Path) -> None:
    plain = copy / "unet" / "diffusion_pytorch_model.safetensors"
    plain.rename(plain.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert made(opened(copy, variant="fp16"), jobs(1))
    with pytest.raises(ConfigError, match=r"model = model: unet/ has no weights .* set variant"):
        opened(copy)
    with pytest.raises(ConfigError, match="has no weights of variant = ema"):
        plain.with_name("diffusion_pytorch_model.fp16.safetensors").rename(plain)
        opened(copy, variant="ema")


class TestSafety:
    """The checker flags pictures by a threshold on a cosine; of these first attempts it flags about half."""

    @pytest.fixture(scope="class")
    def strict(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tiny_diffusion.stable_diffusion(tmp_path_factory.mktemp("strict") / "model", threshold=0.289)

    def test_a_flagged_image_takes_the_next_seed_and_the_others_stay(self, strict: Path) -> None:
        asked = jobs(8)
        images = made(opened(strict, max_attempts=30), asked)
        free = made(opened(strict, safety="off"), asked)
        attempts = [image.notes["attempt"] for image in images]
        assert attempts.count(0) >= 2 and max(attempts) >= 1
        for job, image, first, attempt in zip(asked, images, free, attempts, strict=True):
            assert image.notes["safety"] == {"checker": "on", "flagged": attempt, "blank": 0}
            assert first.notes["safety"] == {"checker": "off", "flagged": 0, "blank": 0}
            again = Job(**{**{name: getattr(job, name) for name in Job.__slots__}, "seed": attempt_seed(job, attempt)})
            assert difference(image, *made(opened(strict, safety="off"), [again])) <= 1
            assert (difference(image, first) <= 1) == (attempt == 0)
            assert image.image.max() > 50

    def test_retries_do_not_depend_on_the_batch(self, strict: Path) -> None:
        generator, asked = opened(strict, max_attempts=30), jobs(8)
        together = made(generator, asked)
        alone = [made(generator, [job])[0] for job in asked]
        assert max(difference(*pair) for pair in zip(alone, together, strict=True)) <= 1
        assert [image.notes for image in alone] == [image.notes for image in together]

    def test_after_the_last_attempt_the_job_is_skipped_with_the_reason(self, strict: Path) -> None:
        results = opened(strict, max_attempts=1).make(jobs(8))
        skipped = [result for result in results if isinstance(result, Skipped)]
        assert 0 < len(skipped) < 8
        assert skipped[0].reason.startswith(
            "none of 1 attempts gave an image: 1 flagged by the model's safety checker, 0"
        )

    def test_skipped_images_take_further_seeds_when_they_are_retried(self, strict: Path, tmp_path: Path) -> None:
        from syn2co.synthesis.generation.generate import generate
        from syn2co.synthesis.generation.replay import replay
        from syn2co.synthesis.generation.verify import verify
        from syn2co.synthesis.sets.settings import SynthesisSettings

        chosen = {"model": str(strict), "steps": STEPS, "max_attempts": 1, "license": "mit"}
        of = {"generator": "diffusion", "classes": ["cat"], "size": SIZE, "options": chosen}
        first, again = (
            SynthesisSettings.parse({**of, "work": {"max_skipped_share": 1.0, "retry_skipped": number}})
            for number in (0, 30)
        )
        assert 0 < generate(first, tmp_path / "set", count=8).skipped < 8
        assert generate(again, tmp_path / "set", count=8).images == 8 and verify(tmp_path / "set").valid
        lines = [json.loads(text) for text in (tmp_path / "set" / "000000.jsonl").read_text().splitlines()]
        late = next(line for line in lines if line["attempt"])
        assert replay(tmp_path / "set", late["id"], settings=[f"options.model={strict}"]).same

    def test_a_model_without_a_checker_says_so(self, models: Models) -> None:
        image = made(opened(models("stable_diffusion_xl")), jobs(1))[0]
        assert image.notes["safety"] == {"checker": "none", "flagged": 0, "blank": 0}


@pytest.mark.parametrize("blank", [np.zeros((4, 4, 3)), np.full((4, 4, 3), 0.5), np.full((4, 4, 3), np.nan)])
def test_black_constant_and_broken_images_take_the_next_seed(blank: np.ndarray) -> None:
    job = jobs(1)[0]
    picture = np.linspace(0, 1, 48).reshape(4, 4, 3)
    seeds: list[int] = []

    def sample(asked: Any, given: Any) -> Any:
        seeds.extend(given)
        return [blank if seed != attempt_seed(job, 2) else picture for seed in given], [False] * len(asked)

    def ask(attempts: int) -> Any:
        return draw(
            [job], sample=sample, finish=lambda image: image, notes=lambda _: {}, max_attempts=attempts,
            checker="on",
        )[0]  # fmt: skip

    image = ask(3)
    assert image.image.max() == 255 and image.notes["safety"]["blank"] == 2 and image.notes["attempt"] == 2
    assert seeds[0] == job.seed and len(set(seeds)) == 3
    assert ask(2).reason.endswith("0 flagged by the model's safety checker, 2 black, constant or not finite")


def test_a_flagged_image_is_not_stored_even_if_the_checker_left_it_as_it_was() -> None:
    picture = np.linspace(0, 1, 48).reshape(4, 4, 3)
    (image,) = draw(
        jobs(1), sample=lambda asked, seeds: (picture[None], [seeds[0] == asked[0].seed]), finish=lambda image: image,
        notes=lambda _: {}, max_attempts=2, checker="on",
    )  # fmt: skip
    assert isinstance(image, GeneratedImage) and image.notes["safety"] == {"checker": "on", "flagged": 1, "blank": 0}


class TestLabels:
    """The tiny DiT knows "tench, Tinca tinca" as 0, goldfish as 1, and two cranes, 134 and 517."""

    def image(self, models: Models, class_name: str | None) -> GeneratedImage:
        job = make_job("recipe", "a fish", 0, class_name=class_name)
        return made(shared(models(DIT), None, DIT, "class-conditional"), [job])[0]

    def test_a_class_goes_by_its_whole_label_or_one_of_its_names(self, models: Models) -> None:
        whole = self.image(models, "tench, Tinca tinca")
        assert [difference(whole, self.image(models, name)) for name in ("Tench", "tinca_tinca")] == [0, 0]
        assert difference(whole, self.image(models, "goldfish")) > 0
        assert difference(self.image(models, "crane, machine"), self.image(models, "crane, wading bird")) > 0

    def test_a_synset_is_the_class_of_its_number(self, models: Models) -> None:
        assert difference(self.image(models, "n02012849"), self.image(models, "crane, wading bird")) == 0
        assert difference(self.image(models, "n03126707"), self.image(models, "crane, machine")) == 0

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (
                "crane",
                r"class 'crane': the model has 2 classes of that name \(numbers 134, 517\); give the whole label",
            ),
            ("goldfsh", "class 'goldfsh': is not among the labels of the model; did you mean goldfish?"),
            ("n01484850", "class 'n01484850': is not among the labels of the model"),
            ("n00000001", "class 'n00000001': is not among the labels of the model"),
            (None, "has no class, which this model needs"),
        ],
    )
    def test_names_that_fit_none_or_several(self, models: Models, name: str | None, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            self.image(models, name)

    def test_a_model_without_labels(self, models: Models, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(models(DIT), tmp_path / "dit"))
        index = json.loads((folder / "model_index.json").read_text())
        del index["id2label"]
        (folder / "model_index.json").write_text(json.dumps(index))
        with pytest.raises(ConfigError, match="has no id2label"):
            opened(folder)


class TestRefusals:
    def test_tasks_that_the_model_cannot_do(self, models: Models) -> None:
        with pytest.raises(
            ConfigError, match="a DiTPipeline such as dit can do class-conditional; choose another task"
        ):
            opened(models(DIT), task="text-to-image")
        with pytest.raises(ValueError, match="task"):
            options(models(DIT), task="text-to-video")

    @pytest.mark.parametrize(("name", "task"), [(STABLE_DIFFUSION, "image-to-image"), ("unclip", "auto")])
    def test_variations_without_real_images(self, models: Models, name: str, task: str) -> None:
        with pytest.raises(ConfigError, match="task = image-.*: varies real images and was given none"):
            opened(models(name), task=task)

    def test_jobs_that_lack_what_the_task_needs(self, models: Models, real: ImageSet, image_folder: Path) -> None:
        variation = opened(models("image_variation"), real)
        with pytest.raises(ConfigError, match="has no source image"):
            variation.make(jobs(1))
        stranger = make_job("recipe", "x", 0, source="elsewhere.png#00000000")
        with pytest.raises(ConfigError, match="its source elsewhere.png#00000000 is not among the 26 real images"):
            variation.make([stranger])
        with pytest.raises(ConfigError, match="has no prompt; plan it with class names or captions"):
            opened(models(STABLE_DIFFUSION)).make(jobs(1, prompt=None))
        unchecked = open_images([str(image_folder)], check=False)
        with pytest.raises(DataError, match="data.check = false"):
            opened(models("image_variation"), unchecked).make(jobs(1, real))

    def test_image_to_image_needs_no_prompt(self, models: Models, real: ImageSet) -> None:
        image = made(opened(models(STABLE_DIFFUSION), real, task="image-to-image"), jobs(1, real, prompt=None))[0]
        assert "prompt_cut" not in image.notes

    def test_settings_that_contradict_each_other(self, models: Models, real: ImageSet) -> None:
        with pytest.raises(ConfigError, match="^options.model: is not given; set it to the folder"):
            DiffusionOptions.parse({}, under="options.")
        message = r"steps = 3, strength = 0.2: image-to-image takes steps \* strength steps, which must be at least 1"
        with pytest.raises(ValueError, match=message):
            options(models(STABLE_DIFFUSION), task="image-to-image", strength=0.2)
        with pytest.raises(ConfigError, match="steps = 4, strength = 0.2"):
            opened(models("latent_consistency"), real, task="image-to-image", strength=0.2, steps=None)
        with pytest.raises(ValueError, match="negative_prompt: does nothing at guidance = 1"):
            options(models(STABLE_DIFFUSION), negative_prompt="dog", guidance=1)
        with pytest.raises(ConfigError, match="negative_prompt: a LatentConsistencyModelPipeline takes none"):
            opened(models("latent_consistency"), negative_prompt="dog")
        with pytest.raises(ConfigError, match="cpu_offload = true: needs a CUDA GPU and the device is cpu"):
            opened(models(STABLE_DIFFUSION), cpu_offload=True)

    def test_folders_that_are_no_complete_model(self, copy: Path, tmp_path: Path) -> None:
        weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-100])
        with pytest.raises(ConfigError, match="model = model: cannot be loaded as StableDiffusionPipeline") as caught:
            opened(copy)
        assert str(tmp_path) not in str(caught.value)
        weights.unlink()
        with pytest.raises(ConfigError, match=r"model = model: unet/ has no weights \(.safetensors or .bin\)"):
            opened(copy)
        shutil.rmtree(copy / "tokenizer")
        with pytest.raises(ConfigError, match="model = model: the folder tokenizer/ is missing or empty"):
            opened(copy)
        (copy / "model_index.json").write_text('{"_class_name": "FluxControlPipeline"}')
        with pytest.raises(
            ConfigError, match="model = model: is a FluxControlPipeline, which diffusers' auto pipelines open neither"
        ):
            opened(copy)
        (copy / "model_index.json").write_text("{")
        with pytest.raises(ConfigError, match="model = model: its model_index.json is damaged"):
            opened(copy)
        with pytest.raises(ConfigError, match="model = unet: has no model_index.json, so it is not the folder"):
            opened(copy / "unet")
        with pytest.raises(ConfigError, match="is neither a folder nor a hub id"):
            opened(copy / "missing")

    @pytest.mark.parametrize("part", ["unet", "text_encoder", "safety_checker"])
    def test_tensors_that_are_missing_are_never_random_ones(self, copy: Path, part: str) -> None:
        from safetensors.numpy import load_file, save_file

        path = next((copy / part).glob("*.safetensors"))
        tensors = load_file(path)
        del tensors[sorted(tensors)[-1]]
        save_file(tensors, path, metadata={"format": "pt"})
        with pytest.raises(ConfigError, match=f"model = model: weights of {part} are missing in its files"):
            opened(copy)

    def test_the_packages_of_the_extra(self, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
        with pytest.raises(
            ConfigError, match=r'needs the packages diffusers .* run `pip install "syn2co\[diffusion\]"`'
        ):
            opened(models(STABLE_DIFFUSION))


class TestMoreModels:
    """Models beyond folders of Stable Diffusion: pixels, few classes, transformers, files of weights, LoRA."""

    def test_a_transformer_keeps_its_solver_and_reads_more_tokens(self, models: Models) -> None:
        generator = opened(models("sana"))
        assert generator.metadata["sampler"] == "DPMSolverMultistepScheduler"
        assert opened(models("stable_diffusion_3"), steps=None).metadata["steps"] == 28
        assert opened(models("pixart_sigma"), steps=None).metadata["sampler"] == "DDIMScheduler"
        with pytest.raises(ConfigError, match="sampler = ddim: the FlowMatchEulerDiscreteScheduler of this model has"):
            opened(models("flux"), sampler="ddim")
        with pytest.raises(ConfigError, match=r"sampler = dpm\+\+: the DPMSolverMultistepScheduler of this model has"):
            opened(models("sana"), sampler="dpm++")
        whole, cut = ("the " * number for number in (63, 64))  # its T5 reads 64 tokens, the end included
        noted = made(opened(models("pixart_sigma")), [*jobs(1, prompt=whole), *jobs(1, prompt=cut)])
        assert [image.notes["prompt_cut"] for image in noted] == [False, True]

    def test_a_negative_prompt_moves_what_flux_draws(self, models: Models) -> None:
        plain, led = (opened(models("flux"), negative_prompt=text, guidance=4) for text in (None, "red boat"))
        assert difference(*(made(generator, jobs(1))[0] for generator in (plain, led))) > 0

    def test_pictures_of_another_side_are_refused(self) -> None:
        from syn2co.synthesis.generators.diffusion.opening import _pictures

        with pytest.raises(
            ConfigError, match=r"resolution = 40: the model drew pictures of shape \[32, 32, 3\]; set a"
        ):
            _pictures(np.zeros((1, 32, 32, 3)), 1, 40)

    def test_gray_pixels_of_nothing_in_particular(self, models: Models) -> None:
        generator = opened(models("ddim"), steps=None)
        image = made(generator, jobs(1))[0].image
        assert (image[..., 0] == image[..., 2]).all() and image.std() > 10
        facts = {"guidance": None, "steps": 50, "task": "unconditional", "resolution": tiny_diffusion.SIDE}
        assert facts.items() <= generator.metadata.items()

    @pytest.mark.parametrize("classes", [600, 1200])
    def test_guidance_with_other_than_a_thousand_classes(self, tmp_path: Path, classes: int) -> None:
        """The same weights with 1000 classes draw the same: the null class is the last row of the table."""
        import torch
        from safetensors.torch import load_file, save_file

        folders = [tiny_diffusion.dit(tmp_path / str(count), classes=count) for count in (1000, classes)]
        files = [folder / "transformer" / "diffusion_pytorch_model.safetensors" for folder in folders]
        thousand, other = map(load_file, files)
        for name, tensor in thousand.items():
            rows = classes + 1
            spread = torch.cat([tensor[:-1], tensor[:-1]])[: rows - 1]
            other[name] = torch.cat([spread, tensor[-1:]]) if name.endswith("embedding_table.weight") else tensor
        save_file(other, files[1], metadata={"format": "pt"})
        images = [made(opened(folder, guidance=4), jobs(1))[0] for folder in folders]
        assert difference(*images) <= 1

    @pytest.mark.parametrize(
        ("name", "chosen", "noted"),
        [
            ("sd-turbo", {}, True),
            ("sdxl-lightning-4step", {"guidance": 0}, True),
            ("sd-turbo", {"guidance": 0, "steps": 4, "sampler": "model"}, False),
            ("stable-diffusion", {}, False),
        ],
    )
    def test_a_distilled_model_with_settings_of_another_is_noted(
        self, models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, chosen: Any, noted: bool
    ) -> None:
        folder = Path(shutil.copytree(models(STABLE_DIFFUSION), tmp_path / name))
        opened(folder, **{"steps": 20, **chosen})
        said = " ".join(capsys.readouterr().err.split())
        assert (f"note: model = {name}: was distilled to a few steps" in said) == noted

    def test_a_file_of_weights_draws_like_the_folder_that_they_came_from(self, models: Models, tmp_path: Path) -> None:
        folder = models(STABLE_DIFFUSION)
        file = tiny_diffusion.single_file(folder, tmp_path / "private" / "tuned.safetensors")
        generator = opened(file, base=str(folder))
        assert difference(made(generator, jobs(1))[0], made(opened(folder), jobs(1))[0]) <= 1
        facts = {"model": "tuned.safetensors", "license": None}
        assert facts.items() <= generator.metadata.items() and "private" not in json.dumps(generator.metadata)
        assert made(generator, jobs(1))[0].notes["safety"]["checker"] == "none"  # no such file has one
        with pytest.raises(ConfigError, match="model = missing.safetensors: is no .safetensors file; correct the path"):
            opened(tmp_path / "missing.safetensors")
        with pytest.raises(ValueError, match="base = .*: is read for a .safetensors file only"):
            opened(folder, base=str(folder))
        file.write_bytes(b"no tensors")
        with pytest.raises(
            ConfigError, match="model = tuned.safetensors: cannot be read .*; copy or download it again"
        ):
            opened(file)

    def test_a_model_that_does_not_say_its_side_is_told_one(self) -> None:
        from types import SimpleNamespace

        from syn2co.synthesis.generators.diffusion.opening import _resolution

        class Pipe:
            transformer = SimpleNamespace(config={})

            def __call__(self, prompt: str, height: int) -> None: ...

        with pytest.raises(ConfigError, match="resolution: the model does not say the side that it draws at; set it"):
            _resolution(Pipe(), "text-to-image", DiffusionOptions(model="x/y"), SIZE)
        assert _resolution(Pipe(), "text-to-image", DiffusionOptions(model="x/y", resolution=64), SIZE) == 64

    def test_lora_weights_need_their_package(
        self, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from syn2co.synthesis.generators.diffusion import pipelines

        monkeypatch.setattr(pipelines, "find_spec", lambda _: None)
        lora = tiny_diffusion.lora(models(STABLE_DIFFUSION), tmp_path / "style.safetensors")
        with pytest.raises(ConfigError, match="lora = style.safetensors: needs the package peft; run `pip install"):
            opened(models(STABLE_DIFFUSION), lora=str(lora))

    def test_lora_weights_are_merged(self, models: Models, tmp_path: Path) -> None:
        pytest.importorskip("peft", reason="peft is not installed")
        from safetensors.torch import load_file, save_file

        folder = models(STABLE_DIFFUSION)
        lora = tiny_diffusion.lora(folder, tmp_path / "style.safetensors")
        choices: list[dict[str, Any]] = [{}, {"lora": str(lora), "lora_scale": 1e-6}, {"lora": str(lora)}]
        plain, none, whole = (made(opened(folder, **chosen), jobs(1))[0] for chosen in choices)
        assert difference(plain, none) <= 1 < difference(plain, whole)
        assert opened(folder, lora=str(lora)).metadata["lora"] == "style.safetensors"
        with pytest.raises(ConfigError, match="lora = style.safetensors: a DiTPipeline takes no LoRA weights"):
            opened(models(DIT), lora=str(lora))
        tensors = load_file(lora)
        layer = min(tensors).partition(".lora")[0]
        for name, other in (("unet.", "transformer."), (layer, f"{layer}x"), ("attn2", "attn9")):
            save_file({key.replace(name, other): tensor for key, tensor in tensors.items()}, lora)
            with pytest.raises(ConfigError, match="lora = style.safetensors: does not fit a StableDiffusionPipeline"):
                opened(folder, lora=str(lora))


class TestPlans:
    """Subjects that the model of a folder cannot draw are refused by the plan, before anything is loaded or written."""

    @pytest.mark.parametrize(
        ("name", "chosen", "message"),
        [
            (STABLE_DIFFUSION, {"vary": True}, "vary = true: the task of this model is text-to-image, which reads no "),
            (STABLE_DIFFUSION, {"vary": True}, "set options.task=image-to-image"),
            ("pixart_sigma", {"vary": True}, "give a model that varies images"),
            (STABLE_DIFFUSION, {}, "classes: the diffusion generator must be told what to show"),
            ("ddpm", {"classes": ("cat",)}, "classes: the model draws nothing in particular"),
            ("unclip", {"classes": ("cat",)}, "task = image-variation: varies real images; give vary = true"),
            (DIT, {"vary": True}, "vary = true: the task of this model is class-conditional"),
            (DIT, {"captions": "captions.txt"}, "task = class-conditional: draws by class; give classes"),
        ],
    )
    def test_refusals(self, models: Models, real: ImageSet, name: str, chosen: Any, message: str) -> None:
        from syn2co.synthesis.generation.plan import plan
        from syn2co.synthesis.sets.settings import SynthesisSettings

        settings = SynthesisSettings(generator="diffusion", options={"model": str(models(name))}, **chosen)
        with pytest.raises(ConfigError, match=message):
            plan(settings, count=1, real=real)

    def test_a_misspelt_class_leaves_no_recipe(self, models: Models, tmp_path: Path) -> None:
        from syn2co.synthesis.generation.generate import generate
        from syn2co.synthesis.sets.settings import SynthesisSettings

        chosen = {"model": str(models(DIT)), "steps": 1, "license": "mit"}
        names = ["tench", "goldfish", "crane, machine", "goldfsh"]
        of = {"generator": "diffusion", "size": SIZE, "options": chosen, "work": {"batch": 2}}
        with pytest.raises(ConfigError, match="class 'goldfsh': is not among the labels"):
            generate(SynthesisSettings.parse({**of, "classes": names}), tmp_path / "set", progress=False)
        right = SynthesisSettings.parse({**of, "classes": names[:3]})
        assert generate(right, tmp_path / "set", progress=False).complete

    def test_the_function_of_the_page_draws_with_any_pipeline(self, models: Models, tmp_path: Path) -> None:
        from pages import PAGES, blocks

        from syn2co.synthesis.generation.generate import generate
        from syn2co.synthesis.sets.settings import SynthesisSettings

        [page] = [page for page in PAGES if page.name == "diffusion.md"]
        [block] = blocks(page, "python")
        (tmp_path / "any_pipeline.py").write_text(block.text)
        of = {"generator": f"{tmp_path}/any_pipeline.py:draw", "options": {"model": str(models("ddpm")), "steps": 2}}
        assert generate(SynthesisSettings.parse({**of, "size": SIZE}), tmp_path / "set", count=2).complete

    def test_an_unconditional_model_is_planned_by_count(self, models: Models, tmp_path: Path) -> None:
        from syn2co.synthesis.generation.generate import generate
        from syn2co.synthesis.sets.settings import SynthesisSettings

        chosen = {"model": str(models("ddpm")), "steps": 1, "license": "mit"}
        done = generate(SynthesisSettings(generator="diffusion", size=SIZE, options=chosen), tmp_path / "set", count=2)
        assert done.complete and done.images == 2


class TestRecipe:
    """A model folder is known by its content and not by its place; a hub id by its name and revision."""

    def digest(self, model: object, **named: Any) -> str:
        from syn2co.synthesis.generation.plan import plan
        from syn2co.synthesis.sets.settings import SynthesisSettings

        chosen = {"model": str(model), **named}
        return plan(SynthesisSettings(generator="diffusion", classes=("cat",), options=chosen), count=1).recipe_hash

    def test_the_hash_follows_the_content_of_a_folder(
        self, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree(models(STABLE_DIFFUSION), tmp_path / "m" / "sd15")
        shutil.copytree(models(STABLE_DIFFUSION), tmp_path / "renamed")
        shutil.copytree(models(DIT), tmp_path / "other" / "sd15")
        monkeypatch.chdir(tmp_path)
        spelt = (tmp_path / "m" / "sd15", "m/sd15", "./m/sd15", "renamed")
        assert len({self.digest(model) for model in spelt}) == 1
        assert self.digest("m/sd15", revision="noted") == self.digest("m/sd15")
        assert self.digest("other/sd15") != self.digest("m/sd15") != self.digest("m/sd15", guidance=3)
        weights = tmp_path / "renamed" / "unet" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
        assert self.digest("renamed") != self.digest("m/sd15")

    def test_a_hub_id_is_known_by_its_revision(self) -> None:
        hashes = [self.digest(model, revision=r) for model in ("owner/a", "owner/b") for r in (None, "x")]
        assert len(set(hashes)) == 4

    def test_a_model_that_is_neither(self) -> None:
        with pytest.raises(ConfigError, match="model = /no/sd15: is neither a folder nor a hub id"):
            self.digest("/no/sd15")

    def test_a_set_verifies_and_replays_from_another_place(self, models: Models, tmp_path: Path) -> None:
        from syn2co.synthesis.generation.generate import generate
        from syn2co.synthesis.generation.replay import replay
        from syn2co.synthesis.generation.verify import verify
        from syn2co.synthesis.sets.settings import SynthesisSettings

        model = models(STABLE_DIFFUSION)
        chosen = {"model": str(model), "steps": 1, "license": "mit"}
        made_of = SynthesisSettings(generator="diffusion", classes=("cat",), size=SIZE, options=chosen)
        generate(made_of, tmp_path / "set", count=1, progress=False)
        assert verify(tmp_path / "set", progress=False).valid
        line = json.loads((tmp_path / "set" / "000000.jsonl").read_text().splitlines()[0])
        moved = shutil.copytree(model, tmp_path / "elsewhere" / "renamed")
        assert replay(tmp_path / "set", line["id"], settings=[f"options.model={moved}"]).same
        grown = SynthesisSettings.parse({**made_of.model_dump(), "options": {**chosen, "model": str(moved)}})
        assert generate(grown, tmp_path / "set", count=2, progress=False).complete
        assert verify(tmp_path / "set", progress=False).valid

    def test_options_that_the_first_sets_lack_change_no_hash(self) -> None:
        """Recorded at revision e3803e1."""
        assert self.digest("owner/a", revision="x", guidance=3) == "fde3c64b727e1e38b4150469e5f7ff6c"

    def test_the_hash_of_a_folder_stays(self, tmp_path: Path) -> None:
        """Recorded at revision e3803e1."""
        from syn2co.synthesis.generators.diffusion import code

        (tmp_path / "unet").mkdir()
        index = '{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}'
        (tmp_path / "model_index.json").write_text(index)
        (tmp_path / "unet" / "config.json").write_text("{}")
        (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
        assert code(DiffusionOptions(model=str(tmp_path))) == "54d142d29629a8ea711959744c985787"


class TestHub:
    def test_a_folder_needs_no_network(self, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
        import socket

        monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("the network was used"))
        assert made(opened(models(STABLE_DIFFUSION)), jobs(1))

    def test_an_id_is_looked_up_and_its_commit_noted(
        self, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import huggingface_hub
        from diffusers.pipelines.pipeline_utils import DiffusionPipeline

        commit = "0123456789abcdef0123456789abcdef01234567"
        cached = tmp_path / "models--owner--name" / "snapshots" / commit
        asked: list[tuple[Any, ...]] = []

        def download(model: str, revision: str | None, variant: str | None) -> str:
            asked.append((model, revision, variant))
            return str(shutil.copytree(models(STABLE_DIFFUSION), cached))

        def card(model: str, file: str, revision: str | None) -> None:
            asked.append((model, file, revision))
            (cached / file).write_text("---\nlicense: mit\n---\n")

        def config(name: Any, **given: Any) -> Any:
            return {"_class_name": "StableDiffusionPipeline"} if name == "owner/name" else own_config(name, **given)

        own_config = DiffusionPipeline.load_config
        monkeypatch.setattr(DiffusionPipeline, "load_config", config)
        monkeypatch.setattr(DiffusionPipeline, "download", download)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", card)
        metadata = open_generator(
            DiffusionOptions(model="owner/name", revision="main", steps=1), Context(size=SIZE)
        ).metadata
        assert (metadata["model"], metadata["revision"], metadata["license"]) == ("owner/name", commit, "mit")
        assert asked == [("owner/name", "main", None), ("owner/name", "README.md", commit)]

    def test_an_unsupported_model_is_refused_before_it_is_fetched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from diffusers.pipelines.pipeline_utils import DiffusionPipeline

        monkeypatch.setattr(DiffusionPipeline, "load_config", lambda *_, **__: {"_class_name": "WanPipeline"})
        monkeypatch.setattr(DiffusionPipeline, "download", lambda *_, **__: pytest.fail("it was fetched"))
        with pytest.raises(ConfigError, match="model = owner/wan: is a WanPipeline, which diffusers' auto pipelines"):
            open_generator(DiffusionOptions(model="owner/wan"), Context(size=SIZE))

    def test_an_id_without_network(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub.constants

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(
            ConfigError, match=r"model = owner/name: is no folder here and cannot be had .* the network"
        ):
            open_generator(DiffusionOptions(model="owner/name"), Context(size=SIZE))


def test_nothing_is_printed_and_the_libraries_get_their_settings_back(
    models: Models, capfd: pytest.CaptureFixture[str]
) -> None:
    import logging

    logs = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    before = [(list(log.handlers), log.level, log.propagate) for log in logs]
    made(opened(models(STABLE_DIFFUSION)), jobs(1, prompt="the " * 30))
    assert capfd.readouterr() == ("", "")
    assert [(list(log.handlers), log.level, log.propagate) for log in logs] == before
