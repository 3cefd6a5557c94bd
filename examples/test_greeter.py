"""Testing your own agents.

Run it with ``pytest -p tta_agent_coordination.testing.plugin examples/test_greeter.py``. The
fixtures come with the library, installed with the extra ``testing``. Nothing here sleeps, and
no server is needed.
"""

# [greeter]
from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentMessage,
    AgentWorker,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitBreakerState,
    Liveness,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    RejectMessage,
)
from tta_agent_coordination.testing import (
    Clock,
    Faults,
    Sandbox,
    expire_lease,
    inbox_of,
    run_until_idle,
)

DOOR, GREETER, LOG = AgentId("door"), AgentId("greeter"), AgentId("log")


class Greeter(Agent):
    """What is tested: it writes a line to a log for everybody who comes."""

    def __init__(self, coordinator: RedisMessageCoordinator) -> None:
        super().__init__(GREETER)
        self._coordinator = coordinator

    def process(self, payload: dict[str, str]) -> dict[str, str]:
        if not payload["name"]:
            raise RejectMessage("nobody is there")
        line = {"text": f"Hello, {payload['name']}"}
        self._coordinator.send_message(GREETER, LOG, AgentMessage(GREETER, LOG, line))
        return line


# [/greeter]


# [handles]
def test_it_greets_who_comes_and_rejects_nobody(tta_coordinator: RedisMessageCoordinator) -> None:
    for name in ("Ada", ""):
        tta_coordinator.send_message(DOOR, GREETER, AgentMessage(DOOR, GREETER, {"name": name}))

    done = run_until_idle(AgentWorker(Greeter(tta_coordinator), tta_coordinator))

    assert (done.handled, done.failed, done.dead) == (1, 1, 1)
    assert [line.payload for line in inbox_of(tta_coordinator, LOG).ready] == [
        {"text": "Hello, Ada"}
    ]
    assert inbox_of(tta_coordinator, GREETER).dead[0].reason == "permanent"


# [/handles]


# [clock]
def test_a_crashed_consumer_loses_nothing(
    tta_coordinator: RedisMessageCoordinator, tta_clock: Clock
) -> None:
    tta_coordinator.send_message(DOOR, GREETER, AgentMessage(DOOR, GREETER, {"name": "Ada"}))
    first = tta_coordinator.receive(GREETER, visibility_timeout=30.0)
    assert tta_coordinator.receive(GREETER) is None

    tta_clock.advance(31)  # nobody acknowledges it

    again = tta_coordinator.receive(GREETER)
    assert first is not None
    assert again is not None
    assert again.queue_message.delivery_attempts == 2
    expire_lease(tta_coordinator, again)  # the same, without the clock
    assert tta_coordinator.receive(GREETER) is not None


def test_an_agent_is_found_dead(tta_registry: RedisAgentRegistry, tta_clock: Clock) -> None:
    class Idle(Agent):
        def process(self, payload: dict[str, str]) -> dict[str, str]:
            return payload

    tta_registry.register(Idle(GREETER))
    tta_clock.advance(61)
    record = tta_registry.get(GREETER)
    assert record is not None
    assert record.liveness is Liveness.DEAD


def test_a_circuit_breaker_tries_again(tta_sandbox: Sandbox) -> None:
    config = CircuitBreakerConfig(failure_threshold=1, timeout_seconds=60.0)
    breaker = CircuitBreaker(tta_sandbox.redis, "model", config)
    try:
        breaker.call(lambda: 1 / 0)
    except ZeroDivisionError:
        assert breaker.state is CircuitBreakerState.OPEN
    tta_sandbox.clock.advance(61)
    assert breaker.state is CircuitBreakerState.HALF_OPEN
    breaker.close()


# [/clock]


# [faults]
def test_a_lost_reply_stores_nothing_twice(
    tta_coordinator: RedisMessageCoordinator, tta_faults: Faults
) -> None:
    lost = tta_faults.lose_reply("send")  # the server stores it, and nobody is told

    result = tta_coordinator.send_message(
        DOOR, GREETER, AgentMessage(DOOR, GREETER, {"name": "Ada"})
    )

    assert lost.hits == 1
    assert result.delivered
    assert not result.duplicate
    assert len(inbox_of(tta_coordinator, GREETER).ready) == 1


def test_a_killed_worker_is_replaced(tta_sandbox: Sandbox) -> None:
    coordinator = tta_sandbox.coordinator
    killed = tta_sandbox.worker(Greeter(coordinator), tta_sandbox.registry)
    killed.start()
    tta_sandbox.abandon(killed)  # no release, no ack, no farewell to the registry

    coordinator.send_message(DOOR, GREETER, AgentMessage(DOOR, GREETER, {"name": "Ada"}))
    done = run_until_idle(tta_sandbox.worker(Greeter(coordinator)))

    assert done.handled == 1


# [/faults]
