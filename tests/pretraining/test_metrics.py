"""metrics.jsonl: means between two lines, torn lines, and the cut at the step that a run resumes from."""

from pathlib import Path

from syn2co.pretraining.metrics import Averages, MetricsWriter, read_metrics


def test_averages_by_hand_and_through_their_state() -> None:
    averages = Averages()
    averages.add({"loss": 1.0, "mass": 4.0})
    averages = Averages(averages.sums)
    averages.add({"loss": 2.0})
    assert averages.take() == {"loss": 1.5, "mass": 4.0}
    assert averages.take() == {}


def test_lines_after_the_checkpoint_and_torn_lines_are_cut_off(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2, 3]
    with MetricsWriter(tmp_path, 2, tensorboard=False) as writer:
        writer.write({"step": 3, "loss": float("nan")})
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}, {"step": 3, "loss": None}]


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsWriter(tmp_path, 0, tensorboard=True) as writer:
        writer.write({"step": 5, "loss": 2.5, "synthetic": True})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (scalar,) = events.Scalars("loss")
    assert (scalar.step, scalar.value) == (5, 2.5)
