"""`python -m syn2co.studies.worker FOLDER HASH INPUTS [THREADS]`: cells of a study in a process of its own.

HASH is that of one cell, or "-": then hashes are read from standard input, a line each, and answered with a line once
the cell is finished or has failed; what is printed meanwhile goes to the log of the cell. INPUTS is the file in the
folder with the inputs of the call that runs the cells.
"""

import os
import sys
from pathlib import Path

from syn2co.core.files import no_link
from syn2co.runtime.signals import ends_on_signals
from syn2co.studies.run import LOG, StudyRun, reopen, run_one


def run_by_hash(run: StudyRun, cell: str) -> str:
    """Run the cell of this hash; return what became of it in words."""
    return run_one(run, next(job for job in run.jobs if job.hash == cell), progress=True)


def serve(run: StudyRun) -> None:
    """Run the cells whose hashes come by standard input, until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        job = next(job for job in run.jobs if job.hash == line.strip())
        folder = run.cell_folder(job)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / LOG, "ab", opener=no_link) as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
        print(run_one(run, job, progress=True), flush=True)
        answers.write("over\n")
        answers.flush()


if __name__ == "__main__":
    path, wanted, inputs, *count = sys.argv[1:]
    with ends_on_signals():
        study = reopen(Path(path), inputs, int(count[0]) if count else None)
        if wanted == "-":
            serve(study)
        else:
            print(run_by_hash(study, wanted))
