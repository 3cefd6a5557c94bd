"""Thousands of agents cost a few round trips."""

import time

import pytest

from tests.registry.conftest import Make
from tests.registry.given import ONE, Plain, Stateful
from tests.support.backends import Backend
from tests.support.servers import Client
from tta_agent_coordination import AgentId
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.proxy import FaultProxy
from tta_agent_coordination.registry.local import LocalAgent

pytestmark = [pytest.mark.guarantee("3.7"), pytest.mark.backend("valkey")]

LISTING_TIME = 5.0
"""Seconds for 10,000 agents; a tenth of it where nothing else runs."""


def copies(client: Client, prefix: str, count: int) -> None:
    """Store what one agent registered for so many others."""
    keys = Keys(prefix).agents
    record, end = client.hget(keys["records"], str(ONE)), client.zscore(keys["ends"], str(ONE))
    names = [f"crowd:{number:05}" for number in range(count)]
    client.hset(keys["records"], mapping=dict.fromkeys(names, record))
    client.zadd(keys["ends"], dict.fromkeys(names, end))


def test_ten_thousand_agents_are_listed_in_two_round_trips(
    make: Make, backend: Backend, proxy: FaultProxy, key_prefix: str
) -> None:
    registry = make(backend.client_through(proxy))
    registry.register(Plain(ONE))
    copies(backend.client(), key_prefix, 10_000)
    proxy.forget()

    start = time.monotonic()
    listed = registry.list_registered()
    taken = time.monotonic() - start

    assert len(listed) == 10_001
    assert listed[-2].agent_id == AgentId("crowd", "09999")
    assert taken < LISTING_TIME
    # One round trip reads the ids, one all records: the commands of each are sent together.
    assert [command.name for command in proxy.commands] == ["TIME", "ZRANGE"] + ["HMGET"] * 11
    assert proxy.connections == 1


def test_discovering_and_looking_costs_no_more(
    make: Make, backend: Backend, proxy: FaultProxy, key_prefix: str
) -> None:
    registry = make(backend.client_through(proxy))
    registry.register(Plain(ONE))
    copies(backend.client(), key_prefix, 900)
    for call in (registry.discover, registry.pick, registry.snapshot, registry.detect_and_recover):
        proxy.forget()
        call()
        assert [command.name for command in proxy.commands] == ["TIME", "ZRANGE", "HMGET"]
    proxy.forget()
    registry.get(ONE)
    assert [command.name for command in proxy.commands] == ["TIME", "HGET", "ZSCORE"]


def test_a_thousand_agents_beat_in_one_round_trip(
    make: Make, backend: Backend, proxy: FaultProxy
) -> None:
    # given a thousand local agents with states
    registry = make(backend.client_through(proxy))
    pulse = registry._pulses.get()
    for number in range(1000):
        agent = Stateful(AgentId("crowd", str(number)), {"n": number})
        pulse.agents.add(LocalAgent(agent, ttl=30.0, epoch=1))

    # when they beat
    pulse._beat_for_all()
    first = len(proxy.commands)
    proxy.forget()
    pulse._beat_for_all()

    # then ten scripts are sent together, and once more when the server did not know the script
    assert first <= 20 + 1
    assert [command.name for command in proxy.commands] == ["EVALSHA"] * 10
    assert len(make(backend.client()).list_registered()) == 1000


def test_a_registration_is_two_round_trips(make: Make, backend: Backend, proxy: FaultProxy) -> None:
    registry = make(backend.client_through(proxy))
    registry.register(Plain(ONE))
    proxy.forget()
    registry.register(Plain(AgentId("another")))
    assert [command.name for command in proxy.commands] == ["TIME", "HGET", "ZSCORE", "EVALSHA"]
