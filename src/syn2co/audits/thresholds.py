"""The thresholds behind the findings of an audit."""

from syn2co.audits.fidelity import TAIL
from syn2co.images.near_copies import AGREEMENT, ALIKE_SHARE, CLOSER, RADIUS

DEAD_SHARE, REPEATED_SHARE, COPIED_SHARE, MEMORIZED_SHARE = 0.01, 0.01, 0.01, 0.05
VENDI_SHARE, COVERED_SHARE, RECALLED_SHARE, AUC_EASY, UNEVEN = 0.8, 0.8, 0.5, 0.8, 2.0
THRESHOLDS = {
    "phash_bits": RADIUS,
    "thumbnail_correlation": AGREEMENT,
    "closer_than_alike": CLOSER,
    "alike_share": ALIKE_SHARE,
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
