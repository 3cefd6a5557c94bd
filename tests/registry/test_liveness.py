"""An agent is alive, suspect or dead by its last beat and the server's clock."""

import time
from collections.abc import Callable

import pytest

from tests.registry.conftest import Later, Make
from tests.registry.given import ONE, PATIENCE, TTL, TWO, Plain, Stateful
from tests.support.backends import REAL_BACKENDS
from tests.support.servers import Client
from tests.support.waiting import eventually
from tta_agent_coordination import AgentId, Liveness
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.registry.store import liveness

pytestmark = pytest.mark.guarantee("3.1")


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (-3600.0, Liveness.ALIVE),
        (0.0, Liveness.ALIVE),
        (9.999, Liveness.ALIVE),
        (10.0, Liveness.SUSPECT),
        (19.999, Liveness.SUSPECT),
        (20.0, Liveness.DEAD),
    ],
)
def test_the_limits_are_the_ttl_and_twice_the_ttl(age: float, expected: Liveness) -> None:
    assert liveness(age, 10.0) is expected


def test_an_agent_that_does_not_beat_is_suspect_then_dead(make: Make, later: Later) -> None:
    registry = make(heartbeat_ttl_s=10)
    registry.register(Plain(ONE))
    seen: list[Liveness] = []
    for _ in range(5):
        found = make().get(ONE)
        assert found is not None
        seen.append(found.liveness)
        later(6)
    assert [state.value for state in seen] == ["alive", "alive", "suspect", "suspect", "dead"]


def test_a_beat_makes_it_alive_again(make: Make, later: Later) -> None:
    registry = make(heartbeat_ttl_s=10)
    registry.register(Plain(ONE))
    later(25)
    assert registry.heartbeat(ONE)
    assert [one.liveness for one in registry.list_registered()] == [Liveness.ALIVE]


def test_the_dead_are_listed_only_for_those_who_ask(make: Make, later: Later) -> None:
    registry = make(heartbeat_ttl_s=10)
    registry.register(Plain(ONE))
    registry.register(Plain(TWO))
    later(25, ONE)
    later(15, TWO)
    assert [one.agent_id for one in registry.list_registered()] == [TWO]
    assert [one.agent_id for one in registry.list_registered(include_dead=True)] == [ONE, TWO]
    assert registry.snapshot()["counts"] == {"alive": 0, "suspect": 1, "dead": 1}


def test_the_ttl_is_that_of_the_agent_and_not_of_the_reader(make: Make, later: Later) -> None:
    make(heartbeat_ttl_s=1000).register(Plain(ONE))
    make(heartbeat_ttl_s=1).register(Plain(TWO))
    later(500)
    found = make(heartbeat_ttl_s=5).list_registered(include_dead=True)
    assert [(one.agent_id, one.liveness) for one in found] == [(ONE, Liveness.ALIVE)]


def test_one_with_a_short_grace_does_not_forget_one_with_a_long(make: Make, later: Later) -> None:
    slow, quick = make(heartbeat_ttl_s=300), make(heartbeat_ttl_s=1)
    slow.register(Plain(ONE))
    quick.register(Plain(TWO))
    later(100)
    quick.register(Plain(TWO))
    quick.heartbeat(TWO)
    assert [one.agent_id for one in quick.list_registered()] == [ONE, TWO]


def test_the_grace_time_ends_records_and_states(make: Make, later: Later) -> None:
    registry = make(heartbeat_ttl_s=10, grace_s=50)
    registry.register(Stateful(ONE, {"n": 1}))
    later(40)
    assert make().get(ONE) is not None
    later(11)
    assert make().get(ONE) is None
    assert make().list_registered(include_dead=True) == []
    successor = Stateful(ONE)
    assert not make().restore_state_if_available(successor)
    make().register(successor)
    assert successor.given == []


@pytest.mark.parametrize("way", ["register", "beat", "deregister"])
def test_nothing_of_the_forgotten_is_stored_any_more(
    make: Make, later: Later, client: Client, key_prefix: str, way: str
) -> None:
    # given agents whose grace time is over, and one that is there
    dying, living = make(heartbeat_ttl_s=10), make()
    for number in range(50):
        dying.register(Stateful(AgentId("dead", str(number)), {"n": number}))
    living.register(Plain(ONE))
    for number in range(50):
        later(101, AgentId("dead", str(number)))

    # when that one does anything; no one lists
    {
        "register": lambda: living.register(Plain(TWO)),
        "beat": lambda: living.heartbeat(ONE),
        "deregister": lambda: living.deregister(ONE),
    }[way]()

    # then the others have left nothing
    keys = Keys(key_prefix).agents
    names = {*client.hkeys(keys["records"]), *client.zrange(keys["ends"], 0, -1)}
    assert not {name for name in names if name.startswith(b"dead")}
    assert client.hlen(keys["states"]) == 0


def test_the_keys_go_with_the_last_grace_time(
    make: Make, client: Client, key_prefix: str, keys_left: Callable[[], set[str]]
) -> None:
    make(heartbeat_ttl_s=1000).register(Stateful(TWO, {"n": 1}))
    make(heartbeat_ttl_s=10).register(Stateful(ONE, {"n": 1}))
    assert keys_left() == {f"{{@agents}}:{name}" for name in ("records", "states", "ends")}
    for key in Keys(key_prefix).agents.values():
        assert 9_990_000 < client.pttl(key) <= 10_010_000, "that of the longest"


@pytest.mark.parametrize("end", ["killed", "deregistered"])
def test_nothing_is_left_behind_in_real_time(
    make: Make, keys_left: Callable[[], set[str]], end: str
) -> None:
    registry = make(heartbeat_ttl_s=0.1, grace_s=0.3)
    registry.register(Stateful(ONE, {"n": 1}))
    if end == "deregistered":
        registry.deregister(ONE)
    registry.close()
    assert keys_left()
    eventually(lambda: not keys_left(), timeout=PATIENCE)


def test_all_states_are_passed_through_in_real_time(make: Make) -> None:
    registry = make(heartbeat_ttl_s=TTL / 2, grace_s=1.5 * TTL)
    registry.register(Plain(ONE))
    seen: list[Liveness | None] = []

    def look() -> bool:
        found = registry.get(ONE)
        state = None if found is None else found.liveness
        if not seen or seen[-1] is not state:
            seen.append(state)
        return state is None

    eventually(look, timeout=PATIENCE)
    assert seen == [Liveness.ALIVE, Liveness.SUSPECT, Liveness.DEAD, None]


@pytest.mark.backend(*REAL_BACKENDS)  # in memory there is no clock but that of the process
@pytest.mark.parametrize("error", [-3600.0, 3600.0], ids=["behind", "ahead"])
def test_a_wrong_clock_changes_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch, error: float
) -> None:
    # given a process whose clock is wrong by an hour, and one whose clock is right
    right = time.time
    registry = make(heartbeat_ttl_s=10)
    monkeypatch.setattr(time, "time", lambda: right() + error)
    given = registry.register(Plain(ONE))
    beaten = registry.heartbeat(ONE)
    wrong_view = registry.list_registered()
    monkeypatch.undo()
    right_view = make().list_registered()

    # then both see the same
    assert beaten
    assert wrong_view == right_view
    assert right_view[0].liveness is Liveness.ALIVE
    assert abs(given.registered_at.timestamp() - right()) < 60
    assert abs(right_view[0].last_beat.timestamp() - right()) < 60
