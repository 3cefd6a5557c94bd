"""Threads have names and are joined with a time-out; forks get things of their own."""

import os
import sys
import threading
from types import SimpleNamespace

import pytest

from tests.registry.given import PATIENCE
from tta_agent_coordination import threads
from tta_agent_coordination.threads import PerProcess, join, spawn


def test_a_thread_has_a_name_and_ends_with_the_process() -> None:
    go_on = threading.Event()
    thread = spawn("test", lambda: go_on.wait(PATIENCE) and None)
    assert thread.name == "tta-test"
    assert thread.daemon
    go_on.set()
    assert join([thread], PATIENCE)
    assert join([thread], 0)
    assert join([], 0)


def test_a_thread_that_does_not_end_is_named(caplog: pytest.LogCaptureFixture) -> None:
    go_on = threading.Event()
    threads = [spawn(name, lambda: go_on.wait(PATIENCE) and None) for name in ("one", "two")]
    assert not join(threads, 0.02)
    assert "tta-one, tta-two" in caplog.text
    go_on.set()
    assert join(threads, PATIENCE)


def test_all_are_waited_for_together_as_long_as_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = 1000.0, []

    class Slow(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            nonlocal now
            waits.append(timeout)
            now += 3.0

    monkeypatch.setattr(threads, "time", SimpleNamespace(monotonic=lambda: now))
    assert join([Slow() for _ in range(4)], 7.0)
    assert waits == [7.0, 4.0, 1.0, 0.0]


def test_a_thread_does_not_wait_for_itself() -> None:
    answers: list[bool] = []
    thread = spawn("self", lambda: answers.append(join([threading.current_thread()], PATIENCE)))
    assert join([thread], PATIENCE)
    assert answers == [True]


def test_a_child_begins_with_one_of_its_own() -> None:
    mine = PerProcess(object)
    first = mine.get()
    mine._renew()
    assert mine.get() is mine.get() is not first


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
# Python 3.12 and newer; that it is dangerous is why this test is here.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_each_process_has_its_own() -> None:
    made: list[threading.Lock] = []

    def make() -> threading.Lock:
        made.append(threading.Lock())
        return made[-1]

    mine = PerProcess(make)
    assert mine.get() is mine.get() is made[0]
    with mine.get():
        pid = os.fork()
        if pid == 0:
            free = mine.get().acquire(timeout=1)
            os._exit(0 if free and mine.get() is made[1] else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert mine.get() is made[0]
