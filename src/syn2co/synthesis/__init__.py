"""Synthetic images: sets (planned and read), generators (jobs in, images out), generation (sets written)."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from syn2co.core.settings import Settings as Settings
    from syn2co.synthesis.generation.generate import DatasetInfo as DatasetInfo
    from syn2co.synthesis.generation.generate import generate as generate
    from syn2co.synthesis.generation.plan import plan as plan
    from syn2co.synthesis.generation.replay import replay as replay
    from syn2co.synthesis.generation.verify import verify as verify
    from syn2co.synthesis.sets.job import Job as Job
    from syn2co.synthesis.sets.plan import Plan as Plan
    from syn2co.synthesis.sets.settings import SynthesisSettings as SynthesisSettings
    from syn2co.synthesis.sets.spec import Context as Context
    from syn2co.synthesis.sets.spec import GeneratedImage as GeneratedImage
    from syn2co.synthesis.sets.spec import Generator as Generator
    from syn2co.synthesis.sets.spec import Skipped as Skipped

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "generation.generate": ["DatasetInfo", "generate"],
        "generation.plan": ["plan"],
        "generation.replay": ["replay"],
        "generation.verify": ["verify"],
        "sets.job": ["Job"],
        "sets.plan": ["Plan"],
        "sets.settings": ["Settings", "SynthesisSettings"],
        "sets.spec": ["Context", "Generator", "GeneratedImage", "Skipped"],
    },
)
