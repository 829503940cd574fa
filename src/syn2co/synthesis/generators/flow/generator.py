"""A small rectified flow trained on the user's images: new images, and variations of real ones (SDEdit).

Ten minutes of a CPU give blobs in natural colors and layouts, not objects. Axis letters: B batch, S side in pixels.
"""

from syn2co.core.versions import package_versions
from syn2co.synthesis.generators.flow.options import FlowOptions
from syn2co.synthesis.sets.spec import Context, Generator


def open_generator(options: FlowOptions, context: Context) -> Generator:
    """Return a generator of the flow in the model folder; it is trained now, or trained on, if it is not finished.

    Raises:
        ConfigError: if diffusers is missing or the model in the folder is of other settings.
        DataError: if there are no images to train on, or the model is of other images.
        CheckpointError: if a file of the model is missing or damaged.
        TrainingError: if the loss is not finite.
        KeyboardInterrupt, SystemExit: after Ctrl-C or SIGTERM while training, once a checkpoint is saved.
    """
    from syn2co.synthesis.generators.flow.model import open_model
    from syn2co.synthesis.generators.flow.sampling import Sampler, SourceImages

    velocity, conditions, size, name = open_model(options, context)
    sampler = Sampler(
        velocity,
        conditions,
        SourceImages(context.real, size),
        steps=options.sampling_steps,
        guidance=_guidance(options),
        noise_level=options.noise_level,
        size=context.size,
    )

    return Generator(
        make=sampler.make,
        metadata={
            "generator": "flow",
            "model": name,
            "revision": None,
            "license": "as the images it was trained on",
            "guidance": _guidance(options),
            "steps": options.sampling_steps,
            "sampler": "euler",
            "made_at": size,
            "versions": package_versions("torch", "diffusers", "numpy"),
        },
        exact=False,
        labels_used=options.condition == "class",
        batch=64,
    )


def _guidance(options: FlowOptions) -> float:
    return 1.0 if options.condition == "none" else options.guidance
