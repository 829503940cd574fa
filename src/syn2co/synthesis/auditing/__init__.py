"""What is wrong with synthetic images, and how they compare to real ones: `audit`, its report and its page."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syn2co.synthesis.auditing.report import AuditReport as AuditReport
    from syn2co.synthesis.auditing.run import LeakError as LeakError
    from syn2co.synthesis.auditing.run import audit as audit
    from syn2co.synthesis.auditing.sides import AuditError as AuditError

_HOME = {"AuditError": "sides", "AuditReport": "report", "LeakError": "run", "audit": "run"}
__all__ = ["AuditError", "AuditReport", "LeakError", "audit"]


def __getattr__(name: str) -> Any:
    """Import the public names on first use: they need OpenCV and torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'syn2co.synthesis.auditing' has no attribute {name!r}")
    return getattr(import_module(f"syn2co.synthesis.auditing.{_HOME[name]}"), name)
