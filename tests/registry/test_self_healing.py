"""After the server lost everything, one beat of each agent brings all of it back."""

import time
from collections.abc import Callable

import pytest

from tests.conftest import OwnServers
from tests.registry.conftest import Make
from tests.registry.given import ONE, PATIENCE, TWO, Able, Stateful
from tests.support.servers import Client
from tests.support.waiting import eventually
from tta_agent_coordination import AgentCapability, AgentId, RedisAgentRegistry
from tta_agent_coordination.keys import Keys

pytestmark = pytest.mark.guarantee("3.2")


@pytest.fixture
def lose_everything(client: Client, key_prefix: str) -> Callable[[], None]:
    """Delete what the registry stored; the servers are shared, so they are not flushed."""
    return lambda: client.delete(*Keys(key_prefix).agents.values()) and None


def test_a_beat_brings_the_whole_registration_back(
    make: Make, lose_everything: Callable[[], None]
) -> None:
    registry = make()
    given = registry.register(Able(ONE, AgentCapability("sum", "1.2.3", tags=("en",))))
    lose_everything()
    assert make().get(ONE) is None

    assert registry.heartbeat(ONE)

    found = make().get(ONE)
    assert found is not None
    assert (found.epoch, found.registered_at) == (given.epoch, given.registered_at)
    assert found.capabilities == given.capabilities
    assert found.process == given.process


def test_a_beat_brings_the_state_back(make: Make, lose_everything: Callable[[], None]) -> None:
    registry = make()
    registry.register(Stateful(ONE, {"n": 1}))
    lose_everything()
    registry.heartbeat(ONE)
    successor = Stateful(ONE)
    make().register(successor)
    assert successor.given == [{"n": 1}]


def test_a_state_that_was_only_imported_comes_back_too(
    make: Make, lose_everything: Callable[[], None]
) -> None:
    class Silent(Stateful):
        def export_state(self) -> None:
            return None

    make().register(Stateful(ONE, {"n": 1}))
    registry = make()
    registry.register(Silent(ONE))
    lose_everything()
    registry.heartbeat(ONE)
    successor = Stateful(ONE)
    make().register(successor)
    assert successor.given == [{"n": 1}]


def test_the_last_state_comes_back_when_its_export_fails_by_now(
    make: Make, lose_everything: Callable[[], None]
) -> None:
    registry, agent = make(), Stateful(ONE, {"n": 1})
    registry.register(agent)
    agent.state = {"n": object()}
    lose_everything()
    registry.heartbeat(ONE)
    successor = Stateful(ONE)
    make().register(successor)
    assert successor.given == [{"n": 1}]


def test_after_a_flush_all_agents_are_listed_within_one_interval(own_server: OwnServers) -> None:
    # given two processes' worth of agents that beat
    server, interval = own_server(), 0.5
    registries = [
        RedisAgentRegistry(server.client(), heartbeat_ttl_s=3.0, heartbeat_interval_s=interval)
        for _ in range(2)
    ]
    for number, registry in enumerate(registries):
        for name in range(20):
            registry.register(Stateful(AgentId(f"crew{number}", str(name)), {"n": name}))
        registry.start_heartbeats()

    # when the server loses everything, scripts included
    before = len(registries[0].list_registered())
    server.flush()
    server.admin.script_flush()
    start = time.monotonic()
    eventually(lambda: len(registries[0].list_registered()) == 40, timeout=PATIENCE)
    taken = time.monotonic() - start

    # then all are back with the next beat
    assert before == 40
    assert taken < interval + 0.3, "0.3 s for a machine that is busy"
    successor = Stateful(AgentId("crew1", "7"))
    assert registries[0].restore_state_if_available(successor)
    assert successor.given == [{"n": 7}]
    for registry in registries:
        registry.close()


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the monotonic clock of this process go ahead by so many seconds, without waiting."""
    right, offset = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: right() + offset[0])

    def ahead(seconds: float) -> None:
        offset[0] += seconds

    return ahead


@pytest.mark.guarantee("3.4")
def test_beats_go_on_when_the_server_was_away(
    own_server: OwnServers, caplog: pytest.LogCaptureFixture, ahead: Callable[[float], None]
) -> None:
    # given agents that beat
    server = own_server()
    registry = RedisAgentRegistry(server.client(), heartbeat_ttl_s=0.6, call_timeout=0.5)
    with registry:
        registry.register(Stateful(ONE, {"n": 1}))
        registry.register(Stateful(TWO))
        heart = registry._pulses.get().heart
        beat, tried = heart._beat, list[float]()
        heart._beat = lambda: (tried.append(time.monotonic()), beat())
        registry.start_heartbeats()
        eventually(lambda: (heart.age or 9) < 0.3)

        # when the server is away for a minute, which is a hundred ttls, and comes back empty
        server.kill()
        eventually(lambda: heart.last_error, timeout=PATIENCE)
        for _ in range(12):
            begun = len(tried)
            ahead(5.0)
            eventually(lambda begun=begun: len(tried) > begun, timeout=PATIENCE)
        assert heart.running
        snapshot = registry.snapshot()
        assert snapshot["error"]
        assert snapshot["agents"] == []
        assert snapshot["local"] == ["worker:1", "worker:2"]
        assert snapshot["heartbeat"]["last_success_age"] > 60.0
        assert snapshot["heartbeat"]["last_error"]
        server.start()

        # then all are listed again
        eventually(lambda: heart.last_error is None, timeout=PATIENCE)
        with RedisAgentRegistry(server.client()) as observer:
            assert [one.agent_id for one in observer.list_registered()] == [ONE, TWO]
        assert heart.age is not None
        assert heart.age < 2.0
    changes = [one.message for one in caplog.records if "heartbeats" in one.message]
    assert len(changes) == 2, "one line a change"
    assert "heartbeats fail" in changes[0]
    assert changes[1] == "heartbeats succeed again"
    assert [one.exc_info for one in caplog.records if one.exc_info] == [], "an outage is no bug"
