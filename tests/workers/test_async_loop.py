"""6.6: the event loop of a worker, on which the coroutines of its agents run."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

import pytest

from tests.support.waiting import eventually
from tests.workers.coroutines import Held, echo
from tests.workers.given import LONG, Payload, in_thread
from tta_agent_coordination import ConfigurationError, RedisMessageCoordinator
from tta_agent_coordination.worker.loop import WorkerLoop

pytestmark = pytest.mark.guarantee("6.6")

Coordinator = RedisMessageCoordinator
Act = Callable[[Payload], Awaitable[Payload]]


def test_a_loop_runs_only_once_there_is_something_to_await() -> None:
    loop = WorkerLoop("quiet")
    assert loop.finish(7) == 7
    assert not loop.is_here
    assert not loop.cancel("nothing runs")
    assert not [each for each in threading.enumerate() if each.name == "tta-loop-quiet"]
    assert loop.stop()


def test_a_loop_that_has_stopped_runs_nothing_more() -> None:
    loop = WorkerLoop("ended")
    assert loop.finish(echo({})) == {"echo": {}}
    assert loop.stop()
    assert loop.stop()
    with pytest.raises(ConfigurationError, match="has stopped"):
        loop.finish(echo({}))


def test_what_is_under_way_when_a_loop_stops_is_cancelled() -> None:
    loop, held = WorkerLoop("stopping"), Held()
    waiting = in_thread(lambda: loop.finish(held({})), "waits")
    eventually(lambda: held.begun == 1)
    assert loop.stop()
    with pytest.raises(asyncio.CancelledError):
        waiting()


def test_a_loop_that_a_task_ended_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    loop = WorkerLoop("ended-by-a-task")

    async def end() -> None:
        sys.exit(1)

    async def begin() -> threading.Thread:
        asyncio.get_running_loop().call_soon(lambda: asyncio.create_task(end()))
        return threading.current_thread()

    loop.finish(begin()).join(LONG)
    assert "a task on the event loop of a worker ended it" in caplog.text
    assert loop.finish(echo({})) == {"echo": {}}
    assert loop.stop()


def test_a_coroutine_sees_the_context_of_its_handler() -> None:
    loop, mark = WorkerLoop("context"), ContextVar("mark", default="")

    async def look() -> str:
        return mark.get()

    mark.set("mine")
    assert loop.finish(look()) == "mine"
    assert loop.stop()


@pytest.mark.parametrize("first", ["the coroutine", "the end"])
def test_a_coroutine_that_comes_when_a_loop_is_ended_is_not_waited_for_in_vain(first: str) -> None:
    # given a loop that is held up, while a coroutine comes for it, and its end
    loop = WorkerLoop("ending")
    held, go_on = threading.Event(), threading.Event()

    async def hold_up_the_loop() -> None:
        held.set()
        go_on.wait(LONG)

    holding = in_thread(lambda: loop.finish(hold_up_the_loop()), "holds")
    assert held.wait(LONG)
    running = loop._running
    assert running is not None
    if first == "the end":
        running._loop.call_soon_threadsafe(sys.exit, 1)
    late = in_thread(lambda: loop.finish(echo({})), "late")
    eventually(lambda: len(running._under_way) == 2)
    if first == "the coroutine":
        running._loop.call_soon_threadsafe(sys.exit, 1)

    # when it goes on
    go_on.set()

    # then both are told what became of them
    for waiting in (holding, late):
        with contextlib.suppress(asyncio.CancelledError):
            assert waiting() in (None, {"echo": {}})
    running.thread.join(LONG)
    assert running._under_way == {}
    assert loop.stop()


def test_whoever_comes_to_a_loop_that_just_ended_is_told() -> None:
    loop = WorkerLoop("gone")
    loop.finish(echo({}))
    running = loop._running
    assert running is not None
    # given one that came so late that the loop never got to it
    lost: Future[Any] = Future()
    running._under_way[lost] = None
    assert loop.cancel("which does nothing to it")
    running._loop.call_soon_threadsafe(sys.exit, 1)
    running.thread.join(LONG)

    # then it is told by the thread of the loop, and one that comes after it at once
    coroutine = echo({})
    for outcome in (lost, running.begin(coroutine)):
        value, error = outcome.result(LONG)
        assert (value, str(error)) == (None, "its event loop has ended")
        running._settle(outcome, (1, None))  # changes nothing any more
    coroutine.close()
    assert not loop.cancel("in vain")
    assert loop.stop()


def test_anything_that_can_be_awaited_is() -> None:
    class Later:
        def __await__(self) -> Iterator[Any]:
            yield from asyncio.sleep(0).__await__()
            return {"later": True}

    loop = WorkerLoop("awaits")
    assert loop.finish(Later()) == {"later": True}
    assert loop.stop()
