"""Agents are registered, listed and ended."""

import json
from typing import Any

import pytest

from tests.registry.conftest import Make
from tests.registry.given import ONE, OTHER, THREE, TWO, Able, Plain
from tests.support.backends import Backend
from tests.support.servers import Client
from tta_agent_coordination import (
    AgentCapability,
    AgentId,
    AgentMessage,
    ConfigurationError,
    CoordinatorUnavailableError,
    Liveness,
    RedisAgentRegistry,
    RestartPolicy,
)
from tta_agent_coordination.keys import Keys

pytestmark = pytest.mark.guarantee("3.1")


def test_a_registered_agent_is_known_to_everybody(make: Make) -> None:
    given = make().register(Able(ONE, AgentCapability("summarize", "2.1.0", "short", ("en",))))

    found = make().get(ONE)

    assert found == given
    assert found.agent_id == ONE
    assert found.name == "plain"
    assert found.liveness is Liveness.ALIVE
    assert found.status == "running"
    assert found.well
    assert found.registered_at == found.last_beat
    assert found.heartbeat_ttl == 30.0
    assert found.capabilities == (AgentCapability("summarize", "2.1.0", "short", ("en",)),)
    assert found.process


def test_agents_are_listed_in_the_order_of_their_ids(make: Make) -> None:
    registry = make()
    for agent_id in (TWO, OTHER, ONE, AgentId("worker")):
        registry.register(Plain(agent_id))

    listed = make().list_registered()

    assert [one.agent_id for one in listed] == [OTHER, AgentId("worker"), ONE, TWO]
    assert [one.agent_id for one in make().list_registered(agent_type="planner")] == [OTHER]
    assert make().list_registered(agent_type="nobody") == []


def test_nobody_is_there_at_first(registry: RedisAgentRegistry) -> None:
    assert registry.list_registered(include_dead=True) == []
    assert registry.get(ONE) is None
    assert registry.deregister(ONE) is False
    assert registry.heartbeat(ONE) is False


def test_a_deregistered_agent_is_gone_at_once(make: Make) -> None:
    registry = make()
    registry.register(Plain(ONE))
    registry.register(Plain(TWO))

    assert registry.deregister(ONE)

    assert make().get(ONE) is None
    assert [one.agent_id for one in make().list_registered(include_dead=True)] == [TWO]
    assert not registry.heartbeat(ONE)
    assert not registry.deregister(ONE)


def test_a_deregistered_agent_can_be_registered_again(registry: RedisAgentRegistry) -> None:
    first = registry.register(Plain(ONE))
    registry.deregister(ONE)
    again = registry.register(Plain(ONE))
    assert again.epoch > first.epoch
    assert registry.heartbeat(ONE)
    assert registry.get(ONE) is not None


def test_a_beat_that_was_under_way_does_not_undo_a_deregistration(
    registry: RedisAgentRegistry,
) -> None:
    # given a beat that was made ready before
    registry.register(Plain(ONE))
    pulse = registry._pulses.get()
    [local] = pulse.agents.all()
    registry.deregister(ONE)

    # when it reaches the server after
    lost = pulse._beat([local])

    # then it changes nothing, and is no news
    assert lost == []
    assert registry.get(ONE) is None


@pytest.mark.backend("valkey")
def test_deregistering_removes_what_the_server_had_forgotten(
    registry: RedisAgentRegistry, client: Client, key_prefix: str
) -> None:
    registry.register(Plain(ONE))
    client.delete(*Keys(key_prefix).agents.values())
    assert registry.deregister(ONE)
    assert registry.get(ONE) is None


@pytest.mark.backend("valkey")
def test_a_repeated_call_answers_as_the_first(make: Make, backend: Backend, proxy: Any) -> None:
    registry = make(backend.client_through(proxy))
    registry.register(Plain(ONE))
    other = make(backend.client_through(proxy))

    for action in (
        lambda: registry.heartbeat(ONE),
        lambda: other.deregister(ONE),
        lambda: registry.register(Plain(TWO)),
        lambda: registry.deregister(TWO),
    ):
        fault = proxy.drop_reply_of("EVALSHA")
        assert action()
        assert fault.used_up
    assert other.list_registered(include_dead=True) == []


def test_any_object_with_an_id_and_a_name_can_be_registered(registry: RedisAgentRegistry) -> None:
    class Odd(Plain):
        status = 7
        health_check = None
        export_state = None

    assert registry.register(Odd()).status == "running"
    assert registry.heartbeat(ONE)


@pytest.mark.parametrize(
    ("agent", "names"),
    [
        (Plain("worker:1"), "agent_id"),
        (Plain(ONE, 7), "name"),
        (Able(ONE, "summarize"), "capability"),
    ],
)
@pytest.mark.backend("fakeredis")
def test_an_agent_that_is_none_is_refused(
    registry: RedisAgentRegistry, agent: Plain, names: str
) -> None:
    with pytest.raises(TypeError, match=names):
        registry.register(agent)
    assert registry.list_registered() == []


@pytest.mark.backend("fakeredis")
def test_an_object_without_an_id_is_refused(registry: RedisAgentRegistry) -> None:
    for call in (registry.register, registry.restore_state_if_available):
        with pytest.raises(TypeError, match=r"agent\.agent_id must be an AgentId, not None"):
            call(object())


@pytest.mark.backend("fakeredis")
@pytest.mark.parametrize("method", ["deregister", "heartbeat", "get"])
def test_an_id_that_is_none_is_refused(registry: RedisAgentRegistry, method: str) -> None:
    with pytest.raises(TypeError, match="agent_id must be an AgentId"):
        getattr(registry, method)("worker:1")


@pytest.mark.backend("fakeredis")
@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"heartbeat_ttl_s": "30"}, TypeError, "heartbeat_ttl_s"),
        ({"heartbeat_ttl_s": float("nan")}, ValueError, "heartbeat_ttl_s"),
        ({"heartbeat_ttl_s": 0}, ConfigurationError, "above 0"),
        ({"heartbeat_ttl_s": 3, "heartbeat_interval_s": 3}, ConfigurationError, r"\(3\).*\(3\)"),
        ({"heartbeat_interval_s": -1}, ValueError, "heartbeat_interval_s"),
        ({"heartbeat_ttl_s": 10, "grace_s": 20}, ConfigurationError, r"\(20\).*\(10\)"),
        ({"heartbeat_ttl_s": 10, "grace_s": 24.9}, ConfigurationError, r"\(24.9\).*\(10\)"),
        ({"call_timeout": 0}, ValueError, "call_timeout"),
        ({"restart_policy": 5}, TypeError, "restart_policy"),
    ],
)
def test_options_that_cannot_be_are_refused(
    make: Make, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        make(**options)


@pytest.mark.backend("fakeredis")
def test_a_prefix_that_cannot_be_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="key_prefix"):
        RedisAgentRegistry(client, "a{b}")


@pytest.mark.backend("fakeredis")
@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"window": -1}, {"backoff_base": "1"}, {"backoff_max": None}]
)
def test_a_restart_policy_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        RestartPolicy(**options)


@pytest.mark.backend("valkey", "cluster")
def test_a_registry_is_made_from_a_url(backend: Backend, key_prefix: str) -> None:
    url = backend.url
    if backend.name == "cluster":
        url = url.replace("redis://", "redis+cluster://")
    with RedisAgentRegistry.from_url(url, key_prefix, heartbeat_ttl_s=5) as registry:
        assert registry.register(Plain(ONE)).heartbeat_ttl == 5
        assert key_prefix in repr(registry)
        assert "://" not in repr(registry)


def test_closing_is_safe_to_repeat_and_ends_all_calls(make: Make) -> None:
    registry = make()
    registry.register(Plain(ONE))
    registry.start_heartbeats()
    with registry as same:
        assert same is registry
    registry.close()

    for call in (registry.start_heartbeats, registry.list_registered, lambda: registry.get(ONE)):
        with pytest.raises(ConfigurationError, match="closed"):
            call()
    assert registry.stop_heartbeats()
    assert make().get(ONE) is not None, "the registration is left to expire"


@pytest.mark.backend("valkey")
def test_what_somebody_else_wrote_is_passed_over(
    make: Make, client: Client, key_prefix: str
) -> None:
    registry = make()
    registry.register(Plain(ONE))
    keys = Keys(key_prefix).agents
    for name, value in {
        b"\xff": b"1 2 {}",
        b"worker:2": b"rubbish",
        b"worker:3": b"1 2 []",
        b"a b": client.hget(keys["records"], "worker:1"),
    }.items():
        client.hset(keys["records"], name, value)
        client.zadd(keys["ends"], {name: 9e15})
    client.zadd(keys["ends"], {"nobody": 9e15})
    client.hset(keys["states"], "worker:2", "rubbish")

    assert [one.agent_id for one in registry.list_registered()] == [ONE]
    assert registry.get(TWO) is None
    assert registry.register(Plain(TWO)).agent_id == TWO
    assert registry.deregister(THREE)
    assert [one.agent_id for one in registry.list_registered()] == [ONE, TWO]


def test_an_agent_of_the_type_agents_does_not_disturb_the_registry(
    registry: RedisAgentRegistry, coordinator: Any
) -> None:
    agents = AgentId("agents")
    registry.register(Plain(agents))
    coordinator.send_message(ONE, agents, AgentMessage(ONE, agents))
    assert coordinator.receive(agents) is not None
    assert coordinator.purge(agents) == 1
    assert registry.heartbeat(agents)
    assert registry.get(agents) is not None


@pytest.mark.backend("fakeredis")
def test_a_snapshot_is_json(registry: RedisAgentRegistry) -> None:
    registry.register(Able(ONE, AgentCapability("summarize")))

    snapshot = registry.snapshot()

    assert json.loads(json.dumps(snapshot))["counts"] == {"alive": 1, "suspect": 0, "dead": 0}
    assert snapshot["error"] is None
    assert snapshot["local"] == ["worker:1"]
    [agent] = snapshot["agents"]
    assert agent["agent_id"] == "worker:1"
    assert agent["liveness"] == "alive"
    assert agent["capabilities"][0]["name"] == "summarize"
    assert snapshot["heartbeat"] == {
        "running": False,
        "last_success_age": None,
        "last_error": None,
        "breaker": "closed",
    }


@pytest.mark.backend("valkey")
def test_a_registration_that_fails_leaves_the_one_before(
    make: Make, backend: Backend, proxy: Any
) -> None:
    registry, agent = make(backend.client_through(proxy), call_timeout=0.3), Plain(ONE)
    first = registry.register(agent)
    proxy.refuse()
    with pytest.raises(CoordinatorUnavailableError):
        registry.register(agent)
    proxy.heal()
    assert [one.agent_id for one in registry._pulses.get().agents.all()] == [ONE]
    found = make().get(ONE)
    assert found is not None
    assert found.epoch == first.epoch


@pytest.mark.backend("valkey")
def test_a_registration_without_an_answer_is_nobodys(
    make: Make, backend: Backend, proxy: Any
) -> None:
    registry = make(backend.client_through(proxy), call_timeout=0.3)
    proxy.drop_reply_of("EVALSHA", times=1000)
    with pytest.raises(CoordinatorUnavailableError):
        registry.register(Plain(ONE))
    proxy.heal()
    assert registry._pulses.get().agents.all() == []
    assert make().register(Plain(ONE)).agent_id == ONE, "it can be repeated"
