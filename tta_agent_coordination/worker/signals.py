"""Waiting for a signal, without doing anything in its handler that could block."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

from tta_agent_coordination import threads

_LOOK = 0.5
"""Seconds after which the main thread lets Python call handlers that are due."""
AT_ONCE = 1.0
"""Seconds. Ctrl-C, passed on by what started the process as well, is still one wish to end."""
_CAME, _END = b".", b"e"
_JOIN_TIMEOUT = 10.0


class Signals:
    """Those that came, a byte of a pipe each."""

    def __init__(self) -> None:
        """Begin with none."""
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)

    def note(self) -> None:
        """Note that one came; takes no lock, and never waits."""
        self._put(_CAME)

    def has_come(self, timeout: float = 0.0) -> bool:
        """Whether one came that was not waited for yet; wait up to `timeout` for it."""
        return bool(select.select([self._reading], [], [], timeout)[0])

    def wait(self) -> None:
        """Wait for one."""
        # Of signals that come at once, all may go to another thread. What they leave to do for
        # Python is left to the main thread, which nothing wakes: it has to look by itself.
        while not self.has_come(_LOOK):
            pass
        os.read(self._reading, 1)

    @contextmanager
    def on_another(self, act: Callable[[], object]) -> Generator[None]:
        """Call `act`, in a thread, for each that comes meanwhile, but not at once."""
        watching = threads.spawn("signals", partial(self._watch, act, time.monotonic()))
        try:
            yield
        finally:
            self._put(_END)
            threads.join([watching], _JOIN_TIMEOUT)

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._reading)
        os.close(self._writing)

    def _watch(self, act: Callable[[], object], since: float) -> None:
        while os.read(self._reading, 1) == _CAME:
            if time.monotonic() - since >= AT_ONCE:
                act()

    def _put(self, what: bytes) -> None:
        with suppress(BlockingIOError):  # full: it can be read already
            os.write(self._writing, what)


@contextmanager
def noted(*numbers: signal.Signals) -> Generator[Signals]:
    """Note these signals meanwhile, in place of what they do else; for the main thread.

    A handler may run between any two bytecodes of the main thread: it takes no lock. In a child
    that is forked meanwhile, signals do what they did before.
    """
    owner = os.getpid()
    signals = Signals()

    def note(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:  # the pipe is the parent's, which must not take it for its own
            signal.signal(number, _settable(before[signal.Signals(number)]))
            signal.raise_signal(number)
            return
        signals.note()

    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, note)
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, _settable(handler))
        signals.close()


def _settable(handler: Any) -> Any:
    # None stands for a handler that was not set from Python, and cannot be set from it.
    return signal.SIG_DFL if handler is None else handler
