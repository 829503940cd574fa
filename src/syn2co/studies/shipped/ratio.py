"""Which ratio? The share of synthetic images from none to all, at equal steps, with few real images and with more."""

from syn2co.studies.grid import Contrast, Level, Study

SHARES = (0.1, 0.25, 0.5, 0.75)
NUMBERS = (500, 4000)

study = Study(
    name="ratio",
    title="Which share of synthetic images is best?",
    recipe="synco-cifar10",
    settings=("encoder.options.embed_dims=[32,64,128]", "training.steps=3000", "mix.epoch_images=8000"),
    factors={
        "real images": {str(number): Level(real_images=number) for number in NUMBERS},
        "synthetic share": {
            "0": Level(images="real"),
            **{str(share): Level(images="mixed", source="fitted", share=share) for share in SHARES},
            "1": Level(images="synthetic", source="fitted"),
        },
    },
    baseline={"real images": "500", "synthetic share": "0"},
    contrasts=tuple(
        Contrast(
            name=f"a synthetic share of {share} against none, 500 real images",
            question="ratio",
            one={"synthetic share": share},
            other={"synthetic share": "0"},
        )
        for share in ("0.25", "0.5", "0.75", "1")
    ),
    protocols=("knn", "linear", "robustness"),
    evaluation=("robustness.max_images=1000",),
    axis="synthetic share",
    versus="real images",
)
