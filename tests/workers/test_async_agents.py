"""6.6: handlers that are coroutine functions run on a loop in a thread of the worker's own."""

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

import pytest

from tests.support.marks import ALL, ONE_BACKEND
from tests.support.waiting import eventually
from tests.workers.given import (
    ASKER,
    LONG,
    OWN,
    Payload,
    Serve,
    event,
    in_thread,
    is_empty,
    request,
    send,
)
from tta_agent_coordination import (
    Agent,
    AgentMessage,
    AgentProxy,
    AgentWorker,
    ConfigurationError,
    MessageType,
    RedisMessageCoordinator,
    RejectMessage,
    RemoteAgentError,
    RetryLater,
    RoutingKey,
    current_message,
    handles,
)
from tta_agent_coordination.aio import AsyncMessageCoordinator
from tta_agent_coordination.worker.loop import WorkerLoop

pytestmark = pytest.mark.guarantee("6.6")

Coordinator = RedisMessageCoordinator
Act = Callable[[Payload], Awaitable[Payload]]


async def echo(payload: Payload) -> Payload:
    await asyncio.sleep(0)
    return {"echo": payload}


class Scripted(Agent):
    """Does with every message what the test says, asynchronously."""

    def __init__(self, act: Act = echo) -> None:
        super().__init__(OWN)
        self.got: list[Payload] = []
        self.life: list[str] = []
        self._act = act

    async def start(self) -> None:
        await asyncio.sleep(0)
        self.life.append(f"start in {threading.current_thread().name}")

    async def stop(self) -> None:
        await asyncio.sleep(0)
        self.life.append(f"stop in {threading.current_thread().name}")

    async def process(self, payload: Payload) -> Payload:
        self.got.append(payload)
        return await self._act(payload)


class Held:
    """A handler that is held up until the test lets it go on."""

    def __init__(self) -> None:
        self.begun = 0
        self.most = 0
        self.ended: list[str] = []
        self.open = threading.Event()

    async def __call__(self, payload: Payload) -> Payload:
        self.begun += 1
        self.most = max(self.most, self.begun - len(self.ended))
        try:
            while not self.open.is_set():
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("done")
        return payload


@ALL
def test_requests_and_events_are_handled_on_one_loop(
    coordinator: Coordinator, serve: Serve
) -> None:
    seen: set[tuple[str, int]] = set()

    async def act(payload: Payload) -> Payload:
        await asyncio.sleep(0.001)
        seen.add((threading.current_thread().name, id(asyncio.get_running_loop())))
        return {"echo": payload["number"], "id": current_message().message.message_id}

    agent = Scripted(act)
    worker = serve(agent, coordinator, threads=4)
    asked = request(7)
    reply = coordinator.request(ASKER, OWN, asked.payload, timeout=LONG)
    assert reply.payload["echo"] == 7
    assert reply.payload["id"] == reply.correlation_id
    coordinator.send_many(ASKER, [event(number) for number in range(50)])
    eventually(lambda: len(agent.got) == 51 and is_empty(coordinator, OWN))
    assert len(seen) == 1
    assert seen.pop()[0] == "tta-loop-greeter:1"
    worker.stop()
    assert agent.life == ["start in tta-loop-greeter:1", "stop in tta-loop-greeter:1"]


@ONE_BACKEND
def test_as_many_run_at_once_as_there_are_threads(coordinator: Coordinator, serve: Serve) -> None:
    held = Held()
    serve(Scripted(held), coordinator, threads=3)
    coordinator.send_many(ASKER, [event(number) for number in range(10)])
    eventually(lambda: held.begun == 3)
    assert coordinator.stats(OWN).leased == 3
    held.open.set()
    eventually(lambda: len(held.ended) == 10 and is_empty(coordinator, OWN))
    assert held.most == 3


@ALL
def test_what_a_coroutine_raises_is_what_a_function_raises(
    coordinator: Coordinator, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(BaseException):
        """No exception that anybody expects."""

    tried: list[str] = []

    async def act(payload: Payload) -> Payload:
        await asyncio.sleep(0)
        what = payload["what"]
        tried.append(what)
        if tried.count(what) > 1:
            return {"tried": tried.count(what)}
        if what == "reject":
            raise RejectMessage("never")
        raise {
            "error": ValueError("once"),
            "later": RetryLater(0.01),
            "exit": SystemExit(1),
            "interrupt": KeyboardInterrupt(),
            "odd": Odd(),
            "cancel": asyncio.CancelledError(),
        }[what]

    serve(Scripted(act), coordinator)
    for what in ("error", "later", "exit", "interrupt", "odd", "cancel"):
        reply = coordinator.request(ASKER, OWN, {"what": what}, timeout=LONG)
        assert reply.payload == {"tried": 2}, what
    with pytest.raises(RemoteAgentError, match="RejectMessage: never"):
        coordinator.request(ASKER, OWN, {"what": "reject"}, timeout=LONG)
    assert "a handler of greeter:1 failed: message" in caplog.text
    coordinator.purge_dead_letters(OWN)


@ONE_BACKEND
def test_an_answer_that_is_no_object_is_a_failure(coordinator: Coordinator, serve: Serve) -> None:
    async def act(_: Payload) -> Payload:
        return ["no", "object"]

    coordinator.configure(retry_attempts=0)
    serve(Scripted(act), coordinator)
    with pytest.raises(RemoteAgentError, match="the answer of a handler must be a dict"):
        coordinator.request(ASKER, OWN, {}, timeout=LONG)
    coordinator.purge_dead_letters(OWN)


@ALL
def test_handlers_by_decorator_may_be_of_both_kinds(coordinator: Coordinator, serve: Serve) -> None:
    heard: list[str] = []

    class Mixed(Agent):
        @handles(message_type=MessageType.REQUEST)
        async def answer(self, message: AgentMessage) -> Payload:
            await asyncio.sleep(0)
            return {"by": "coroutine", **message.payload}

        @handles(topic="plain")
        def plain(self, message: AgentMessage) -> None:
            heard.append(f"plain {message.payload['number']}")

        async def on_event(self, message: AgentMessage) -> None:
            await asyncio.sleep(0)
            heard.append(f"event {message.payload['number']}")

    agent = Mixed(OWN)

    @agent.on(topic="late")
    async def late(message: AgentMessage) -> None:
        await asyncio.sleep(0)
        heard.append(f"late {message.payload['number']}")

    serve(agent, coordinator)
    assert coordinator.request(ASKER, OWN, {"a": 1}, timeout=LONG).payload == {
        "by": "coroutine",
        "a": 1,
    }
    send(coordinator, event(1, routing=RoutingKey("plain")))
    send(coordinator, event(2, routing=RoutingKey("late")))
    send(coordinator, event(3))
    eventually(lambda: sorted(heard) == ["event 3", "late 2", "plain 1"])


@ONE_BACKEND
def test_any_proxy_may_be_asynchronous(coordinator: Coordinator, serve: Serve) -> None:
    class Proxy(AgentProxy):
        agent_id, name = OWN, "proxy"

        async def process(self, payload: Payload) -> Payload:
            return await echo(payload)

    serve(Proxy(), coordinator)
    assert coordinator.request(ASKER, OWN, {"a": 1}, timeout=LONG).payload == {"echo": {"a": 1}}


@ONE_BACKEND
def test_leases_are_renewed_while_a_coroutine_runs(coordinator: Coordinator, serve: Serve) -> None:
    held = Held()
    serve(Scripted(held), coordinator, visibility_timeout=0.6)
    send(coordinator, event(1))
    eventually(lambda: held.begun == 1)
    assert coordinator.receive(OWN, wait=1.3) is None
    held.open.set()
    eventually(lambda: is_empty(coordinator, OWN))
    assert held.ended == ["done"]


@ONE_BACKEND
def test_a_coroutine_that_takes_too_long_is_told(coordinator: Coordinator, serve: Serve) -> None:
    told = threading.Event()

    async def act(payload: Payload) -> Payload:
        while not current_message().lease_lost:
            await asyncio.sleep(0.005)
        told.set()
        return payload

    serve(Scripted(act), coordinator, visibility_timeout=5.0, max_handler_seconds=0.2)
    send(coordinator, event(1))
    assert told.wait(LONG)
    eventually(lambda: is_empty(coordinator, OWN))


@ALL
def test_a_stop_drains_coroutines(coordinator: Coordinator, serve: Serve) -> None:
    held = Held()
    worker = serve(Scripted(held), coordinator)
    send(coordinator, event(1))
    eventually(lambda: held.begun == 1)
    stopped = in_thread(worker.stop, "stops")
    held.open.set()
    assert stopped()
    assert held.ended == ["done"]
    assert is_empty(coordinator, OWN)


@pytest.mark.parametrize("drain", [True, False], ids=["after the drain time-out", "at once"])
@ALL
def test_a_coroutine_that_does_not_end_is_cancelled_and_its_message_retried(
    coordinator: Coordinator, serve: Serve, drain: bool
) -> None:
    held = Held()
    worker = serve(Scripted(held), coordinator, drain_timeout=0.1, visibility_timeout=LONG)
    send(coordinator, event(1))
    eventually(lambda: held.begun == 1)
    assert worker.stop(drain=drain)
    assert held.ended == ["cancelled"]
    received = coordinator.receive(OWN, LONG, wait=LONG)
    assert received is not None
    assert received.queue_message.delivery_attempts == 2
    assert received.queue_message.last_error == (
        "CancelledError: its worker stopped before it was done"
    )
    coordinator.ack(OWN, received.token)


@ONE_BACKEND
def test_a_function_that_does_not_end_is_left_alone_beside_a_coroutine(
    coordinator: Coordinator, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    held, stuck = Held(), threading.Event()

    class Mixed(Scripted):
        @handles(topic="*")
        def plain(self, message: AgentMessage) -> None:
            self.got.append(message.payload)
            assert stuck.wait(LONG)

    agent = Mixed(held)
    worker = serve(agent, coordinator, drain_timeout=0.1)
    send(coordinator, event(1))
    send(coordinator, event(2, routing=RoutingKey("plain")))
    eventually(lambda: held.begun == 1 and {"number": 2} in agent.got)
    with caplog.at_level(logging.WARNING):
        assert not worker.stop()
    assert "1 handlers run on" in caplog.text
    assert held.ended == ["cancelled"]
    stuck.set()
    coordinator.purge(OWN)


@ONE_BACKEND
def test_a_coroutine_can_stop_its_worker(coordinator: Coordinator, serve: Serve) -> None:
    answers: list[bool] = []

    async def act(payload: Payload) -> Payload:
        answers.append(worker.stop())
        return payload

    agent = Scripted(act)
    worker = serve(agent, coordinator)
    send(coordinator, event(1))
    eventually(lambda: not worker.health().running and len(agent.life) == 2)
    assert answers == [False]
    assert is_empty(coordinator, OWN)


@ONE_BACKEND
def test_a_worker_can_start_again_and_hooks_share_the_loop_of_handlers(
    coordinator: Coordinator, serve: Serve
) -> None:
    class Ticking(Scripted):
        async def start(self) -> None:
            await super().start()
            self.loop = asyncio.get_running_loop()
            self.ticking = asyncio.create_task(asyncio.sleep(LONG))

        async def process(self, payload: Payload) -> Payload:
            assert asyncio.get_running_loop() is self.loop
            assert not self.ticking.done()
            return await super().process(payload)

    agent = Ticking()
    worker = serve(agent, coordinator)
    for _ in range(2):
        coordinator.request(ASKER, OWN, {"a": 1}, timeout=LONG)
        worker.stop()
        assert agent.ticking.cancelled()
        assert agent.loop.is_closed()
        worker.start()
    assert len(agent.life) == 5


@ONE_BACKEND
def test_a_start_that_fails_leaves_no_loop(
    coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Scripted):
        async def start(self) -> None:
            raise LookupError("cannot begin")

        async def stop(self) -> None:
            raise LookupError("cannot end")

    with pytest.raises(LookupError, match="cannot begin"):
        AgentWorker(Failing(), coordinator).start()

    class Ending(Failing):
        async def start(self) -> None:
            """Begins."""

    with AgentWorker(Ending(), coordinator):
        pass
    assert "stop of agent greeter:1 failed" in caplog.text


@ONE_BACKEND
def test_a_handler_can_use_the_adapters(coordinator: Coordinator, serve: Serve) -> None:
    async def act(payload: Payload) -> Payload:
        if "to" not in payload:
            return {"done": True}
        async with AsyncMessageCoordinator(coordinator) as adapter:
            reply = await adapter.request(OWN, OWN, {}, timeout=LONG)
        return reply.payload

    serve(Scripted(act), coordinator, threads=2)
    reply = coordinator.request(ASKER, OWN, {"to": "itself"}, timeout=LONG)
    assert reply.payload == {"done": True}


# The loop ---------------------------------------------------------------------------------------


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
