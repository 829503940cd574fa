"""`study`: run a grid of pretraining runs, and answer its questions on one page."""

from pathlib import Path

from syn2co.core.errors import StudyError
from syn2co.core.paths import user_path
from syn2co.reports.study_pictures import draw_pictures, store_pictures, stored_pictures, write_page_with_pictures
from syn2co.studies.answers import StudyAnswers, answer
from syn2co.studies.cluster import run_on_cluster
from syn2co.studies.estimate import expected_costs
from syn2co.studies.grid import Study
from syn2co.studies.inputs import ClusterSettings, StudyInputs
from syn2co.studies.load import load_study
from syn2co.studies.run import begin, run_cells


def study(
    study: str | Path | Study,
    inputs: StudyInputs,
    *,
    out: str | Path,
    budget: float | None = None,
    jobs: int | None = None,
    shard: str | None = None,
    cluster: ClusterSettings | None = None,
    progress: bool = True,
) -> StudyAnswers:
    """Run the cells of a study that its folder lacks, and write study.html, which answers its questions.

    Each cell is a run of `pretrain` and its scores. A finished cell never runs twice, a killed one resumes, a failed
    one is named with its reason while the rest goes on; the same call goes on where it was stopped. Thumbnails of some
    real and synthetic images are kept in pictures.json, for this page and those of `report`.

    Args:
        study: a `Study`, the name of a shipped one (small, enough, ratio, negatives, views, paper), or the path of a
            Python file that defines `study`.
        inputs: images to train on, labeled images to score on, and settings of all runs.
        out: folder of the study, made if needed.
        budget: seconds; no comparison is begun that is not expected to end in time. None is no limit.
        jobs: cells at the same time, each with its part of the cores; None is 1 here, and the scheduler's limit on a
            cluster.
        shard: "i/n" runs part i (from 1) of n of the cells, for other machines or a scheduler; `report` merges folders.
        cluster: run the cells as jobs of SLURM through submitit (extra `cluster`).
        progress: show bars on standard error.

    Returns:
        Estimates of all cells, contrasts and the answers in sentences.

    Raises:
        StudyError: if the study or a cell cannot be, or the folder holds another study.
        DataError: if images are missing or too broken.
        KeyboardInterrupt, SystemExit: after Ctrl-C or SIGTERM, once the running cells are saved.

    Example:
        >>> from syn2co.studies import Level, Study
        >>> steps = ("training.steps=2", "training.batch=8", "queue.size=64", "heads.hidden=64", "negatives=none")
        >>> levels = {"trained": Level(), "untrained": Level(images="untrained")}
        >>> mine = Study(
        ...     name="mine",
        ...     title="Does training help?",
        ...     recipe="demo",
        ...     settings=steps,
        ...     factors={"encoder": levels},
        ...     baseline={"encoder": "untrained"},
        ...     protocols=("knn",),
        ...     seeds=1,
        ... )
        >>> digits = ["builtin:digits:train"]
        >>> inputs = StudyInputs(real=digits, train=digits, test=["builtin:digits:test"])
        >>> answers = study(mine, inputs, out="mine", progress=False)
        >>> len(answers.results.cells), Path("mine/study.html").exists()
        (2, True)
    """
    if cluster is not None and budget is not None:
        raise StudyError(
            "--budget: means nothing on a cluster, whose jobs run at once; limit --minutes, or use --shard"
        )
    out = user_path(out)
    run = begin(load_study(study), inputs, out, shard=shard)
    unfinished = bool(run.open_jobs)
    if cluster is None:
        expected = {} if budget is None else expected_costs(run)
        results = run_cells(run, budget=budget, expected=expected, jobs=jobs or 1, progress=progress)
    else:
        options = cluster.model_dump(exclude={"kind"})
        results = run_on_cluster(run, cluster.kind, jobs=jobs, progress=progress, **options)
    answers = answer(results)
    if (unfinished or not stored_pictures(out)) and (pictures := draw_pictures(run)):
        store_pictures(out, pictures)
    write_page_with_pictures(answers, out, [out])
    return answers
