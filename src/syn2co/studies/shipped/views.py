"""Do variations help as views, and how strong should views be? Variations and a mix, under strong and weak views.

With controls: weak views without synthetic images, and variations with group masks on and off. Strong views are the
recipe's. Source of the mix under weak views: AdaInf, ICLR 2024.
"""

from syn2co.studies.grid import Contrast, Level, Study

ALONE, MIXED, VARIED = "real only", "half flow", "variations as views"

study = Study(
    name="views",
    title="Do synthetic variations help as views, and how strong should views be?",
    recipe="synco-cifar10",
    settings=(
        "encoder.options.embed_dims=[32,64,128]",
        "training.steps=3000",
        "mix.epoch_images=8000",
    ),
    factors={
        "images": {
            ALONE: Level(images="real", real_images=2000),
            MIXED: Level(images="mixed", source="flow", share=0.5, real_images=2000),
            VARIED: Level(images="replace", source="flow", share=1.0, real_images=2000),
        },
        "views": {"strong": Level(), "weak": Level(settings=("views=weak",))},
        "groups": {
            "masked": Level(settings=("negatives.mask_groups=true",)),
            "unmasked": Level(settings=("negatives.mask_groups=false",)),
        },
    },
    only=({"groups": ("masked",)}, {"images": (VARIED,)}),
    baseline={"images": ALONE, "views": "strong", "groups": "masked"},
    contrasts=(
        Contrast(name="variations as views", question="views", one={"images": VARIED}, other={"images": ALONE}),
        Contrast(
            name="variations under weak views against weak views alone",
            question="views",
            one={"images": VARIED, "views": "weak"},
            other={"images": ALONE, "views": "weak"},
        ),
        Contrast(
            name="half flow under weak views against weak views alone",
            question="views",
            one={"images": MIXED, "views": "weak"},
            other={"images": ALONE, "views": "weak"},
        ),
        Contrast(name="weak views alone", question="views", one={"views": "weak"}, other={"views": "strong"}),
        Contrast(
            name="group masks on variations",
            question="views",
            one={"images": VARIED},
            other={"images": VARIED, "groups": "unmasked"},
        ),
    ),
    generators={"flow": {"work": {"count": 2000}}},  # a CPU core samples a few per second
    protocols=("knn", "linear", "robustness"),
    evaluation=("robustness.max_images=1000",),
)
