"""6.1: the same methods, awaitable, in threads of the adapter's own."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import fakeredis
import pytest

from tests.aio.given import LONG, ONE, SENDER, WORKER, message, run
from tests.support.backends import Backend
from tests.support.marks import ALL, ONE_BACKEND
from tests.support.waiting import eventually
from tta_agent_coordination import (
    Agent,
    AgentCapability,
    AgentId,
    AgentNotFoundError,
    ConfigurationError,
    FailureType,
    LeaseOutcome,
    MessageType,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    RestartPolicy,
)
from tta_agent_coordination.aio import AsyncAgentRegistry, AsyncMessageCoordinator

pytestmark = pytest.mark.guarantee("6.1")

DONE = LeaseOutcome.DONE


@ALL
def test_messages_go_there_and_come_back(coordinator: RedisMessageCoordinator) -> None:
    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator, max_workers=2) as adapter:
            result = await adapter.send_message(SENDER, WORKER, message(1))
            assert (result.delivered, result.duplicate) == (True, False)
            await adapter.send_message(SENDER, WORKER, message(9), delay=LONG)
            await adapter.send_many(SENDER, (message(n) for n in (2, 3)))
            await adapter.broadcast_message(SENDER, message(4), (each for each in (WORKER, ONE)))

            stats = await adapter.stats(WORKER)
            assert (sum(stats.ready.values()), stats.delayed) == (4, 1)

            first = await adapter.receive(WORKER, LONG)
            assert first is not None
            assert first.message.payload == {"n": 1}
            assert await adapter.extend(WORKER, first.token, LONG) is DONE
            assert await adapter.ack(WORKER, first.token) is DONE
            rest = await adapter.receive_many(WORKER, 10, LONG)
            assert [each.message.payload["n"] for each in rest] == [2, 3, 4]
            two, three, four = (each.token for each in rest)
            assert await adapter.release(WORKER, two) is DONE
            assert await adapter.nack(WORKER, three, FailureType.PERMANENT, "broken") is DONE
            assert await adapter.nack(WORKER, four, delay=LONG) is DONE
            again = await adapter.receive(WORKER, LONG)
            assert again is not None
            assert again.message.payload == {"n": 2}
            assert await adapter.ack_many(WORKER, [again.token]) == [DONE]

            [letter] = await adapter.dead_letters(WORKER, limit=5, offset=0)
            assert letter.queue_message is not None
            assert letter.queue_message.last_error == "broken"
            assert await adapter.replay_dead_letters(WORKER, to=ONE, limit=1) == 1
            assert await adapter.purge_dead_letters(WORKER) == 0
            assert await adapter.purge(ONE) == 2
            assert await adapter.purge(WORKER) == 2
            assert await adapter.receive(WORKER) is None

    run(main())


@ALL
def test_subscriptions_and_options_and_recovery(coordinator: RedisMessageCoordinator) -> None:
    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            wish = await adapter.subscribe_to_messages(ONE, [MessageType.EVENT], topics=())
            [result] = await adapter.publish(SENDER, message(1))
            assert result.delivered
            await adapter.unsubscribe(wish)
            assert await adapter.publish(SENDER, message(2)) == []

            await adapter.configure(queue_size=1)
            refused = await adapter.send_message(SENDER, ONE, message(3))
            assert refused.error == "queue full"

            assert (await adapter.check()).findings
            await adapter.receive(ONE, 0.0)
            assert await adapter.recover_pending(ONE) == 1
            assert await adapter.recover_pending() == 0
            await adapter.purge(ONE)

    run(main())


class Chef(Agent):
    """Has something to say to every hook."""

    agent_id = AgentId("chef", "1")

    def __init__(self) -> None:
        super().__init__()
        self.restored: dict[str, Any] | None = None
        self.threads = set[str]()

    def get_capabilities(self) -> list[AgentCapability]:
        self.threads.add(threading.current_thread().name)
        return [AgentCapability("cook", tags=("soup",))]

    def export_state(self) -> dict[str, Any]:
        return {"pots": 3}

    def import_state(self, state: dict[str, Any]) -> None:
        self.restored = state


@pytest.mark.backend("fakeredis", "valkey")
def test_the_registry_has_the_same_methods(
    registry: RedisAgentRegistry, coordinator: RedisMessageCoordinator
) -> None:
    async def main() -> None:
        chef, successor = Chef(), Chef()
        told: list[object] = []
        async with AsyncAgentRegistry(registry, max_workers=2) as adapter:
            assert adapter.registry is registry
            record = await adapter.register(chef)
            assert record.agent_id == chef.agent_id
            assert all(name.startswith("tta-aio-registry") for name in chef.threads)
            assert await adapter.heartbeat(chef.agent_id)
            await adapter.start_heartbeats()
            assert await adapter.stop_heartbeats(5.0)
            found = await adapter.get(chef.agent_id)
            assert found is not None
            assert [one.name for one in await adapter.list_registered(agent_type="chef")] == [
                "chef:1"
            ]
            wanted = {"capability": "cook", "min_version": "1.0.0", "tags": ("soup",)}
            assert [one.agent_id for one in await adapter.discover("chef", **wanted)] == [
                chef.agent_id
            ]
            assert await adapter.pick("chef", **wanted) == chef.agent_id
            with pytest.raises(AgentNotFoundError):
                await adapter.pick("waiter")
            assert (await adapter.snapshot())["local"] == ["chef:1"]
            assert await adapter.restore_state_if_available(successor)
            assert successor.restored == {"pots": 3}
            await adapter.on_unhealthy(told.append, fallback=told.append)
            await adapter.on_superseded(told.append)
            await adapter.move_messages_of_dead(coordinator, to=WORKER)
            assert (await adapter.detect_and_recover()).checked == 1
            assert await adapter.deregister(chef.agent_id)
            assert await adapter.get(chef.agent_id) is None

    run(main())


@pytest.mark.backend("fakeredis")
def test_a_coroutine_function_is_no_callback(registry: RedisAgentRegistry) -> None:
    async def callback(_: object) -> None:
        """Would never be awaited."""

    async def main() -> None:
        async with AsyncAgentRegistry(registry) as adapter:
            for refused in (
                adapter.on_unhealthy(callback),
                adapter.on_unhealthy(print, fallback=callback),
                adapter.on_superseded(callback),
            ):
                with pytest.raises(TypeError, match="ordinary function"):
                    await refused

    run(main())


@ONE_BACKEND
def test_the_default_executor_is_never_used(coordinator: RedisMessageCoordinator) -> None:
    class Forbidden(ThreadPoolExecutor):
        def submit(self, *_: object, **__: object) -> Any:
            raise AssertionError("the loop's default executor is somebody else's")

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(Forbidden())
        async with AsyncMessageCoordinator(coordinator) as adapter:
            await adapter.send_message(SENDER, WORKER, message(1))
            received = await adapter.receive(WORKER, wait=1.0)
            assert received is not None
            await adapter.ack(WORKER, received.token)

    run(main())


@ONE_BACKEND
def test_threads_have_names_are_bounded_and_end_with_the_adapter(
    coordinator: RedisMessageCoordinator,
) -> None:
    def own() -> list[str]:
        return [each.name for each in threading.enumerate() if each.name.startswith("tta-aio")]

    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator, max_workers=3) as adapter:
            assert own() == []
            await asyncio.gather(*(adapter.stats(WORKER) for _ in range(50)))
            assert 1 <= len(own()) <= 3
        assert own() == []

    run(main())


@ONE_BACKEND
def test_context_variables_of_the_caller_are_seen(registry: RedisAgentRegistry) -> None:
    trace: ContextVar[str] = ContextVar("trace")
    seen: list[str] = []

    class Traced(Agent):
        agent_id = AgentId("traced")

        def get_capabilities(self) -> list[AgentCapability]:
            seen.append(trace.get())
            return []

    async def main() -> None:
        trace.set("abc")
        async with AsyncAgentRegistry(registry) as adapter:
            await adapter.register(Traced())

    run(main())
    assert seen == ["abc"]


@ONE_BACKEND
def test_errors_come_through_as_they_are(coordinator: RedisMessageCoordinator) -> None:
    async def main() -> None:
        async with AsyncMessageCoordinator(coordinator) as adapter:
            wrong: list[tuple[type[Exception], Callable[[], Any]]] = [
                (TypeError, lambda: adapter.send_message("me", WORKER, message())),
                (TypeError, lambda: adapter.subscribe_to_messages(ONE, "event")),
                (TypeError, lambda: adapter.receive("worker")),
                (ValueError, lambda: adapter.receive(WORKER, wait=-1)),
                (ValueError, lambda: adapter.receive_many(WORKER, 0)),
                (TypeError, lambda: adapter.request(SENDER, WORKER, [], timeout=1)),
                (ValueError, lambda: adapter.request(SENDER, WORKER, {}, timeout=-1)),
            ]
            for error, call in wrong:
                with pytest.raises(error):
                    await call()

    run(main())


@pytest.mark.backend("fakeredis")
def test_an_adapter_is_made_around_what_it_adapts(
    coordinator: RedisMessageCoordinator, registry: RedisAgentRegistry
) -> None:
    with pytest.raises(TypeError, match="RedisMessageCoordinator"):
        AsyncMessageCoordinator(registry)
    with pytest.raises(TypeError, match="RedisAgentRegistry"):
        AsyncAgentRegistry(coordinator)
    with pytest.raises(ValueError, match="max_workers"):
        AsyncMessageCoordinator(coordinator, max_workers=0)
    assert AsyncMessageCoordinator(coordinator).coordinator is coordinator
    assert repr(coordinator) in repr(AsyncMessageCoordinator(coordinator))
    assert repr(registry) in repr(AsyncAgentRegistry(registry))


@ONE_BACKEND
def test_what_from_url_makes_is_closed_and_what_was_given_is_not(
    backend: Backend,
    key_prefix: str,
    coordinator: RedisMessageCoordinator,
    registry: RedisAgentRegistry,
) -> None:
    async def main() -> None:
        async with AsyncMessageCoordinator.from_url(backend.url, key_prefix, queue_size=1) as own:
            await own.send_message(SENDER, WORKER, message(1))
            assert not (await own.send_message(SENDER, WORKER, message(2))).delivered
        async with AsyncAgentRegistry.from_url(backend.url, key_prefix, grace_s=600.0) as owned:
            await owned.list_registered()
        async with AsyncMessageCoordinator(coordinator), AsyncAgentRegistry(registry):
            pass
        for closed in (own.coordinator.stats, owned.registry.get):
            with pytest.raises(ConfigurationError, match="closed"):
                closed(WORKER)

    run(main())
    assert coordinator.purge(WORKER) == 1
    assert registry.list_registered() == []


def test_a_health_check_that_is_a_coroutine_function_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Wrong(Agent):
        agent_id = AgentId("wrong")

        async def health_check(self) -> bool:
            return True

    with RedisAgentRegistry(fakeredis.FakeRedis(), restart_policy=RestartPolicy()) as registry:
        record = registry.register(Wrong())
    assert not record.well
    eventually(lambda: "make it an ordinary function" in caplog.text)
