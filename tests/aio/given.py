"""What the tests of asyncio have in common."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tests.contract.given import ONE, SENDER, WORKER, message
from tta_agent_coordination import AgentId, LeaseOutcome, RedisMessageCoordinator
from tta_agent_coordination.aio import AsyncMessageCoordinator
from tta_agent_coordination.aio.pool import Pool

__all__ = [
    "LONG",
    "ONE",
    "PATIENCE",
    "SENDER",
    "WORKER",
    "begun",
    "busy",
    "finish_all",
    "held",
    "message",
    "run",
    "under_way",
    "until",
]

T = TypeVar("T")

LONG = 60.0
"""Seconds of a wait or a lease that does not end by itself while a test runs."""
PATIENCE = 20.0
"""Seconds that a test waits at most for what must come."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a test on a loop of its own, within bounds."""

    async def bounded() -> T:
        async with asyncio.timeout(2 * PATIENCE):
            return await main

    return asyncio.run(bounded())


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Fail unless a condition becomes true; others run meanwhile."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what or "it never came to be"
        await asyncio.sleep(0.002)


async def begun(adapter: AsyncMessageCoordinator, count: int = 1) -> None:
    """Return once so many calls wait without a thread."""
    await until(lambda: adapter._pool.sleeping == count, f"not {count} calls wait")


async def under_way(pool: Pool, count: int) -> None:
    """Return once so many calls are in threads of a pool, or wait for one."""
    await until(lambda: pool._process.get().calls == count, f"not {count} calls are under way")


@asynccontextmanager
async def busy(pool: Pool) -> AsyncIterator[None]:
    """Hold a thread of a pool up within the ``async with``."""
    begun, end = threading.Event(), threading.Event()

    def hold() -> bool:
        begun.set()
        return end.wait(PATIENCE)

    holding = asyncio.create_task(pool.run(hold))
    await until(begun.is_set, "no thread took it")
    yield
    end.set()
    assert await holding


async def held(adapter: AsyncMessageCoordinator, agent_id: AgentId = WORKER) -> int:
    stats = await adapter.stats(agent_id)
    return sum(stats.ready.values()) + stats.delayed + stats.leased


def finish_all(coordinator: RedisMessageCoordinator, agent_id: AgentId = WORKER) -> list[int]:
    """Ack all that is ready at once; each must be delivered for the first time."""
    received = coordinator.receive_many(agent_id, 1000, LONG)
    assert [each.queue_message.delivery_attempts for each in received] == [1] * len(received)
    tokens = [each.token for each in received]
    assert coordinator.ack_many(agent_id, tokens) == [LeaseOutcome.DONE] * len(tokens)
    return [each.message.payload["n"] for each in received]
