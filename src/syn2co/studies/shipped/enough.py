"""How many real images are enough? Real images alone against the ways of faking the missing ones, at each number."""

from syn2co.studies.grid import Contrast, Level, Study

NUMBERS = (500, 2000, 8000)
ALONE, WEAK, FITTED, FLOW = "real only", "real only, weak views", "half fitted", "half flow"
THEN, VARIED, UNTRAINED = "fitted, then real", "variations as views", "untrained"


def against_real(images: str, number: int) -> Contrast:
    """Return the contrast of one way of faking with real images alone, at one number of real images."""
    name = f"{images} against real images alone, {number} of them"
    question = "views" if images == WEAK else "enough"
    return Contrast(
        name=name,
        question=question,
        one={"images": images, "real images": str(number)},
        other={"images": ALONE, "real images": str(number)},
    )


study = Study(
    name="enough",
    title="How many real images are enough, and can faked ones replace the missing?",
    recipe="synco-cifar10",
    settings=("encoder.options.embed_dims=[32,64,128]", "training.steps=3000", "mix.epoch_images=8000"),
    factors={
        "real images": {str(number): Level(real_images=number) for number in NUMBERS},
        "images": {
            ALONE: Level(images="real"),
            WEAK: Level(images="real", settings=("views=weak",)),
            FITTED: Level(images="mixed", source="fitted", share=0.5),
            FLOW: Level(images="mixed", source="flow", share=0.5),
            THEN: Level(images="then", source="fitted", share=0.5),
            VARIED: Level(images="replace", source="flow", share=1.0),
            UNTRAINED: Level(images="untrained"),
        },
    },
    only=({"images": (ALONE, WEAK, FITTED, FLOW, THEN, VARIED)}, {"images": (UNTRAINED,), "real images": ("500",)}),
    baseline={"real images": "500", "images": ALONE},
    contrasts=(
        Contrast(
            name="pretraining against a random encoder, 500 real images",
            question="random",
            one={"images": ALONE},
            other={"images": UNTRAINED},
        ),
        *(against_real(images, 500) for images in (FITTED, FLOW, THEN, VARIED, WEAK)),
        *(against_real(FITTED, number) for number in NUMBERS[1:]),
    ),
    generators={"flow": {"work": {"count": 2000}}},  # a CPU core samples a few per second
    variations=1,
    protocols=("knn", "linear", "robustness"),
    evaluation=("robustness.max_images=1000",),
    axis="real images",
    versus="images",
)
