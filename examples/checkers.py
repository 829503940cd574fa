"""A generator of your own: one function, one image for each job.

    syn2co generate --generator examples/checkers.py:checkers --count 1000 --size 64 --out runs/checkers

`job` says what the image is of (`subject`, `class_name`, `prompt`, ..) and `job.rng()` is the only randomness there
should be: then an image depends on its job alone, whatever the batch, the process or the restart. Parameters behind
`size` are options, changed with --set options.squares=16. `job.group_rng()` is shared by the images of one program
(--set per_subject=4), which are positive pairs: here they share their colors and differ in place and turn.
"""

import numpy as np

from syn2co.synthesis.sets.job import Job


def checkers(job: Job, size: int, *, squares: int = 6, jitter: float = 0.5) -> np.ndarray:
    """Return a turned checkerboard in two colors, uint8 [size, size, 3]."""
    colors = job.group_rng().integers(0, 256, (2, 3), dtype=np.uint8)
    draws = job.rng()
    angle, shift = draws.uniform(-jitter, jitter), draws.uniform(0, 2, 2)
    y, x = np.mgrid[:size, :size] * (squares / size)
    across = np.cos(angle) * x - np.sin(angle) * y + shift[0]
    down = np.sin(angle) * x + np.cos(angle) * y + shift[1]
    return colors[(np.floor(across) + np.floor(down)).astype(int) % 2]
