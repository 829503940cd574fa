"""Do synthetic negatives help? None, MoCHI's two kinds, each kind alone, and all six, with five seeds."""

from syn2co.objective.counts import KINDS
from syn2co.studies.grid import Contrast, Level, Study

ALL = "all six"

study = Study(
    name="negatives",
    title="Do synthetic negatives help, and which kind?",
    recipe="moby-cifar10",
    settings=("encoder.options.embed_dims=[32,64,128]", "training.steps=3000", "mix.epoch_images=8000"),
    factors={
        "negatives": {
            "none": Level(settings=("negatives=none",)),
            ALL: Level(settings=("negatives=as-released",)),
            "MoCHI": Level(settings=("negatives=mochi",)),
            **{kind: Level(settings=("negatives=none", f"negatives.{kind}=256")) for kind in KINDS},
        },
    },
    baseline={"negatives": "none"},
    contrasts=(
        Contrast(
            name="all six kinds against none", question="negatives", one={"negatives": ALL}, other={"negatives": "none"}
        ),
        Contrast(
            name="MoCHI's kinds against none",
            question="negatives",
            one={"negatives": "MoCHI"},
            other={"negatives": "none"},
        ),
    ),
    protocols=("knn", "linear", "robustness"),
    evaluation=("robustness.max_images=1000",),
    seeds=5,
)
