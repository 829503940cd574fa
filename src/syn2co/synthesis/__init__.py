"""Synthetic images: plan, generate, audit. An image depends on its job alone."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syn2co.synthesis.generating import DatasetInfo as DatasetInfo
    from syn2co.synthesis.generating import generate as generate
    from syn2co.synthesis.generator import Context as Context
    from syn2co.synthesis.generator import Generator as Generator
    from syn2co.synthesis.generator import Made as Made
    from syn2co.synthesis.generator import Skipped as Skipped
    from syn2co.synthesis.job import Job as Job
    from syn2co.synthesis.plans import Plan as Plan
    from syn2co.synthesis.plans import plan as plan
    from syn2co.synthesis.replaying import replay as replay
    from syn2co.synthesis.settings import SynthesisSettings as SynthesisSettings
    from syn2co.synthesis.verification import verify as verify

_HOME = {
    "Context": "generator",
    "DatasetInfo": "generating",
    "Generator": "generator",
    "Job": "job",
    "Made": "generator",
    "Plan": "plans",
    "Skipped": "generator",
    "SynthesisSettings": "settings",
    "generate": "generating",
    "plan": "plans",
    "replay": "replaying",
    "verify": "verification",
}
__all__ = [
    "Context", "DatasetInfo", "Generator", "Job", "Made", "Plan", "Skipped", "SynthesisSettings", "generate", "plan",
    "replay", "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import the public names on first use: the command line's help must not pay for NumPy and OpenCV."""
    if name not in _HOME:
        raise AttributeError(f"module 'syn2co.synthesis' has no attribute {name!r}")
    return getattr(import_module(f"syn2co.synthesis.{_HOME[name]}"), name)
