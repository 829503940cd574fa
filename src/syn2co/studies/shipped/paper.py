"""The authors' protocol: ImageNet-100 and its clone, DeiT-S and Swin-T, 300 epochs, batch 512 (4 x 128); for GPUs.

The paper names no ratio, generator or prompts: those here are ours, as the names of the levels say. Give the clone as a
data set folder of `syn2co generate --generator diffusion --classes imagenet-100.txt` named clone in the working folder.
The score that decides is the authors' linear head on the given images; "syn2co" adds the rest of their suite.
"""

from syn2co.studies.grid import Contrast, Level, Question, Study

ENCODERS = {
    "DeiT-S": Level(settings=('encoder={"name": "deit_small_patch16_224"}',)),
    "Swin-T": Level(settings=('encoder={"name": "swin_tiny_patch4_window7_224"}',)),
}
HALF, CLONE = "our clone at our ratio of 0.5", "our clone alone"
WINDOW = ("negatives.start=30", "negatives.stop=100")

COMPARED: tuple[tuple[str, Question, dict[str, str]], ...] = (
    ("all six kinds against none", "negatives", {"negatives": "all six"}),
    ("half of the images from our clone", "fake", {"images": HALF}),
    ("both fakes, images from our clone", "fake", {"images": HALF, "negatives": "all six"}),
)

study = Study(
    name="paper",
    title="Do synthetic images and synthetic negatives give robust, transferable features (arXiv:2509.02029)?",
    recipe="moby-deit-s",
    settings=("training.epochs=300", "training.batch=512"),
    factors={
        "encoder": ENCODERS,
        "images": {
            "real": Level(images="real"),
            HALF: Level(images="mixed", source="clone", share=0.5),
            CLONE: Level(images="synthetic", source="clone"),
        },
        "negatives": {
            "none": Level(settings=("negatives=none",)),
            "MoCHI": Level(settings=("negatives=mochi", *WINDOW)),
            "all six": Level(settings=("negatives=as-intended", *WINDOW)),
        },
    },
    baseline={"encoder": "DeiT-S", "images": "real", "negatives": "none"},
    contrasts=tuple(
        Contrast(
            name=f"{name}, {encoder}", question=question, one={"encoder": encoder, **one}, other={"encoder": encoder}
        )
        for encoder in ENCODERS
        for name, question, one in COMPARED
    ),
    protocols=("linear", "syn2co", "knn", "robustness"),
    seeds=5,
)
