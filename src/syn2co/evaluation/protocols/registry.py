"""Every protocol by its name on the command line: one line each."""

from syn2co.evaluation.protocols.adversarial import adversarial
from syn2co.evaluation.protocols.calibration import calibration
from syn2co.evaluation.protocols.dense import dense
from syn2co.evaluation.protocols.few_shot import few_shot
from syn2co.evaluation.protocols.fine_tune import fine_tune, fine_tune_few
from syn2co.evaluation.protocols.health import health
from syn2co.evaluation.protocols.knn import knn
from syn2co.evaluation.protocols.linear import linear
from syn2co.evaluation.protocols.linear_augmented import linear_augmented, linear_moby_as_released
from syn2co.evaluation.protocols.protocol import Protocol
from syn2co.evaluation.protocols.retrieval import retrieval
from syn2co.evaluation.protocols.robustness import robustness
from syn2co.evaluation.protocols.variants import variants

PROTOCOLS: dict[str, Protocol] = {
    "knn": Protocol(knn),
    "linear": Protocol(linear),
    "linear-augmented": Protocol(linear_augmented),
    "linear-moby-as-released": Protocol(linear_moby_as_released),
    "few-shot": Protocol(few_shot),
    "fine-tune": Protocol(fine_tune),
    "fine-tune-few": Protocol(fine_tune_few),
    "retrieval": Protocol(retrieval),
    "dense": Protocol(dense, needs="masks"),
    "health": Protocol(health, needs="images"),
    "robustness": Protocol(robustness),
    "calibration": Protocol(calibration),
    "adversarial": Protocol(adversarial),
    "variants": Protocol(variants),
}
