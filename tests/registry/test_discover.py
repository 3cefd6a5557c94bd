"""Agents are found by what they can do, the least loaded first."""

from typing import Any

import pytest

from tests.registry.conftest import Later, Make
from tests.registry.given import ONE, OTHER, THREE, TWO, Able, Plain
from tta_agent_coordination import (
    AgentCapability,
    AgentId,
    AgentLoad,
    AgentNotFoundError,
    RedisAgentRegistry,
)

pytestmark = pytest.mark.guarantee("3.6")


def can(name: str, version: str = "1.0.0", *tags: str) -> AgentCapability:
    return AgentCapability(name, version, tags=tags)


@pytest.fixture
def team(registry: RedisAgentRegistry) -> RedisAgentRegistry:
    """Three workers and a planner."""
    registry.register(Able(ONE, can("sum", "1.9.0", "en", "de"), can("draw")))
    registry.register(Able(TWO, can("sum", "1.10.0", "en")))
    registry.register(Able(THREE, can("sum", "2.0.0-rc.1"), can("read", "3.0.0", "en")))
    registry.register(Plain(OTHER))
    return registry


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, "planner:1 worker:1 worker:2 worker:3"),
        ({"agent_type": "worker"}, "worker:1 worker:2 worker:3"),
        ({"capability": "sum"}, "worker:1 worker:2 worker:3"),
        ({"capability": "sum", "min_version": "1.9.0"}, "worker:1 worker:2 worker:3"),
        ({"capability": "sum", "min_version": "1.9.1"}, "worker:2 worker:3"),
        ({"capability": "sum", "min_version": "2.0.0-beta"}, "worker:3"),
        ({"capability": "sum", "min_version": "2.0.0"}, ""),
        ({"capability": "sum", "tags": ("en",)}, "worker:1 worker:2"),
        ({"capability": "sum", "tags": ["de", "en"]}, "worker:1"),
        ({"tags": ("en",)}, "worker:1 worker:2 worker:3"),
        ({"min_version": "3.0.0"}, "worker:3"),
        ({"agent_type": "planner", "capability": "sum"}, ""),
        ({"capability": "Sum"}, ""),
    ],
    ids=str,
)
@pytest.mark.backend("fakeredis", "cluster")
def test_all_that_is_asked_for_must_fit_one_capability(
    team: RedisAgentRegistry, wanted: dict[str, Any], expected: str
) -> None:
    found = team.discover(**wanted)
    assert " ".join(str(one.agent_id) for one in found) == expected


def test_only_those_alive_are_found(team: RedisAgentRegistry, later: Later) -> None:
    later(31, ONE)
    later(61, TWO)
    assert [one.agent_id for one in team.discover(capability="sum")] == [THREE]


def test_the_least_loaded_comes_first(make: Make) -> None:
    registry = make()
    loads = {
        "a": AgentLoad(busy=8, threads=8),
        "b": AgentLoad(busy=1, threads=2, depth=3),
        "c": AgentLoad(busy=4, threads=8, depth=2),
        "d": AgentLoad(busy=0, threads=8, depth=9),
        "e": AgentLoad(),
    }
    for name, load in loads.items():
        agent_id = AgentId("worker", name)
        registry.register(Plain(agent_id))
        registry.internals.set_load_source(agent_id, lambda load=load: load)
        registry.heartbeat(agent_id)

    found = make().discover("worker")

    assert [one.agent_id.instance for one in found] == ["e", "d", "c", "b", "a"]
    assert found[-1].load == AgentLoad(busy=8, threads=8)
    assert make().pick("worker") == AgentId("worker", "e")


@pytest.mark.backend("fakeredis")
def test_a_load_that_cannot_be_told_is_what_it_was(registry: RedisAgentRegistry) -> None:
    def fail() -> AgentLoad:
        raise RuntimeError("no load today")

    registry.register(Plain(ONE))
    registry.internals.set_load_source(ONE, lambda: AgentLoad(busy=3, threads=4))
    registry.heartbeat(ONE)
    registry.internals.set_load_source(ONE, fail)
    assert registry.heartbeat(ONE)
    assert registry.discover()[0].load == AgentLoad(busy=3, threads=4)
    registry.internals.set_load_source(ONE, None)
    registry.heartbeat(ONE)
    assert registry.discover()[0].load == AgentLoad()
    registry.internals.set_load_source(TWO, fail)  # of nobody here


@pytest.mark.backend("fakeredis")
@pytest.mark.parametrize("wrong", [5, ONE, b"worker", ("worker",)])
def test_what_is_no_type_or_name_is_refused(registry: RedisAgentRegistry, wrong: Any) -> None:
    for ask in (registry.discover, registry.pick):
        with pytest.raises(TypeError, match="agent_type must be a str"):
            ask(wrong)
        with pytest.raises(TypeError, match="capability must be a str"):
            ask(capability=wrong)
    with pytest.raises(TypeError, match="agent_type must be a str"):
        registry.list_registered(agent_type=wrong)


@pytest.mark.backend("fakeredis")
def test_what_an_agent_can_do_may_change(registry: RedisAgentRegistry) -> None:
    agent = Able(ONE, can("sum"))
    registry.register(agent)
    agent.capabilities = [can("sum"), can("draw")]
    assert not registry.discover(capability="draw")
    registry.heartbeat(ONE)
    assert registry.discover(capability="draw")
    agent.capabilities = ["nothing"]
    assert registry.heartbeat(ONE), "it is said once, and the last answer stays"
    assert registry.discover(capability="draw")


@pytest.mark.backend("fakeredis")
def test_an_agent_is_picked_or_it_is_said_that_there_is_none(team: RedisAgentRegistry) -> None:
    assert team.pick("worker", capability="sum", min_version="1.9.1", tags=["en"]) == TWO
    with pytest.raises(AgentNotFoundError, match=r"worker.*fly.*2\.0\.0.*en"):
        team.pick("worker", capability="fly", min_version="2.0.0", tags=(tag for tag in ["en"]))


@pytest.mark.backend("fakeredis")
@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"min_version": "1.0"}, ValueError),
        ({"min_version": 2}, TypeError),
        ({"tags": "en"}, TypeError),
        ({"tags": [1]}, TypeError),
    ],
)
def test_what_nobody_could_fit_is_refused(
    registry: RedisAgentRegistry, wanted: dict[str, Any], error: type[Exception]
) -> None:
    for method in (registry.discover, registry.pick):
        with pytest.raises(error):
            method(**wanted)
