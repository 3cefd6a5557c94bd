"""Waiting for signals, where none has to be sent."""

import pytest

from tta_agent_coordination.worker import signals as module
from tta_agent_coordination.worker.signals import Signals


class Looking(Signals):
    """Notes a signal once it was looked for in vain, as one whose handler was due would be."""

    looks = 0

    def has_come(self, timeout: float = 0.0) -> bool:
        self.looks += 1
        if super().has_come(0.0):
            return True
        assert timeout > 0.0
        self.note()
        return False


def test_who_waits_for_a_signal_looks_again_and_again() -> None:
    signals = Looking()
    try:
        signals.wait()
        assert signals.looks == 2
        signals.wait()
        assert signals.looks == 4, "the first was waited for"
    finally:
        signals.close()


def test_more_signals_than_a_pipe_holds_are_noted_without_waiting() -> None:
    signals = Signals()
    try:
        for _ in range(100_000):
            signals.note()
        assert signals.has_come()
    finally:
        signals.close()


@pytest.mark.parametrize(("at_once", "acts"), [(60.0, 0), (0.0, 2)])
def test_what_comes_at_once_is_no_other_signal(
    at_once: float, acts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    acted: list[None] = []
    signals = Signals()
    try:
        with signals.on_another(lambda: acted.append(None)):
            signals.note()
            signals.note()
        assert len(acted) == acts
        assert not signals.has_come(), "all were read"
    finally:
        signals.close()
