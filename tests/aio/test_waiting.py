"""6.2: calls that wait hold no thread, and are woken at once."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.aio.conftest import Make
from tests.aio.given import LONG, PATIENCE, SENDER, WORKER, begun, message, run, until
from tests.support.backends import Backend
from tests.support.marks import ALL, ONE_BACKEND, REAL
from tta_agent_coordination import (
    AgentId,
    ConfigurationError,
    CoordinatorUnavailableError,
    LeaseOutcome,
    RedisMessageCoordinator,
)
from tta_agent_coordination.aio import AsyncMessageCoordinator
from tta_agent_coordination.proxy import FaultProxy

pytestmark = pytest.mark.guarantee("6.2")

WAITING = 200
PAUSE = 0.002
STALL = 2.0
"""Seconds: far more than the loop is held up by work, far less than one wait would hold it up."""
SOON = 2.0
"""Seconds: much less than the 12 after which one who waits looks by itself."""


@pytest.mark.parametrize("inboxes", [1, WAITING], ids=["one inbox", "an inbox each"])
@REAL
def test_many_who_wait_starve_neither_senders_nor_the_loop(
    coordinator: RedisMessageCoordinator, inboxes: int
) -> None:
    addresses = [AgentId("worker", str(number % inboxes)) for number in range(WAITING)]

    async def main() -> None:
        before = threading.active_count()
        async with (
            AsyncMessageCoordinator(coordinator, max_workers=4) as adapter,
            never_stalled(),
        ):
            receiving = [
                asyncio.create_task(adapter.receive(each, LONG, wait=LONG)) for each in addresses
            ]
            await begun(adapter, WAITING)
            # then they hold no thread, the loop runs, and whoever sends is served
            assert threading.active_count() <= before + 4
            gaps = [await seconds_of(asyncio.sleep(0)) for _ in range(100)]
            sends = [
                await seconds_of(adapter.send_message(SENDER, WORKER, message(n)))
                for n in range(100)
            ]
            assert sorted(gaps)[50] < 0.01
            assert sorted(sends)[50] < 0.05
            assert max(sends) < SOON

            # and each gets the message that comes
            for number, each in enumerate(addresses):
                await adapter.send_message(SENDER, each, message(number))
            received = await asyncio.gather(*receiving)
            numbers = {each.message.payload["n"] for each in received if each is not None}
            assert numbers == set(range(WAITING))
            acks = zip(addresses, received, strict=True)
            outcomes = [adapter.ack(to, each.token) for to, each in acks if each is not None]
            assert set(await asyncio.gather(*outcomes)) == {LeaseOutcome.DONE}
            await adapter.purge(WORKER)

    run(main())


@asynccontextmanager
async def never_stalled() -> AsyncIterator[None]:
    """Fail if the loop comes to nothing for long within the ``async with``, even once."""
    stalls = list[float]()

    async def look() -> None:
        while True:
            stalls.append(await seconds_of(asyncio.sleep(PAUSE)) - PAUSE)

    looking = asyncio.create_task(look())
    yield
    looking.cancel()
    assert max(stalls) < STALL


async def seconds_of(awaitable: object) -> float:
    start = time.monotonic()
    await awaitable
    return time.monotonic() - start


@pytest.mark.backend("fakeredis")
def test_in_memory_those_who_wait_look_the_less_often_the_more_they_are(
    coordinator: RedisMessageCoordinator,
) -> None:
    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator, max_workers=4) as adapter:
            receiving = [
                asyncio.create_task(adapter.receive(AgentId("worker", str(n)), wait=LONG))
                for n in range(50)
            ]
            await until(lambda: adapter._pool.sleeping > 40)
            sends = [
                await seconds_of(adapter.send_message(SENDER, WORKER, message(n)))
                for n in range(50)
            ]
            assert sorted(sends)[25] < 0.2
            for n in range(50):
                await adapter.send_message(SENDER, AgentId("worker", str(n)), message(n))
            assert all(await asyncio.gather(*receiving))
            await adapter.purge(WORKER)

    run(main())


@ALL
def test_what_is_sent_and_what_becomes_due_wakes_one_who_waits(
    coordinator: RedisMessageCoordinator,
) -> None:
    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            await adapter.receive(WORKER)  # connects

            async def got_after(delay: float, lease: float = LONG) -> float:
                receiving = asyncio.create_task(adapter.receive(WORKER, lease, wait=PATIENCE))
                await begun(adapter)
                start = time.monotonic()
                await adapter.send_message(SENDER, WORKER, message(1), delay=delay)
                received = await receiving
                took = time.monotonic() - start
                assert received is not None
                if lease == LONG:
                    assert await adapter.ack(WORKER, received.token)
                return took

            assert await got_after(0.0) < SOON
            assert 0.3 <= await got_after(0.3) < 0.3 + SOON

            # a lease that ends, with one who began to wait before, and one who begins after
            await got_after(0.0, lease=0.4)
            start = time.monotonic()
            received = await adapter.receive(WORKER, LONG, wait=PATIENCE)
            assert received is not None
            assert received.queue_message.delivery_attempts == 2
            assert 0.1 < time.monotonic() - start < 0.4 + SOON
            assert await adapter.ack(WORKER, received.token)

    run(main())


@ALL
def test_who_waits_for_nothing_is_told_when_the_time_is_up(
    coordinator: RedisMessageCoordinator,
) -> None:
    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            assert await adapter.receive(WORKER) is None
            took = await seconds_of(adapter.receive_many(WORKER, 5, wait=0.3))
            assert 0.3 <= took < 0.3 + SOON

    run(main())


@ALL
def test_a_lease_that_ends_in_the_dead_letters_is_no_message(make: Make) -> None:
    coordinator = make(retry_attempts=0)

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            await adapter.send_message(SENDER, WORKER, message(1))
            await adapter.receive(WORKER, 0.1)
            assert await adapter.receive(WORKER, wait=0.4) is None
            assert (await adapter.stats(WORKER)).dead == 1
            await adapter.purge_dead_letters(WORKER)

    run(main())


@ONE_BACKEND
def test_one_who_waits_issues_few_commands(
    backend: Backend, coordinator: RedisMessageCoordinator
) -> None:
    def commands() -> int:
        stats = backend.client().info("commandstats")
        names = ("cmdstat_evalsha", "cmdstat_bzpopmin")
        return sum(stats[name]["calls"] for name in names if name in stats)

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            await adapter.receive(WORKER)
            before = commands()
            await adapter.receive(WORKER, wait=1.0)
            # it looks, waits, and looks again at the end
            assert commands() - before <= 3

    run(main())


@ONE_BACKEND
def test_a_wait_goes_on_where_there_is_no_descriptor_to_watch(
    coordinator: RedisMessageCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_: int) -> int:
        raise OSError(24, "Too many open files")

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            receiving = asyncio.create_task(adapter.receive(WORKER, LONG, wait=PATIENCE))
            await begun(adapter)
            await adapter.send_message(SENDER, WORKER, message(1))
            received = await receiving
            assert received is not None
            await adapter.ack(WORKER, received.token)

    monkeypatch.setattr(os, "dup", none_left)
    run(main())


# Faults -----------------------------------------------------------------------------------------


@ONE_BACKEND
def test_a_wait_whose_connection_is_lost_goes_on(far: Make, proxy: FaultProxy) -> None:
    coordinator = far()

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            receiving = asyncio.create_task(adapter.receive(WORKER, LONG, wait=PATIENCE))
            for _ in range(3):
                await begun(adapter)
                proxy.forget()
                proxy.reset()
                await until(lambda: proxy.count("BZPOPMIN"), "it waits no more")
            await adapter.send_message(SENDER, WORKER, message(1))
            received = await receiving
            assert received is not None
            await adapter.ack(WORKER, received.token)

    run(main())


@ONE_BACKEND
def test_a_wait_on_a_server_that_says_nothing_ends_by_itself(far: Make, proxy: FaultProxy) -> None:
    coordinator = far(call_timeout=0.6)

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            start = time.monotonic()
            receiving = asyncio.create_task(adapter.receive(WORKER, LONG, wait=0.5))
            await begun(adapter)
            proxy.black_hole()
            with pytest.raises(CoordinatorUnavailableError):
                await receiving
            assert 0.5 < time.monotonic() - start < 5.0
            proxy.heal()

    run(main())


@ONE_BACKEND
def test_a_wait_that_cannot_be_nudged_says_so(far: Make, proxy: FaultProxy) -> None:
    coordinator = far(call_timeout=0.3)

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            await adapter.send_message(SENDER, WORKER, message(1), delay=0.3)
            receiving = asyncio.create_task(adapter.receive(WORKER, LONG, wait=PATIENCE))
            await begun(adapter)
            proxy.black_hole()
            with pytest.raises(CoordinatorUnavailableError):
                await receiving
            proxy.heal()
            await until(lambda: coordinator.internals.link.commands.state == "closed" or attempt())
            await adapter.purge(WORKER)

    def attempt() -> bool:
        try:
            return coordinator.stats(WORKER) is not None
        except CoordinatorUnavailableError:
            return False

    run(main())


@ONE_BACKEND
def test_closing_the_coordinator_elsewhere_ends_a_wait(make: Make) -> None:
    coordinator = make()

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            receiving = asyncio.create_task(adapter.receive(WORKER, LONG, wait=LONG))
            await begun(adapter)
            start = time.monotonic()
            threading.Thread(target=coordinator.close, name="closes").start()
            with pytest.raises(ConfigurationError, match="closed"):
                await receiving
            assert time.monotonic() - start < SOON

    run(main())
