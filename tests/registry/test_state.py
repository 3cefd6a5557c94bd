"""What an agent exports is there for its successor."""

import contextlib
import logging
import threading
from typing import Any

import pytest

from tests.registry.conftest import Later, Make
from tests.registry.given import ONE, PATIENCE, TTL, TWO, Plain, Stateful
from tests.registry.processes import AgentProcess
from tests.support.backends import Backend
from tests.support.waiting import eventually
from tta_agent_coordination import CoordinatorUnavailableError, RedisAgentRegistry
from tta_agent_coordination.proxy import FaultProxy
from tta_agent_coordination.registry.local import MAX_STATE_BYTES
from tta_agent_coordination.registry.options import LONGEST_PATIENCE

pytestmark = pytest.mark.guarantee("3.5")

STATE = {"n": 1, "text": "grüße \udc80", "deep": [{"a": None}, 1.5, True], "big": 2**60}


def successor(registry: RedisAgentRegistry) -> list[dict[str, Any]]:
    """Register another agent of the id, and return what it was given."""
    agent = Stateful(ONE)
    registry.register(agent)
    return agent.given


def test_a_successor_gets_what_was_exported_at_the_last_beat(make: Make) -> None:
    registry, agent = make(), Stateful(ONE, {"n": 0})
    registry.register(agent)
    agent.state = STATE
    registry.heartbeat(ONE)
    agent.state = {"n": "not beaten"}
    assert successor(make()) == [STATE]


def test_the_registration_is_a_beat(make: Make) -> None:
    make().register(Stateful(ONE, STATE))
    assert successor(make()) == [STATE]


def test_it_is_there_after_the_ttl_until_the_grace_time_ends(make: Make, later: Later) -> None:
    make(heartbeat_ttl_s=10, grace_s=100).register(Stateful(ONE, STATE))
    later(90)
    assert successor(make()) == [STATE]


def test_what_an_agent_exports_at_its_end_is_kept(make: Make, later: Later) -> None:
    registry, agent = make(heartbeat_ttl_s=10, grace_s=100), Stateful(ONE, {"n": 0})
    registry.register(agent)
    agent.state = STATE
    registry.deregister(ONE)
    later(90)
    assert make().get(ONE) is None
    assert successor(make()) == [STATE]


def test_the_state_of_an_agent_ended_by_another_process_is_kept(make: Make) -> None:
    owner = make()
    owner.register(Stateful(ONE, STATE))
    make().deregister(ONE)
    assert successor(make()) == [STATE]


def test_it_lives_as_long_as_the_agent_that_took_it_over(make: Make, later: Later) -> None:
    make(heartbeat_ttl_s=10, grace_s=100).register(Stateful(ONE, STATE))
    plain = make(heartbeat_ttl_s=10, grace_s=100)
    plain.register(Plain(ONE))
    for _ in range(3):
        later(60)
        assert plain.heartbeat(ONE)
    assert successor(make()) == [STATE]


def test_each_agent_has_its_own(make: Make) -> None:
    registry = make()
    registry.register(Stateful(ONE, {"n": 1}))
    registry.register(Stateful(TWO, {"n": 2}))
    registry.heartbeat(TWO)
    assert successor(make()) == [{"n": 1}]


def test_none_leaves_what_was_stored_before(make: Make) -> None:
    registry, agent = make(), Stateful(ONE, STATE)
    registry.register(agent)
    agent.state = None
    registry.heartbeat(ONE)
    assert successor(make()) == [STATE]


def test_an_empty_state_is_a_state(make: Make) -> None:
    make().register(Stateful(ONE, {}))
    assert successor(make()) == [{}]


def test_nothing_is_imported_where_nothing_was_exported(make: Make) -> None:
    make().register(Plain(ONE))
    assert successor(make()) == []
    assert not make().restore_state_if_available(Stateful(TWO))


def test_restoring_works_without_registering(make: Make) -> None:
    make().register(Stateful(ONE, STATE))
    agent = Stateful(ONE)
    assert make().restore_state_if_available(agent)
    assert agent.given == [STATE]
    assert not make().restore_state_if_available(Plain(ONE)), "it has no hook for it"


def test_the_same_object_registered_again_keeps_what_it_knows(make: Make) -> None:
    registry, agent = make(), Stateful(ONE, {"n": 0})
    registry.register(agent)
    agent.state = {"n": 1}
    registry.register(agent)
    assert agent.given == []
    assert successor(make()) == [{"n": 1}]


def test_an_import_that_raises_leaves_the_agent_unregistered(make: Make) -> None:
    class Picky(Stateful):
        def import_state(self, state: dict[str, Any]) -> None:
            raise ValueError(f"a state of no use: {state}")

    make().register(Stateful(ONE, STATE))
    registry = make()
    with pytest.raises(ValueError, match="of no use"):
        registry.register(Picky(ONE))
    assert registry.snapshot()["local"] == []
    assert successor(make()) == [STATE]


@pytest.mark.parametrize(
    "bad",
    [[1], "text", {"x": object()}, {"x": float("nan")}, {"x": "y" * MAX_STATE_BYTES}],
    ids=["list", "text", "object", "nan", "too-long"],
)
@pytest.mark.backend("fakeredis")
def test_a_state_that_cannot_be_stored_leaves_the_last_one(
    make: Make, caplog: pytest.LogCaptureFixture, bad: Any
) -> None:
    registry, agent = make(), Stateful(ONE, STATE)
    registry.register(agent)
    agent.state = bad
    assert [registry.heartbeat(ONE) for _ in range(3)] == [True] * 3
    agent.state = {"n": 2}
    caplog.set_level(logging.CRITICAL)
    registry.heartbeat(ONE)

    assert len([one for one in caplog.records if "could not be asked" in one.message]) == 1
    assert successor(make()) == [{"n": 2}]


@pytest.mark.backend("valkey")
def test_a_new_process_gets_it_from_one_that_was_killed(
    make: Make, backend: Backend, key_prefix: str, later: Later
) -> None:
    with AgentProcess(backend.url, key_prefix, ONE, ttl=TTL, state={"n": 1}) as first:
        assert first.given == []
        first.kill()
    later(3 * TTL)
    assert make().list_registered() == [], "it is dead"

    with AgentProcess(backend.url, key_prefix, ONE, ttl=TTL, state={"n": 2}) as second:
        assert second.given == [{"n": 1}]
        eventually(lambda: make().list_registered())
        second.end("deregister")
    assert make().list_registered(include_dead=True) == []
    assert successor(make()) == [{"n": 1}], "what was imported is what it exports"


# What ends while Redis is away, or slowly ---------------------------------------------------------


@pytest.mark.backend("valkey")
def test_the_last_state_is_kept_for_an_end_that_is_repeated(
    make: Make, backend: Backend, proxy: FaultProxy
) -> None:
    registry = make(backend.client_through(proxy), call_timeout=0.3)
    agent = Stateful(ONE, {"n": 0})
    registry.register(agent)
    agent.state = {"n": 7}
    ends_in_vain(registry, proxy)

    assert ends_at_last(registry)
    assert successor(make()) == [{"n": 7}]


@pytest.mark.backend("valkey")
@pytest.mark.parametrize("taken_over", [False, True], ids=["still its own", "taken over"])
def test_who_ended_in_an_outage_and_is_registered_again_knows_more_than_was_stored(
    make: Make, backend: Backend, proxy: FaultProxy, *, taken_over: bool
) -> None:
    # given an agent whose end Redis was not told of
    registry = make(backend.client_through(proxy), call_timeout=0.3)
    agent = Stateful(ONE, {"n": 0})
    registry.register(agent)
    agent.state = {"n": 5}
    ends_in_vain(registry, proxy)
    if taken_over:
        somebody, other = make(), Stateful(ONE)
        somebody.register(other)
        other.state = {"n": 8}
        somebody.heartbeat(ONE)

    # then it imports only what somebody else has exported since
    eventually(lambda: registers(registry, agent), timeout=PATIENCE)
    assert agent.given == ([{"n": 8}] if taken_over else [])


def ends_in_vain(registry: RedisAgentRegistry, proxy: FaultProxy) -> None:
    """End the registration while Redis cannot be reached; it can be again after that."""
    proxy.refuse()
    with pytest.raises(CoordinatorUnavailableError):
        registry.deregister(ONE)
    proxy.heal()


def ends_at_last(registry: RedisAgentRegistry) -> bool:
    """End it as soon as Redis can be reached."""
    ended: list[bool] = []

    def end() -> bool:
        with contextlib.suppress(CoordinatorUnavailableError):
            ended.append(registry.deregister(ONE))
        return bool(ended)

    eventually(end, timeout=PATIENCE)
    return ended == [True]


def registers(registry: RedisAgentRegistry, agent: Stateful) -> bool:
    with contextlib.suppress(CoordinatorUnavailableError):
        registry.register(agent)
        return True
    return False


@pytest.mark.backend("fakeredis")
def test_the_last_state_may_take_longer_than_a_beat_waits_for_it(make: Make) -> None:
    registry, agent = make(), Slow(ONE, {"n": 0})
    registry.register(agent)
    agent.state = {"n": 9}
    agent.takes = LONGEST_PATIENCE + 0.3
    assert registry.deregister(ONE)
    assert successor(make()) == [{"n": 9}]


class Slow(Stateful):
    """Takes its time to say what its state is."""

    takes = 0.0

    def export_state(self) -> dict[str, Any] | None:
        threading.Event().wait(self.takes)
        return super().export_state()
