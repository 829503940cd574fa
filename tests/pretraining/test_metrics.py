"""metrics.jsonl: means between two lines, torn lines, and the cut at the step that a run resumes from."""

import time
from pathlib import Path

import pytest

from syn2co.core.errors import FileError
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


def test_tensorboard_shows_every_start_though_the_clock_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    now = time.time()
    for step, clock in enumerate((now, now - 3600, now - 7200, now + 3600)):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        with MetricsWriter(tmp_path, step, tensorboard=True) as writer:
            writer.write({"step": step + 1, "loss": float(step)})
            writer.write({"step": step + 2, "loss": -1.0})  # of a start that was killed before it saved this step
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(point.step, point.value) for point in events.Scalars("loss")] == [
        (1, 0.0), (2, 1.0), (3, 2.0), (4, 3.0), (5, -1.0)
    ]  # fmt: skip


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsWriter(tmp_path, 0, tensorboard=True) as writer:
        writer.write({"step": 5, "loss": 2.5, "synthetic": True})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (scalar,) = events.Scalars("loss")
    assert (scalar.step, scalar.value) == (5, 2.5)


def test_damaged_lines_are_left_out_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = b'{"step": 1, "loss": 2}\n{"step": \xff}\n{"loss": 1}\n[1]\n{"step": 2, "loss": "x"}\n{"step": 3}\n'
    (tmp_path / "metrics.jsonl").write_bytes(lines)
    with MetricsWriter(tmp_path, 9, tensorboard=False):
        pass
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2}, {"step": 3}]
    note = "note: metrics.jsonl: 4 lines are damaged and are left out of it; the checkpoints know nothing of them"
    assert capsys.readouterr().err.strip() == note


def test_metrics_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(FileError, match=r"metrics.jsonl: cannot be read \(Is a directory\); fix that and try again"):
        read_metrics(tmp_path)
