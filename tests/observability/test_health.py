"""What breakers and the registry tell."""

from contextlib import ExitStack

import pytest

from tests.observability.conftest import Make
from tests.observability.given import ONE, SENDER, WORKER, Acting, Recorder, message
from tests.support.backends import Backend
from tests.support.registry_clock import let_pass
from tests.support.servers import Client
from tests.support.waiting import eventually
from tta_agent_coordination import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CoordinatorUnavailableError,
    RedisAgentRegistry,
)
from tta_agent_coordination.events import (
    AgentsRecovered,
    AgentSuperseded,
    BreakerChanged,
    HeartbeatsFailed,
    HeartbeatsRecovered,
    SendEnded,
)
from tta_agent_coordination.proxy import FaultProxy

pytestmark = pytest.mark.backend("valkey")


def changes(recorder: Recorder) -> list[tuple[str, str, str]]:
    return [(event.breaker, event.old, event.new) for event in recorder.of(BreakerChanged)]


def test_a_breaker_around_redis_tells_its_changes(
    make: Make, recorder: Recorder, backend: Backend, proxy: FaultProxy
) -> None:
    coordinator = make(backend.client_through(proxy), call_timeout=1.0)
    coordinator.events.add(recorder)
    proxy.refuse()

    def opens() -> bool:
        with pytest.raises(CoordinatorUnavailableError):
            coordinator.send_message(SENDER, WORKER, message())
        return coordinator.internals.link.commands.state == "open"

    eventually(opens)

    assert changes(recorder) == [("redis-commands", "closed", "open")]
    assert {type(event.error) for event in recorder.of(SendEnded)} >= {CoordinatorUnavailableError}


def test_a_circuit_breaker_of_the_user_tells_its_changes(
    client: Client, key_prefix: str, recorder: Recorder, closing: ExitStack
) -> None:
    config = CircuitBreakerConfig(failure_threshold=1, timeout_seconds=60.0)
    breaker = CircuitBreaker(client, "model", config, key_prefix)
    closing.callback(breaker.close)
    breaker.events.add(recorder)
    assert breaker.is_call_permitted()

    with pytest.raises(ZeroDivisionError):
        breaker.call(lambda: 1 / 0)
    breaker.reset()

    assert changes(recorder) == [("model", "closed", "open"), ("model", "open", "closed")]


def test_heartbeats_that_fail_and_recover_are_told_once(
    key_prefix: str, recorder: Recorder, backend: Backend, proxy: FaultProxy, closing: ExitStack
) -> None:
    registry = closing.enter_context(
        RedisAgentRegistry(
            backend.client_through(proxy),
            key_prefix,
            heartbeat_ttl_s=0.6,
            heartbeat_interval_s=0.1,
            call_timeout=0.2,
        )
    )
    registry.events.add(recorder)
    registry.register(Acting())
    registry.start_heartbeats()

    proxy.refuse()
    recorder.wait_for(HeartbeatsFailed)
    proxy.heal()
    recorder.wait_for(HeartbeatsRecovered)

    assert recorder.of(HeartbeatsFailed)[0].error.startswith("Coordinator")
    assert len(recorder.of(HeartbeatsRecovered)) <= len(recorder.of(HeartbeatsFailed))


def test_an_agent_that_was_taken_over_is_told(
    client: Client, key_prefix: str, recorder: Recorder, closing: ExitStack
) -> None:
    first, second = (
        closing.enter_context(RedisAgentRegistry(client, key_prefix)) for _ in range(2)
    )
    first.events.add(recorder)
    first.register(Acting())
    second.register(Acting())

    assert first.heartbeat(ONE) is False

    assert recorder.one(AgentSuperseded).agent_id == ONE


def test_a_round_of_recovery_tells_how_many(
    client: Client, key_prefix: str, recorder: Recorder, closing: ExitStack
) -> None:
    registry = closing.enter_context(RedisAgentRegistry(client, key_prefix))
    registry.events.add(recorder)
    registry.register(Acting())
    registry.detect_and_recover()
    assert recorder.events == []
    registry.on_unhealthy(lambda _: None)
    let_pass(client, key_prefix, 100.0)

    registry.detect_and_recover()

    told = recorder.one(AgentsRecovered)
    assert (told.unhealthy, told.restarted, told.given_up) == (1, 1, 0)
    assert (told.failed, told.moved) == (0, 0)
