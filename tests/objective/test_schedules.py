"""Schedules by hand."""

import pytest

from syn2co.objective import cosine_lr, ema_momentum, first_open_step, scaled_lr, window_open

LR = {"total": 100, "warmup": 10, "peak": 1.0, "start": 0.1, "end": 0.2}


@pytest.mark.parametrize(
    ("step", "lr"),
    [
        (0, 0.1),
        (5, 0.55),
        (9, 0.91),
        (10, 0.2 + 0.8 * (1 + 0.9510565162951535) / 2),  # the cosine has run since step 0
        (50, 0.6),
        (100, 0.2),
    ],
)
def test_cosine_lr(step: int, lr: float) -> None:
    assert cosine_lr(step, **LR) == pytest.approx(lr, abs=1e-12)


def test_no_warmup() -> None:
    assert cosine_lr(0, **{**LR, "warmup": 0}) == pytest.approx(1.0)


def test_scaled_lr() -> None:
    assert scaled_lr(1e-3, 512) == 1e-3
    assert scaled_lr(1e-3, 64) == pytest.approx(1.25e-4)


def test_ema_momentum() -> None:
    assert ema_momentum(0, 100) == pytest.approx(0.99)
    assert ema_momentum(50, 100) == pytest.approx(0.995)
    assert ema_momentum(100, 100) == 1.0
    assert ema_momentum(50, 100, base=0.9) == pytest.approx(0.95)


def test_the_window_is_30_to_100_of_300_epochs() -> None:
    opened = [step for step in range(300 * 7) if window_open(step, 7, 30, 100)]
    assert opened == list(range(30 * 7, 100 * 7))


def test_the_window_counts_in_parts_of_an_epoch() -> None:
    assert [window_open(step, 10, 0.25, 0.5) for step in range(7)] == [False, False, False, True, True, False, False]


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0.1, 0.7), (0.3, 2), (1.25, 1.3), (2.9, 9), (3, 9), (0.5, 0.5)])
@pytest.mark.parametrize("steps_per_epoch", [1, 3, 10])
def test_first_open_step_is_the_first(start: float, stop: float, steps_per_epoch: int) -> None:
    total = 3 * steps_per_epoch
    opened = [step for step in range(total) if window_open(step, steps_per_epoch, start, stop)]
    assert first_open_step(total, steps_per_epoch, start, stop) == (opened[0] if opened else None)
