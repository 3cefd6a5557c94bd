"""6.1 and 6.2: the registry can be watched with ``async for``."""

import asyncio
import threading

import pytest

from tests.aio.given import LONG, PATIENCE, run, until
from tta_agent_coordination import (
    Agent,
    AgentId,
    ConfigurationError,
    RedisAgentRegistry,
    RegistryEvent,
    RegistryEventType,
)
from tta_agent_coordination.aio import AsyncAgentRegistry

pytestmark = [
    pytest.mark.guarantee("6.1", "6.2"),
    pytest.mark.backend("fakeredis", "valkey", "cluster"),
]

CHEF, WAITER = Agent(AgentId("chef", "1")), Agent(AgentId("waiter", "1"))


def test_events_come_while_others_go_on(registry: RedisAgentRegistry) -> None:
    async def main() -> None:
        async with AsyncAgentRegistry(registry, max_workers=1) as adapter:
            await adapter.register(CHEF)
            seen: list[RegistryEvent] = []

            async def watch() -> None:
                async for event in adapter.watch(timeout=LONG):
                    seen.append(event)
                    if len(seen) == 3:
                        return

            watching = [asyncio.create_task(watch())]
            await until(lambda: len(seen) == 1)
            await adapter.register(WAITER)
            await until(lambda: len(seen) == 2)
            await adapter.deregister(CHEF.agent_id)
            await asyncio.gather(*watching)
            assert [(event.type, event.agent_id) for event in seen] == [
                (RegistryEventType.REGISTERED, CHEF.agent_id),
                (RegistryEventType.REGISTERED, WAITER.agent_id),
                (RegistryEventType.DEREGISTERED, CHEF.agent_id),
            ]

    run(main())


async def all_of(adapter: AsyncAgentRegistry, timeout: float | None) -> list[RegistryEvent]:
    return [event async for event in adapter.watch(timeout=timeout)]


def test_many_watch_with_one_thread_until_the_time_is_up(registry: RedisAgentRegistry) -> None:
    async def main() -> None:
        async with AsyncAgentRegistry(registry, max_workers=1) as adapter:
            await adapter.register(CHEF)
            seen = await asyncio.gather(*(all_of(adapter, 0.3) for _ in range(20)))
            assert [len(events) for events in seen] == [1] * 20

    run(main())


def test_closing_the_adapter_or_the_registry_ends_it(registry: RedisAgentRegistry) -> None:
    async def main() -> None:
        first, second = AsyncAgentRegistry(registry), AsyncAgentRegistry(registry)
        watching = [asyncio.create_task(all_of(each, None)) for each in (first, second)]
        await until(lambda: first._pool.sleeping and second._pool.sleeping)
        await first.close()
        assert await watching[0] == []
        assert not watching[1].done()
        closing = threading.Thread(target=registry.close, name="closes")
        closing.start()
        async with asyncio.timeout(PATIENCE):
            assert await watching[1] == []
        closing.join(PATIENCE)
        with pytest.raises(ConfigurationError, match="closed"):
            await all_of(second, None)
        await second.close()

    run(main())


def test_who_stops_watching_leaves_nothing_behind(registry: RedisAgentRegistry) -> None:
    async def main() -> None:
        async with AsyncAgentRegistry(registry) as adapter:
            await adapter.register(CHEF)
            await adapter.register(WAITER)
            async for event in adapter.watch():
                assert event.agent_id == CHEF.agent_id
                break

    run(main())
