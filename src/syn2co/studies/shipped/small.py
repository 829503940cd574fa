"""Does faking help here? For any folder, on a CPU: few and more real images, alone and with cheap synthetic ones."""

from syn2co.studies.grid import Contrast, Level, Study

NUMBERS = (64, 256, 1024)
ALONE, PROCEDURAL, FITTED = "real only", "half procedural", "half fitted"

study = Study(
    name="small",
    title="Does faking help on these images?",
    recipe="synco-cifar10",
    settings=("encoder.options.embed_dims=[32,64,128]", "training.steps=1500", "mix.epoch_images=4096"),
    factors={
        "real images": {str(number): Level(real_images=number) for number in NUMBERS},
        "images": {
            ALONE: Level(images="real"),
            PROCEDURAL: Level(images="mixed", source="procedural", share=0.5),
            FITTED: Level(images="mixed", source="fitted", share=0.5),
            "untrained": Level(images="untrained"),
        },
    },
    only=({"images": (ALONE, PROCEDURAL, FITTED)}, {"images": ("untrained",), "real images": (str(NUMBERS[0]),)}),
    baseline={"real images": str(NUMBERS[0]), "images": ALONE},
    contrasts=(
        Contrast(
            name=f"pretraining on {NUMBERS[0]} images against a random encoder",
            question="random",
            one={"images": ALONE},
            other={"images": "untrained"},
        ),
        *(
            Contrast(
                name=f"{images}, {NUMBERS[0]} real images",
                question="enough",
                one={"images": images},
                other={"images": ALONE},
            )
            for images in (PROCEDURAL, FITTED)
        ),
    ),
    protocols=("knn", "linear"),
    generated=4096,
    axis="real images",
    versus="images",
)
