"""What is told when the process is forked."""

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from tta_agent_coordination import forks
from tta_agent_coordination.worker.signals import noted


class Told:
    def __init__(self, error: Exception | None = None) -> None:
        self.times = 0
        self.error = error

    def tell(self) -> None:
        self.times += 1
        if self.error is not None:
            raise self.error


pytestmark = [
    pytest.mark.guarantee("2.16"),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork"),
    # Python 3.12 and newer; that it is dangerous is why these tests are here.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def status_of_child(status: Told) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(status.times)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_child_is_told_once_and_the_parent_is_not() -> None:
    told = Told()
    forks.in_child(told.tell)
    assert status_of_child(told) == 1
    assert told.times == 0


def test_the_parent_is_told_before() -> None:
    told = Told()
    forks.before(told.tell)
    assert status_of_child(told) == 1  # it inherits what the parent was told
    assert told.times == 1


def test_one_that_fails_is_logged_and_keeps_nobody_from_being_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = [Told(ValueError("oh")), Told(), Told(ValueError("no"))]
    for one in told:
        forks.before(one.tell)
    status_of_child(told[0])
    assert [one.times for one in told] == [1, 1, 1]
    assert caplog.text.count("failed at a fork") == 2


def test_nothing_is_kept_alive_for_being_told() -> None:
    told = Told()
    forks.before(told.tell)
    known = len(forks._before._known)
    gone = weakref.ref(told)
    del told
    gc.collect()
    assert gone() is None
    assert len(forks._before._known) < known


_LEFT_AT_THE_END = """
import redis
from tta_agent_coordination import Agent, AgentId, AgentWorker, RedisMessageCoordinator

class Idle(Agent):
    agent_id = AgentId("idle")
    def process(self, payload):
        return payload

worker = AgentWorker(Idle(), RedisMessageCoordinator(redis.Redis()))
"""


def test_what_lives_until_the_interpreter_ends_goes_without_a_word() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", _LEFT_AT_THE_END],
        capture_output=True,
        text=True,
        timeout=60.0,
        check=True,
    )

    assert (ended.stdout, ended.stderr) == ("", "")


def test_one_that_went_meanwhile_is_passed_over() -> None:
    methods = forks._Methods()
    told = Told()
    gone = weakref.ref(told)
    methods._known["it"] = (gone, lambda owner: pytest.fail(f"{owner} was called"))
    del told
    gc.collect()
    methods.call()
    assert gone() is None


def test_a_child_that_python_was_not_told_of_is_told_when_it_notices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Told()
    known = forks._Methods()
    known.add(told.tell)
    monkeypatch.setattr(forks, "_in_child", known)
    process = forks._Process()
    monkeypatch.setattr(forks, "_process", process)
    forks.notice()
    assert told.times == 0
    process.pid += 1
    forks.notice()
    forks.notice()
    process.tell()
    assert told.times == 1


def test_threads_that_notice_at_once_tell_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a child where one thread is telling
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Told):
        def tell(self) -> None:
            begun.set()
            assert go_on.wait(5)
            super().tell()

    told = Slow()
    known = forks._Methods()
    known.add(told.tell)
    monkeypatch.setattr(forks, "_in_child", known)
    process = forks._Process()
    monkeypatch.setattr(forks, "_process", process)
    process.pid += 1

    # when another notices too
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(forks.notice)
        assert begun.wait(5)
        second = threads.submit(lambda: (forks.notice(), told.times)[1])
        assert not second.done()
        go_on.set()
        first.result(5)

        # then it goes on only when all is told
        assert second.result(5) == 1


def test_where_there_is_no_fork_there_is_nobody_to_tell() -> None:
    told = Told()
    forks._do_nothing(after_in_child=told.tell)
    assert told.times == 0


def test_a_signal_does_in_a_child_what_it_did_before(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a signal that is waited for
    came: list[int] = []
    parent = os.getpid()
    before = signal.signal(signal.SIGUSR1, lambda number, _: came.append(number))
    try:
        with noted(signal.SIGUSR1) as signals:
            # when it comes in a child
            with monkeypatch.context() as child:
                child.setattr(os, "getpid", lambda: parent + 1)
                signal.raise_signal(signal.SIGUSR1)

            # then the parent, with which it shares the pipe, learns nothing of it
            assert came == [signal.SIGUSR1]
            assert not signals.has_come()
    finally:
        signal.signal(signal.SIGUSR1, before)
