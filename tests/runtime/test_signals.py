"""Signals are remembered, and a second Ctrl-C acts at once."""

import signal

import pytest

from syn2co.runtime.signals import Interrupts


def test_signals_are_remembered_and_a_second_ctrl_c_acts_at_once() -> None:
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.received == signal.SIGTERM
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
