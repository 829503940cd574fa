"""Settings of an audit."""

from pydantic import Field

from syn2co.audits.limits import ENOUGH, MAX_IMAGES
from syn2co.core.settings import Settings


class AuditSettings(Settings):
    """Settings of `audit`: the images whose features are compared, and the verdict on a leak.

    Example:
        >>> AuditSettings(max_images=200).allow_leak
        False
    """

    max_images: int = Field(default=MAX_IMAGES, ge=ENOUGH)
    """Most images of each set whose features are compared; hashes are taken of all."""
    allow_leak: bool = False
    """Report images of the evaluation set, but do not fail."""
    seed: int = 0
    """Seed of the choice of images."""
    device: str = "auto"
    """Device of the encoder: auto, cpu, cuda, cuda:N or mps."""
