"""Changes of the registry are seen as they happen."""

import threading
from itertools import islice

import pytest

from tests.registry.conftest import Later, Make
from tests.registry.given import ONE, PATIENCE, THREE, TWO, Moody, Plain
from tests.support.backends import Backend
from tests.support.waiting import eventually
from tta_agent_coordination import (
    ConfigurationError,
    CoordinatorUnavailableError,
    Liveness,
    RegistryEventType,
)
from tta_agent_coordination.proxy import FaultProxy

pytestmark = pytest.mark.guarantee("3.1")


def test_each_change_is_an_event(make: Make, later: Later) -> None:
    # given somebody who watches often
    observer = make(heartbeat_ttl_s=10, heartbeat_interval_s=0.01)
    first, second, agent = make(heartbeat_ttl_s=10), make(heartbeat_ttl_s=10), Moody(ONE)
    first.register(agent)
    events = observer.watch(timeout=PATIENCE)

    def seen() -> tuple[str, str]:
        event = next(events)
        assert event.record.agent_id == event.agent_id
        return event.type.value, str(event.agent_id)

    assert seen() == ("registered", "worker:1")
    agent.status = "busy"
    first.heartbeat(ONE)
    assert seen() == ("status_changed", "worker:1")
    second.register(Plain(ONE))
    assert seen() == ("superseded", "worker:1")
    assert seen() == ("status_changed", "worker:1")
    second.register(Plain(TWO))
    assert seen() == ("registered", "worker:2")
    later(15, ONE)
    assert seen() == ("suspect", "worker:1")
    later(10, ONE)
    assert seen() == ("dead", "worker:1")
    second.deregister(TWO)
    assert seen() == ("deregistered", "worker:2")
    later(100, ONE)
    assert seen() == ("deregistered", "worker:1")
    events.close()


def test_what_began_and_ended_between_two_looks_is_seen(make: Make) -> None:
    # given one who looks, one that is there, and one that was ended before
    observer, first, second = make(), make(), make()
    first.register(Plain(ONE))
    first.register(Plain(THREE))
    first.deregister(THREE)
    watch = observer.internals.watching(timeout=PATIENCE)

    def seen() -> list[tuple[str, str]]:
        return [(event.type.value, str(event.agent_id)) for event in watch.look()]

    assert seen() == [("registered", "worker:1")]

    # when others come and go before the next look: new, in place of another, and again
    first.register(Plain(TWO))
    first.deregister(TWO)
    second.register(Plain(ONE))
    second.deregister(ONE)
    first.register(Plain(THREE))
    first.deregister(THREE)

    # then nothing is missing, and nothing is told twice
    assert seen() == [
        ("superseded", "worker:1"), ("deregistered", "worker:1"),
        ("registered", "worker:2"), ("deregistered", "worker:2"),
        ("registered", "worker:3"), ("deregistered", "worker:3"),
    ]  # fmt: skip
    assert seen() == []
    first.register(Plain(TWO))
    first.deregister(TWO)
    first.register(Plain(TWO))
    assert seen() == [("registered", "worker:2")]


def test_the_last_that_is_known_of_who_ended_is_when_it_ended(make: Make, later: Later) -> None:
    owner, observer = make(heartbeat_ttl_s=10), make()
    watch = observer.internals.watching(timeout=PATIENCE)
    assert watch.look() == []
    begun = owner.register(Plain(ONE))
    owner.deregister(ONE)
    registered, deregistered = watch.look()
    assert registered.record == deregistered.record
    assert registered.record.last_beat >= begun.last_beat
    assert registered.record.liveness is Liveness.ALIVE
    later(25)
    [ended] = observer._store.look().ended
    assert ended.liveness is Liveness.DEAD


def test_what_changes_before_anybody_iterates_is_seen(make: Make) -> None:
    # given one who begins to watch, and does something else first
    observer, owner = make(heartbeat_ttl_s=10, heartbeat_interval_s=0.01), make()
    owner.register(Plain(ONE))
    events = observer.watch(timeout=PATIENCE)

    # when one goes, and another comes and goes
    owner.deregister(ONE)
    owner.register(Plain(TWO))
    owner.deregister(TWO)

    # then nothing is missing
    assert [(event.type.value, str(event.agent_id)) for event in islice(events, 4)] == [
        ("registered", "worker:1"),
        ("deregistered", "worker:1"),
        ("registered", "worker:2"),
        ("deregistered", "worker:2"),
    ]


@pytest.mark.backend("fakeredis")
def test_it_ends_at_the_time_out(make: Make) -> None:
    registry = make()
    registry.register(Plain(ONE))
    assert [event.type for event in registry.watch(timeout=0)] == [RegistryEventType.REGISTERED]
    assert len(list(registry.watch(timeout=0.05))) == 1
    with pytest.raises(ValueError, match="timeout"):
        registry.watch(timeout=-1)


@pytest.mark.backend("fakeredis", "valkey")
def test_it_ends_when_the_registry_is_closed(make: Make) -> None:
    registry = make(heartbeat_ttl_s=0.03)
    registry.register(Plain(ONE))
    seen = threading.Event()

    def watch() -> None:
        for _ in registry.watch():
            seen.set()

    thread = threading.Thread(target=watch, name="watcher")
    thread.start()
    assert seen.wait(PATIENCE)
    registry.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    with pytest.raises(ConfigurationError):
        registry.watch()


@pytest.mark.backend("valkey")
def test_the_first_look_must_succeed_and_later_ones_may_fail(
    make: Make, backend: Backend, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    registry = make(
        backend.client_through(proxy),
        heartbeat_ttl_s=10,
        heartbeat_interval_s=0.01,
        call_timeout=0.5,
    )
    registry.register(Plain(ONE))
    events = registry.watch(timeout=PATIENCE)
    assert next(events).type is RegistryEventType.REGISTERED

    proxy.refuse()
    with pytest.raises(CoordinatorUnavailableError):
        registry.watch()
    later: list[object] = []
    thread = threading.Thread(target=lambda: later.append(next(events)), name="watcher")
    thread.start()
    eventually(lambda: "cannot be watched" in caplog.text)
    proxy.heal()
    make().register(Plain(TWO))
    thread.join(PATIENCE)
    [event] = later
    assert event.agent_id == TWO
    events.close()
    assert caplog.text.count("cannot be watched") == 1
