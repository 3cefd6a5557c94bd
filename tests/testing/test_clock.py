"""The clock of a sandbox: what the server decides, it decides by this clock."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.waiting import eventually
from tests.testing.given import SENDER, WORKER, Noting, send
from tta_agent_coordination import (
    AgentMessage,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitBreakerState,
    FailureType,
    Liveness,
    RedisMessageCoordinator,
)
from tta_agent_coordination.testing import Sandbox, inbox_of


def test_it_goes_on_by_itself_and_can_be_moved(sandbox: Sandbox) -> None:
    before = sandbox.clock.now()

    sandbox.clock.advance(3600)
    sandbox.clock.advance(0.5)

    assert sandbox.clock.ahead == 3600.5
    assert timedelta(seconds=3600) < sandbox.clock.now() - before < timedelta(seconds=3700)
    seconds, _ = sandbox.redis.time()
    assert abs(seconds - sandbox.clock.time()) < 60
    assert sandbox.clock.now() - datetime.now(UTC) > timedelta(seconds=3000)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "1"])
def test_it_is_moved_by_durations_only(sandbox: Sandbox, seconds: float) -> None:
    with pytest.raises((ValueError, TypeError), match="seconds"):
        sandbox.clock.advance(seconds)

    assert sandbox.clock.ahead == 0


def test_two_sandboxes_share_neither_clock_nor_data(sandbox: Sandbox) -> None:
    with Sandbox() as other:
        other.clock.advance(1000)
        send(other)

        assert sandbox.clock.ahead == 0
        assert sandbox.redis.dbsize() == 0


def test_leases_pass(sandbox: Sandbox) -> None:
    coordinator = sandbox.coordinator
    send(sandbox)
    first = coordinator.receive(WORKER, visibility_timeout=300.0)

    sandbox.clock.advance(200)
    assert coordinator.receive(WORKER) is None
    sandbox.clock.advance(101)
    second = coordinator.receive(WORKER)

    assert first is not None
    assert second is not None
    assert second.queue_message.delivery_attempts == 2
    assert not coordinator.ack(WORKER, first.token)
    assert coordinator.ack(WORKER, second.token)


def test_a_late_ack_of_the_last_attempt_still_counts(sandbox: Sandbox) -> None:
    sandbox.coordinator.configure(retry_attempts=0)
    send(sandbox)
    received = sandbox.coordinator.receive(WORKER)

    sandbox.clock.advance(60)  # moves nothing by itself, not even to the dead letters

    assert received is not None
    assert sandbox.coordinator.ack(WORKER, received.token)


def test_delays_and_back_offs_end(sandbox: Sandbox) -> None:
    coordinator = sandbox.coordinator
    send(sandbox, delay=500.0)
    assert coordinator.receive(WORKER) is None
    sandbox.clock.advance(501)
    received = coordinator.receive(WORKER)
    assert received is not None

    coordinator.nack(WORKER, received.token, FailureType.TRANSIENT, delay=500.0)
    assert coordinator.receive(WORKER) is None
    sandbox.clock.advance(501)

    assert coordinator.receive(WORKER) is not None


def test_messages_expire(sandbox: Sandbox) -> None:
    message = AgentMessage(SENDER, WORKER, ttl=500.0)
    sandbox.coordinator.send_message(SENDER, WORKER, message)

    sandbox.clock.advance(501)

    assert sandbox.coordinator.receive(WORKER) is None
    assert [dead.reason for dead in sandbox.coordinator.dead_letters(WORKER)] == ["expired"]


def test_the_dedup_window_ends_and_its_marks_vanish(sandbox: Sandbox) -> None:
    coordinator = sandbox.coordinator
    message = AgentMessage(SENDER, WORKER)

    def again() -> bool:
        return coordinator.send_message(SENDER, WORKER, message).duplicate

    assert not again()
    received = coordinator.receive(WORKER)
    assert received is not None
    coordinator.ack(WORKER, received.token)
    assert again()

    sandbox.clock.advance(500)

    assert not again()
    coordinator.purge(WORKER)
    sandbox.clock.advance(500)
    assert list(sandbox.redis.scan_iter("*marks*")) == []


def test_keys_of_the_users_own_expire(sandbox: Sandbox) -> None:
    sandbox.redis.set("mine", "1", ex=500)
    assert 400 < sandbox.redis.ttl("mine") <= 500

    sandbox.clock.advance(501)

    assert sandbox.redis.get("mine") is None


def test_heartbeats_age(sandbox: Sandbox) -> None:
    registry = sandbox.registry
    registry.register(Noting())

    def liveness() -> Liveness | None:
        record = registry.get(WORKER)
        return record and record.liveness

    found = [liveness()]
    for seconds in (31, 30, 300):
        sandbox.clock.advance(seconds)
        found.append(liveness())

    assert found == [Liveness.ALIVE, Liveness.SUSPECT, Liveness.DEAD, None]


def test_circuit_breakers_become_half_open(sandbox: Sandbox) -> None:
    breaker = CircuitBreaker(sandbox.redis, "api", CircuitBreakerConfig(failure_threshold=1))
    with pytest.raises(ZeroDivisionError):
        breaker.call(lambda: 1 / 0)
    assert breaker.state is CircuitBreakerState.OPEN

    sandbox.clock.advance(61)

    assert breaker.state is CircuitBreakerState.HALF_OPEN
    assert breaker.call(lambda: 7) == 7
    breaker.close()


def test_circuit_breakers_become_half_open_while_the_server_is_away(sandbox: Sandbox) -> None:
    config = CircuitBreakerConfig(failure_threshold=1)
    breaker = CircuitBreaker(sandbox.redis, "api", config, call_timeout=0.1)
    with sandbox.faults.server_down():
        with pytest.raises(ZeroDivisionError):
            breaker.call(lambda: 1 / 0)
        assert breaker.state is CircuitBreakerState.OPEN

        sandbox.clock.advance(61)

        assert breaker.call(lambda: 7) == 7
    breaker.close()


def test_a_circuit_that_nobody_used_yet_is_left_alone(sandbox: Sandbox) -> None:
    breaker = CircuitBreaker(sandbox.redis, "fresh")

    sandbox.clock.advance(61)

    assert breaker.state is CircuitBreakerState.CLOSED
    breaker.close()


def test_a_consumer_that_waits_looks_again(sandbox: Sandbox) -> None:
    send(sandbox, delay=500.0)
    got: list[object] = []
    began = time.monotonic()
    thread = threading.Thread(
        target=lambda: got.append(sandbox.coordinator.receive(WORKER, wait=60.0))
    )
    thread.start()
    eventually(lambda: any(sock._blocked for sock in sandbox._server.sockets))

    sandbox.clock.advance(501)

    thread.join(10.0)
    assert [one is not None for one in got] == [True]
    assert time.monotonic() - began < 10.0


def test_a_worker_that_waits_looks_again(sandbox: Sandbox) -> None:
    agent = Noting()
    sandbox.worker(agent, threads=1).start()
    send(sandbox, delay=500.0, n=1)
    eventually(lambda: any(sock._blocked for sock in sandbox._server.sockets))

    sandbox.clock.advance(501)

    eventually(lambda: agent.got == [{"n": 1}])


def test_inboxes_are_recovered_that_were_long_unused(sandbox: Sandbox) -> None:
    coordinator = sandbox.coordinator
    send(sandbox)
    coordinator.purge(WORKER)
    sandbox.clock.advance(30 * 86_400)
    assert coordinator.recover_pending() == 0  # would strike it out, if its sender had not noted it

    send(sandbox)
    coordinator.receive(WORKER)
    sandbox.clock.advance(6)

    assert coordinator.recover_pending() == 1
    assert len(inbox_of(coordinator, WORKER).ready) == 1


def test_coordinators_of_the_users_own_go_by_it_too(sandbox: Sandbox) -> None:
    with RedisMessageCoordinator(sandbox.client(decode_responses=True), "mine") as coordinator:
        coordinator.send_message(SENDER, WORKER, AgentMessage(SENDER, WORKER), delay=500.0)

        sandbox.clock.advance(501)

        assert coordinator.receive(WORKER) is not None
