"""6.3: what becomes of a call that is cancelled."""

import asyncio
import os
import random
import signal
import threading
import time

import pytest

from tests.aio.conftest import Make
from tests.aio.given import (
    LONG,
    PATIENCE,
    SENDER,
    WORKER,
    begun,
    busy,
    finish_all,
    held,
    message,
    run,
    under_way,
    until,
)
from tests.support.backends import Backend
from tests.support.marks import ALL, ONE_BACKEND, REAL
from tests.support.waiting import SLACK, eventually
from tests.workers.test_requests import assert_nothing_is_left
from tta_agent_coordination import (
    AgentMessage,
    LeaseOutcome,
    MessageType,
    ReceivedMessage,
    RedisMessageCoordinator,
)
from tta_agent_coordination.aio import AsyncMessageCoordinator, pool
from tta_agent_coordination.coordinator.receiving import Receiving
from tta_agent_coordination.proxy import FaultProxy

pytestmark = pytest.mark.guarantee("6.3")

SOON = 3.0
"""Seconds: much less than the 12 after which one who waits looks by itself."""


async def cancelled(task: "asyncio.Task[object]") -> object:
    """Cancel a task; return its result if it was done already."""
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None


@REAL
@pytest.mark.parametrize("waits", [True, False], ids=["that waits", "that does not wait"])
def test_a_receive_cancelled_at_any_instant_loses_nothing(
    coordinator: RedisMessageCoordinator, waits: bool
) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    rounds = 150
    won = 0

    async def main() -> None:
        nonlocal won
        async with AsyncMessageCoordinator(coordinator, max_workers=4) as adapter:
            for number in range(rounds):
                receiving = asyncio.create_task(
                    adapter.receive(WORKER, LONG, wait=LONG if waits else 0.0)
                )
                if waits and chance.random() < 0.7:
                    await begun(adapter)
                sending = asyncio.create_task(adapter.send_message(SENDER, WORKER, message(number)))
                await asyncio.sleep(chance.random() * 0.0015)
                received = await cancelled(receiving)
                await sending
                if isinstance(received, ReceivedMessage):
                    won += 1
                else:  # then it is there for anybody, at once
                    received = await adapter.receive(WORKER, LONG)
                assert received is not None, f"round {number} of seed {seed}"
                assert received.message.payload["n"] == number
                assert received.queue_message.delivery_attempts == 1, f"seed {seed}"
                assert await adapter.ack(WORKER, received.token) is LeaseOutcome.DONE
            assert await held(adapter) == 0

    run(main())
    assert won < rounds, "none was cancelled in time"


@REAL
def test_a_wake_up_for_one_who_is_cancelled_goes_to_another(
    coordinator: RedisMessageCoordinator, make: Make
) -> None:
    other = make()
    chance = random.Random()

    async def main() -> None:
        async with (
            AsyncMessageCoordinator(coordinator) as adapter,
            AsyncMessageCoordinator(other) as patient,
        ):
            for number in range(40):
                doomed = asyncio.create_task(adapter.receive(WORKER, LONG, wait=LONG))
                await begun(adapter)
                waiting = asyncio.create_task(patient.receive(WORKER, LONG, wait=LONG))
                await begun(patient)
                sending = asyncio.create_task(patient.send_message(SENDER, WORKER, message(number)))
                await asyncio.sleep(chance.random() * 0.001)
                received = await cancelled(doomed)
                await sending
                if received is None:
                    async with asyncio.timeout(SOON):
                        received = await waiting
                await cancelled(waiting)
                assert isinstance(received, ReceivedMessage)
                await patient.ack(WORKER, received.token)

    run(main())


@REAL
def test_a_cancelled_wait_leaves_nothing_on_the_server(
    coordinator: RedisMessageCoordinator, backend: Backend, key_prefix: str
) -> None:
    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            tasks = [asyncio.create_task(adapter.receive(WORKER, wait=LONG)) for _ in range(20)]
            await begun(adapter, 20)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert backend.keys(f"{key_prefix}*") == []

    run(main())
    if backend.name == "valkey":
        assert backend.client().info("clients")["blocked_clients"] == 0


@ALL
def test_a_receive_whose_time_is_up_leaves_the_message_to_others(
    coordinator: RedisMessageCoordinator,
) -> None:
    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await adapter.receive(WORKER, LONG, wait=LONG)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(adapter.receive(WORKER, LONG, wait=LONG), 0.1)
            await adapter.send_message(SENDER, WORKER, message(1))
        assert finish_all(coordinator) == [1]

    run(main())


@ALL
def test_a_task_group_that_fails_gives_back_what_its_tasks_won(
    coordinator: RedisMessageCoordinator,
) -> None:
    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:

            async def fail() -> None:
                await begun(adapter, 3)
                await adapter.send_message(SENDER, WORKER, message(1))
                raise LookupError("one of the group fails")

            tasks: list[asyncio.Task[object]] = []

            async def group_of_three() -> None:
                async with asyncio.TaskGroup() as group:
                    for _ in range(3):
                        receiving = adapter.receive(WORKER, LONG, wait=LONG)
                        tasks.append(group.create_task(receiving))
                    group.create_task(fail())

            with pytest.raises(ExceptionGroup):
                await group_of_three()
            winners = [task for task in tasks if not task.cancelled()]
            assert len(winners) <= 1  # who was done before the other failed
            assert len(winners) + len(finish_all(coordinator)) == 1
            await adapter.purge(WORKER)

    run(main())


@ALL
def test_ctrl_c_gives_back_what_was_won(coordinator: RedisMessageCoordinator) -> None:
    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            loop = asyncio.get_running_loop()
            loop.call_later(0.1, os.kill, os.getpid(), signal.SIGINT)
            await adapter.receive(WORKER, LONG, wait=LONG)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    coordinator.send_message(SENDER, WORKER, message(1))
    assert finish_all(coordinator) == [1]


@ONE_BACKEND
def test_a_call_that_no_thread_took_yet_is_not_made(far: Make, proxy: FaultProxy) -> None:
    coordinator = far()

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator, max_workers=1) as adapter:
            await adapter.stats(WORKER)
            proxy.forget()
            async with busy(adapter._pool):
                sending = asyncio.create_task(adapter.send_message(SENDER, WORKER, message(1)))
                await under_way(adapter._pool, 2)
                assert await cancelled(sending) is None
            assert await held(adapter) == 0
            assert proxy.count("EVALSHA") == 1  # that of the question

    run(main())


@ONE_BACKEND
def test_a_send_that_was_cancelled_can_be_made_again(far: Make, proxy: FaultProxy) -> None:
    coordinator = far()

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            await adapter.stats(WORKER)
            proxy.forget()
            proxy.delay(0.1)
            once = message(1)
            sending = asyncio.create_task(adapter.send_message(SENDER, WORKER, once))
            await until(lambda: proxy.count("EVALSHA"))
            assert await cancelled(sending) is None
            proxy.heal()
            await until(lambda: coordinator.stats(WORKER).ready)
            assert (await adapter.send_message(SENDER, WORKER, once)).delivered
            assert finish_all(coordinator) == [1]

    run(main())


@ONE_BACKEND
def test_a_cancellation_is_not_held_up_by_a_server_that_says_nothing(
    far: Make, proxy: FaultProxy, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(pool, "CLEAN_UP_PATIENCE", 0.1)
    coordinator = far(call_timeout=3.0)

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            receiving = asyncio.create_task(adapter.receive(WORKER, LONG, wait=LONG))
            await begun(adapter)
            proxy.black_hole()
            start = time.monotonic()
            assert await cancelled(receiving) is None
            assert time.monotonic() - start < SLACK
        proxy.heal()

    run(main())
    assert "could not be undone" in caplog.text


@ONE_BACKEND
def test_one_who_is_cancelled_twice_does_not_wait_for_what_is_to_be_undone(
    coordinator: RedisMessageCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    undoing, go_on, undone = threading.Event(), threading.Event(), threading.Event()
    abandon = Receiving.abandon

    def slow(receiving: Receiving) -> None:
        undoing.set()
        assert go_on.wait(PATIENCE)
        abandon(receiving)
        undone.set()

    monkeypatch.setattr(pool, "CLEAN_UP_PATIENCE", LONG)
    monkeypatch.setattr(Receiving, "abandon", slow)

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            # given one that was cancelled, and waits for what is to be undone
            receiving = asyncio.create_task(adapter.receive(WORKER, LONG, wait=LONG))
            await begun(adapter)
            receiving.cancel()
            await until(undoing.is_set)
            assert not receiving.done()
            # when it is cancelled again, then it ends, and what is to be undone goes on
            assert await cancelled(receiving) is None
            assert not undone.is_set()
            go_on.set()
        assert undone.is_set()

    run(main())


@ONE_BACKEND
def test_a_coroutine_that_is_thrown_away_gives_back_what_it_won(
    coordinator: RedisMessageCoordinator,
) -> None:
    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            # given a coroutine that nobody drives any more
            forgotten = adapter.receive(WORKER, LONG, wait=LONG)
            step = forgotten.send(None)
            assert step is not None
            await until(lambda: coordinator.internals.link.commands.state == "closed")
            await until(step.done)
            step = forgotten.send(None)
            assert step is not None
            forgotten.close()
            await adapter.send_message(SENDER, WORKER, message(1))
            received = await adapter.receive(WORKER, LONG, wait=PATIENCE)
            assert received is not None
            await adapter.ack(WORKER, received.token)

    run(main())


# Requests ---------------------------------------------------------------------------------------


@ALL
def test_a_request_cancelled_at_any_instant_leaves_nothing(
    coordinator: RedisMessageCoordinator, backend: Backend, key_prefix: str
) -> None:
    chance = random.Random()

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            for number in range(30):
                asking = asyncio.create_task(
                    adapter.request(SENDER, WORKER, {"n": number}, timeout=LONG)
                )
                await asyncio.sleep(chance.random() * 0.003)
                await cancelled(asking)
                assert await held(adapter) == 0
            assert coordinator._requests._replies()._pending == {}

    run(main())
    assert_nothing_is_left(backend, key_prefix)


@ALL
def test_the_reply_to_a_cancelled_request_is_dropped(
    coordinator: RedisMessageCoordinator, backend: Backend, key_prefix: str
) -> None:
    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            asking = asyncio.create_task(adapter.request(SENDER, WORKER, {}, timeout=LONG))
            received = await adapter.receive(WORKER, LONG, wait=PATIENCE)
            assert received is not None
            await cancelled(asking)
            assert received.message.reply_to is not None
            answer = AgentMessage(
                WORKER,
                received.message.reply_to,
                message_type=MessageType.RESPONSE,
                correlation_id=received.message.correlation_id,
            )
            await adapter.send_message(WORKER, answer.recipient, answer)
            await adapter.ack(WORKER, received.token)

    run(main())
    eventually(lambda: nothing_is_left(backend, key_prefix))


def nothing_is_left(backend: Backend, prefix: str) -> bool:
    try:
        assert_nothing_is_left(backend, prefix)
    except AssertionError:
        return False
    return True
