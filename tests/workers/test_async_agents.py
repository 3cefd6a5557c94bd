"""6.6: handlers that are coroutine functions run on a loop in a thread of the worker's own."""

import asyncio
import logging
import threading

import pytest

from tests.support.marks import ALL, ONE_BACKEND
from tests.support.waiting import eventually
from tests.workers.coroutines import Held, Scripted, echo
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

pytestmark = pytest.mark.guarantee("6.6")

Coordinator = RedisMessageCoordinator


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
    assert "1 handler left at work" in caplog.text
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
