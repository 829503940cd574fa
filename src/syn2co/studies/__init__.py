"""Studies: grids of runs, their scores with the seed as unit of repetition, and what these answer."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from syn2co.studies.grid import Contrast as Contrast
    from syn2co.studies.grid import Level as Level
    from syn2co.studies.grid import Study as Study
    from syn2co.studies.inputs import StudyInputs as StudyInputs
    from syn2co.studies.merge import read_study as read_study
    from syn2co.studies.results import StudyResults as StudyResults

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "grid": ["Contrast", "Level", "Study"],
        "inputs": ["StudyInputs"],
        "merge": ["read_study"],
        "results": ["StudyResults"],
    },
)
