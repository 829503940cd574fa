"""Syn2Co: train vision transformers without labels, with synthetic hard negatives and synthetic images."""

from typing import TYPE_CHECKING

import lazy_loader

from syn2co.core.versions import __version__ as __version__

if TYPE_CHECKING:
    from syn2co.audits.settings import AuditSettings as AuditSettings
    from syn2co.data.open import open_images as open_images
    from syn2co.demonstration.demo import demo as demo
    from syn2co.diagnostics.doctor import doctor as doctor
    from syn2co.evaluation.embed import embed as embed
    from syn2co.evaluation.feature_cache import cache as cache
    from syn2co.evaluation.settings import EvaluationSettings as EvaluationSettings
    from syn2co.models.export import export as export
    from syn2co.models.load import load_encoder as load_encoder
    from syn2co.pretraining.config import Config as Config
    from syn2co.pretraining.planner import estimate as estimate
    from syn2co.pretraining.recipes import recipe as recipe
    from syn2co.pretraining.recipes import recipes as recipes
    from syn2co.pretraining.train import pretrain as pretrain
    from syn2co.reports.audit import audit as audit
    from syn2co.reports.compare import compare as compare
    from syn2co.reports.evaluation import evaluate as evaluate
    from syn2co.reports.reference import settings as settings
    from syn2co.reports.report import report as report
    from syn2co.reports.study import study as study
    from syn2co.studies.inputs import StudyInputs as StudyInputs
    from syn2co.synthesis.generation.generate import generate as generate
    from syn2co.synthesis.generation.plan import plan as plan
    from syn2co.synthesis.generation.replay import replay as replay
    from syn2co.synthesis.generation.verify import verify as verify
    from syn2co.synthesis.sets.settings import SynthesisSettings as SynthesisSettings

# Names are imported on first use: `import syn2co` costs milliseconds, torch seconds.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "audits.settings": ["AuditSettings"],
        "data.open": ["open_images"],
        "demonstration.demo": ["demo"],
        "diagnostics.doctor": ["doctor"],
        "evaluation.embed": ["embed"],
        "evaluation.feature_cache": ["cache"],
        "evaluation.settings": ["EvaluationSettings"],
        "models.export": ["export"],
        "models.load": ["load_encoder"],
        "pretraining.config": ["Config"],
        "pretraining.planner": ["estimate"],
        "pretraining.recipes": ["recipe", "recipes"],
        "pretraining.train": ["pretrain"],
        "reports.audit": ["audit"],
        "reports.compare": ["compare"],
        "reports.evaluation": ["evaluate"],
        "reports.reference": ["settings"],
        "reports.report": ["report"],
        "reports.study": ["study"],
        "studies.inputs": ["StudyInputs"],
        "synthesis.generation.generate": ["generate"],
        "synthesis.generation.plan": ["plan"],
        "synthesis.generation.replay": ["replay"],
        "synthesis.generation.verify": ["verify"],
        "synthesis.sets.settings": ["SynthesisSettings"],
    },
)

__all__ = [
    "AuditSettings",
    "Config",
    "EvaluationSettings",
    "StudyInputs",
    "SynthesisSettings",
    "__version__",
    "audit",
    "cache",
    "compare",
    "demo",
    "doctor",
    "embed",
    "estimate",
    "evaluate",
    "export",
    "generate",
    "load_encoder",
    "open_images",
    "plan",
    "pretrain",
    "recipe",
    "recipes",
    "replay",
    "report",
    "settings",
    "study",
    "verify",
]
