"""The thresholds behind the findings of an audit."""

from syn2co.audits.duplicates import AGREEMENT, RADIUS
from syn2co.audits.fidelity import TAIL

DEAD_SHARE, REPEATED_SHARE, COPIED_SHARE, MEMORIZED_SHARE = 0.01, 0.01, 0.01, 0.05
VENDI_SHARE, COVERED_SHARE, RECALLED_SHARE, AUC_EASY, UNEVEN = 0.8, 0.8, 0.5, 0.8, 2.0
THRESHOLDS = {
    "phash_bits": RADIUS,
    "thumbnail_correlation": AGREEMENT,
    "dead_share": DEAD_SHARE,
    "repeated_share": REPEATED_SHARE,
    "copied_share": COPIED_SHARE,
    "memorized_share": MEMORIZED_SHARE,
    "memorization_tail": TAIL,
    "vendi_share_of_real": VENDI_SHARE,
    "coverage_share_of_real": COVERED_SHARE,
    "recall_share_of_real": RECALLED_SHARE,
    "auc_easy": AUC_EASY,
    "class_ratio": UNEVEN,
}
