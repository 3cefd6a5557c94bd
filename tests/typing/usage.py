"""Code as a user would write it, for the type checker: pyright strict reads it, nobody runs it."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, assert_type

import redis
from redis.cluster import RedisCluster

from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentRecord,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitBreakerMetrics,
    CircuitBreakerState,
    DeadLetter,
    FailedAttempt,
    FailureType,
    InboxStats,
    LeaseOutcome,
    MessageCoordinator,
    MessagePriority,
    MessageResult,
    MessageSubscription,
    MessageType,
    QueueMessage,
    ReceivedMessage,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    RegistryEvent,
    RoutingKey,
    retry,
)
from tta_agent_coordination.aio import (
    AsyncAgentRegistry,
    AsyncCircuitBreaker,
    AsyncMessageCoordinator,
)


def connect() -> MessageCoordinator:
    RedisMessageCoordinator(RedisCluster(host="localhost"), key_prefix="app")
    RedisMessageCoordinator.from_url("redis://localhost", "app", queue_size=5, call_timeout=1.0)
    return RedisMessageCoordinator(redis.Redis(), consumer_name="me", retry_attempts=1)


def produce(coordinator: MessageCoordinator) -> None:
    me, worker = AgentId("planner", "main"), AgentId.parse("worker")
    message = AgentMessage(
        me,
        worker,
        {"task": "dig", "depth": [1, 2.5, None]},
        message_type=MessageType.REQUEST,
        priority=MessagePriority.HIGH,
        routing=RoutingKey("garden", ("tools",)),
        ttl=60,
        headers={"trace": "1"},
    )
    assert_type(coordinator.send_message(me, worker, message, delay=1), MessageResult)
    assert_type(coordinator.send_many(me, [message]), list[MessageResult])
    assert_type(coordinator.broadcast_message(me, message, {worker, me}), list[MessageResult])
    subscription = coordinator.subscribe_to_messages(worker, [MessageType.EVENT], topics=["a*"])
    assert_type(subscription, MessageSubscription)
    assert_type(coordinator.publish(me, message), list[MessageResult])
    coordinator.unsubscribe(subscription)
    coordinator.configure(queue_size=10, backoff_base=0.5)


def consume(worker: AgentId) -> None:
    with connect() as coordinator:
        assert_type(coordinator, MessageCoordinator)
        received = coordinator.receive(worker, 30.0, wait=10)
        if received is None:
            return
        assert_type(received, ReceivedMessage)
        assert_type(received.message, AgentMessage)
        assert_type(received.message.payload, dict[str, Any])
        assert_type(received.queue_message, QueueMessage)
        assert_type(received.visibility_deadline, datetime)
        assert_type(coordinator.extend(worker, received.token, 30), LeaseOutcome)
        if not coordinator.ack(worker, received.token):
            coordinator.nack(worker, received.token, FailureType.TIMEOUT, "late", delay=5)
        batch = coordinator.receive_many(worker, 10)
        assert_type(
            coordinator.ack_many(worker, [each.token for each in batch]), list[LeaseOutcome]
        )


def operate(coordinator: MessageCoordinator, worker: AgentId) -> None:
    stats = coordinator.stats(worker)
    assert_type(stats, InboxStats)
    assert_type(stats.ready, Mapping[MessagePriority, int])
    for letter in coordinator.dead_letters(worker, limit=10, offset=5):
        assert_type(letter, DeadLetter)
        assert_type(letter.queue_message, QueueMessage | None)
        assert_type(letter.raw, bytes | None)
    assert_type(coordinator.replay_dead_letters(worker, to=worker, limit=5), int)
    assert_type(coordinator.purge_dead_letters(worker, message_ids=["the-id"]), int)
    assert_type(coordinator.recover_pending() + coordinator.purge(worker), int)


def guard(client: redis.Redis) -> None:
    config = CircuitBreakerConfig(3, excluded=(ValueError, lambda error: "bad" in str(error)))
    breaker = CircuitBreaker(client, "service", config, "app", refresh=0.5, call_timeout=1)
    CircuitBreaker(
        RedisCluster(host="localhost"), "service", CircuitBreakerConfig(excluded=OSError)
    )
    CircuitBreaker.from_url("redis://localhost", "service", config).close()

    @breaker
    def ask(question: str, *, times: int = 1) -> list[str]:
        return [question] * times

    assert_type(ask("why", times=2), list[str])
    assert_type(breaker.call(ask, "why", times=2), list[str])
    with breaker as entered:
        assert_type(entered, CircuitBreaker)
    permit = breaker.admit()
    breaker.settle(permit, ValueError())
    assert_type(breaker.state, CircuitBreakerState)
    assert_type(breaker.is_call_permitted(), bool)
    assert_type(breaker.get_metrics(), CircuitBreakerMetrics)
    assert_type(breaker.get_metrics()["retry_after"], float)
    breaker.ask(1)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - a typo
    ask(1)  # pyright: ignore[reportArgumentType] - no text
    breaker.call(ask, 1)  # pyright: ignore[reportArgumentType] - no text


def repeat() -> None:
    def tell(failed: FailedAttempt) -> None:
        assert_type(failed.error, Exception)

    @retry
    def one(number: int) -> str:
        return str(number)

    @retry(on=(OSError, KeyError), attempts=None, deadline=5, on_retry=tell)
    def two(number: int) -> str:
        return str(number)

    assert_type(one(1), str)
    assert_type(two(1), str)
    assert_type(retry(on=lambda error: "again" in str(error)).call(one, 5), str)
    guarded: Callable[[int], str] = retry(one)
    guarded(1)
    two("1")  # pyright: ignore[reportArgumentType] - no number
    retry(on=KeyboardInterrupt)  # pyright: ignore[reportArgumentType, reportCallIssue] - no Exception


class Clerk(Agent):
    """Its methods are coroutine functions."""

    async def start(self) -> None:
        await asyncio.sleep(0)

    async def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        return payload

    async def on_event(self, message: AgentMessage) -> None:
        await self.process(message.payload)


async def from_asyncio(me: AgentId, worker: AgentId, message: AgentMessage) -> None:
    async with AsyncMessageCoordinator.from_url("redis://localhost", queue_size=5) as coordinator:
        assert_type(await coordinator.send_message(me, worker, message, delay=1), MessageResult)
        received = await coordinator.receive(worker, 30.0, wait=10)
        assert_type(received, ReceivedMessage | None)
        if received is not None:
            assert_type(await coordinator.ack(worker, received.token), LeaseOutcome)
        assert_type(await coordinator.receive_many(worker, 5), list[ReceivedMessage])
        assert_type(await coordinator.request(me, worker, {}, timeout=1.0), AgentMessage)
        assert_type(await coordinator.stats(worker), InboxStats)
    async with AsyncAgentRegistry(RedisAgentRegistry(redis.Redis()), max_workers=2) as registry:
        assert_type(await registry.register(Clerk(me)), AgentRecord)
        async for event in registry.watch(timeout=1.0):
            assert_type(event, RegistryEvent)


async def guard_awaited(breaker: CircuitBreaker) -> None:
    adapter = AsyncCircuitBreaker(breaker)

    @adapter
    async def ask(question: str, *, twice: bool = False) -> int:
        return len(question) * (1 + twice)

    @adapter
    def ask_slowly(question: str) -> int:
        return len(question)

    assert_type(await ask("why", twice=True), int)
    assert_type(await ask_slowly("why"), int)
    assert_type(await adapter.call(len, "abc"), int)
    assert_type(await adapter.call(ask, "abc", twice=False), int)
    assert_type(await adapter.state, CircuitBreakerState)
    async with adapter as same:
        assert_type(same, AsyncCircuitBreaker)
