"""Signals are remembered; a second Ctrl-C acts at once, and any other second signal unless it came with the first."""

import os
import signal
import sys
import time
import weakref
from collections.abc import Callable

import pytest

from syn2co.core.processes import LEAVE
from syn2co.runtime import signals
from syn2co.runtime.signals import Interrupts, ends_on_signals


def test_signals_are_remembered_and_a_second_ctrl_c_acts_at_once() -> None:
    assert len(LEAVE) == (4 if sys.platform != "win32" else 1)
    for number in LEAVE:
        before = signal.getsignal(number)
        with Interrupts() as interrupts:
            assert signals.received() == 0
            signal.raise_signal(number)
            assert interrupts.received == signals.received() == number
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(number) == before and signals.received() == 0


@pytest.mark.parametrize("number", LEAVE)
def test_a_second_signal_acts_once_it_is_no_echo_of_the_first(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedulers send one to each process, and torchrun hands its own on: two at a time are one order."""
    now = 100.0
    monkeypatch.setattr(signals.time, "monotonic", lambda: now)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(number)
        assert interrupts.received == number
        now += 1.1
        with pytest.raises(SystemExit) as left:
            signal.raise_signal(number)
        assert left.value.code == 143


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_nohup_keeps_its_word() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGHUP)
        assert interrupts.received == 0 and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_rank_whose_torchrun_is_gone_leaves(launched: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    for variables in ({}, {"TORCHELASTIC_RUN_ID": "none"}):
        launched(WORLD_SIZE=2, **variables)
        with Interrupts(), monkeypatch.context() as patch:
            assert signals.received() == 0
            patch.setattr(os, "getppid", lambda: 1)
            assert signals.received() == (signal.SIGTERM if variables else 0), "nohup's parent may go"


def test_leaving() -> None:
    with pytest.raises(KeyboardInterrupt):
        signals.leave(signal.SIGINT)
    with pytest.raises(SystemExit, match="143"):
        signals.leave(LEAVE[-1])


@pytest.mark.parametrize(("number", "ending"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_that_comes_while_python_tidies_up_is_not_lost(
    number: int, ending: type[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    """Python drops what callbacks of weak references raise: the signal ends the block a moment later all the same."""
    before, sent = sys.unraisablehook, []

    def send(_: object) -> None:
        sent.append(number)
        signal.raise_signal(number)

    with pytest.raises(ending), ends_on_signals():
        tidied = Interrupts()
        reference = weakref.ref(tidied, send)
        del tidied
        assert reference() is None and sent, "the block goes on, for what the callback raised is dropped"
        time.sleep(30)
        pytest.fail("the signal was lost")
    assert sys.unraisablehook is before and capfd.readouterr().err == ""


def test_other_errors_that_python_drops_are_shown_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: shown.append(str(dropped.exc_value)))

    def fail(_: object) -> None:
        raise ValueError("of a library")

    with ends_on_signals():
        tidied = Interrupts()
        reference = weakref.ref(tidied, fail)
        del tidied
    assert reference() is None and shown == ["of a library"]


def test_a_second_signal_that_comes_while_python_tidies_up_is_not_lost_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals.time, "monotonic", iter(range(0, 100, 10)).__next__)
    with pytest.raises(SystemExit, match="143"), ends_on_signals(), Interrupts():
        signal.raise_signal(signal.SIGTERM)
        tidied = Interrupts()
        reference = weakref.ref(tidied, lambda _: signal.raise_signal(signal.SIGTERM))
        del tidied
        assert reference() is None
        time.sleep(30)
        pytest.fail("the signal was lost")
