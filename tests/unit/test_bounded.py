"""One thread at a time, within the deadline of its call."""

import threading
import time

import pytest
import redis

from tests.support.strikes import striking
from tta_agent_coordination.transport.bounded import alone
from tta_agent_coordination.transport.deadline import until


def test_what_is_done_alone_is_returned_and_the_lock_is_free_again() -> None:
    lock = threading.Lock()
    assert alone(lock, lock.locked) is True
    with pytest.raises(KeyError):
        alone(lock, {}.popitem)
    assert not lock.locked()


def test_another_thread_is_waited_for_until_the_deadline() -> None:
    lock = threading.Lock()
    with lock:
        with until(time.monotonic() + 0.01), pytest.raises(redis.TimeoutError, match="another"):
            alone(lock, lock.locked)
        assert lock.locked()


@pytest.mark.guarantee("2.13")
@pytest.mark.parametrize(("event", "skip"), [("call", 0), *(("line", n) for n in range(6))])
def test_ctrl_c_before_during_or_after_what_is_done_leaves_the_lock_free(
    event: str, skip: int
) -> None:
    lock = threading.Lock()
    with striking(alone, event, skip=skip):
        alone(lock, lock.locked)
    assert not lock.locked()
