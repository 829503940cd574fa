"""A verdict on one check, and the thresholds behind all of them."""

from dataclasses import dataclass
from typing import Literal

from syn2co.audits.duplicates import AGREEMENT, RADIUS
from syn2co.audits.fidelity import TAIL

Mark = Literal["ok", "look", "bad"]
DEAD_SHARE, REPEATED_SHARE, COPIED_SHARE, MEMORISED_SHARE = 0.01, 0.01, 0.01, 0.05
VENDI_SHARE, COVERED_SHARE, RECALLED_SHARE, AUC_EASY, UNEVEN = 0.8, 0.8, 0.5, 0.8, 2.0
THRESHOLDS = {
    "phash_bits": RADIUS,
    "thumbnail_correlation": AGREEMENT,
    "dead_share": DEAD_SHARE,
    "repeated_share": REPEATED_SHARE,
    "copied_share": COPIED_SHARE,
    "memorised_share": MEMORISED_SHARE,
    "memorisation_tail": TAIL,
    "vendi_share_of_real": VENDI_SHARE,
    "coverage_share_of_real": COVERED_SHARE,
    "recall_share_of_real": RECALLED_SHARE,
    "auc_easy": AUC_EASY,
    "class_ratio": UNEVEN,
}


@dataclass(frozen=True)
class Finding:
    """One verdict: what was checked, how it stands, the sentence with the numbers, and what to do."""

    check: str
    mark: Mark
    sentence: str
    advice: str = ""
