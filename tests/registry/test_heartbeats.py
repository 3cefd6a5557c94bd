"""One thread beats for all agents of a process, whatever happens."""

import os
import pickle
import sys
import threading
import time
from typing import Any, cast

import pytest

from tests.registry.conftest import Make
from tests.registry.given import ONE, PATIENCE, TTL, TWO, Hanging, Moody, Plain, Stateful
from tests.support.backends import Backend
from tests.support.waiting import eventually, holds_within
from tta_agent_coordination import AgentId, Liveness, RedisAgentRegistry, threads
from tta_agent_coordination.proxy import FaultProxy

pytestmark = pytest.mark.guarantee("3.4")


def beats_on(registry: RedisAgentRegistry, agent_id: AgentId, times: int = 3) -> None:
    """Fail unless an agent beats so many times from now."""
    for _ in range(times):
        before = registry.list_registered(agent_type=agent_id.type, include_dead=True)
        last = {one.agent_id: one.last_beat for one in before}[agent_id]
        eventually(
            lambda last=last: (found := registry.get(agent_id)) and found.last_beat > last,
            timeout=PATIENCE,
        )


def test_all_agents_of_a_process_stay_alive(make: Make) -> None:
    registry = make(heartbeat_ttl_s=TTL)
    registry.register(Plain(ONE))
    registry.start_heartbeats()
    registry.register(Plain(TWO))
    for agent_id in (ONE, TWO):
        beats_on(make(), agent_id, times=5)
    assert [one.agent_id for one in make().list_registered()] == [ONE, TWO]


@pytest.mark.backend("fakeredis")
def test_there_is_one_named_thread_however_many_agents(make: Make) -> None:
    registry = make()
    before = set(threading.enumerate())
    for number in range(50):
        registry.register(Plain(AgentId("crowd", str(number))))
    assert set(threading.enumerate()) == before
    registry.start_heartbeats()
    registry.start_heartbeats()
    eventually(
        lambda: [one.name for one in set(threading.enumerate()) - before] == ["tta-heartbeat"]
    )
    assert registry.snapshot()["heartbeat"]["running"]
    assert registry.stop_heartbeats()
    assert registry.stop_heartbeats(timeout=0)
    assert not registry.snapshot()["heartbeat"]["running"]
    assert set(threading.enumerate()) == before


@pytest.mark.backend("fakeredis", "valkey")
def test_it_can_be_stopped_and_started_again(make: Make) -> None:
    registry = make(heartbeat_ttl_s=TTL)
    registry.register(Plain(ONE))
    registry.start_heartbeats()
    registry.stop_heartbeats()
    last = registry.list_registered(include_dead=True)[0].last_beat
    eventually(lambda: registry.get(ONE).liveness is not Liveness.ALIVE, timeout=PATIENCE)
    assert registry.list_registered(include_dead=True)[0].last_beat == last
    registry.start_heartbeats()
    beats_on(registry, ONE)


@pytest.mark.backend("valkey")
def test_beats_have_connections_of_their_own(
    make: Make, backend: Backend, proxy: FaultProxy
) -> None:
    registry = make(backend.client_through(proxy), heartbeat_ttl_s=TTL)
    registry.register(Plain(ONE))
    before = proxy.connections
    registry.heartbeat(ONE)
    assert proxy.connections == before + 1


@pytest.mark.backend("valkey")
def test_beats_have_a_breaker_of_their_own(make: Make) -> None:
    registry = make(heartbeat_ttl_s=TTL)
    registry.register(Plain(ONE))
    for _ in range(10):
        registry._link.commands._breaker.failed(OSError("gone"), trial=False)
    assert registry._link.commands.state == "open"
    assert registry.heartbeat(ONE)


@pytest.mark.backend("valkey")
def test_a_connection_that_falls_silent_costs_no_agent_its_life(
    make: Make, backend: Backend, proxy: FaultProxy
) -> None:
    # given a ttl that is shorter than what a call may take
    registry = make(backend.client_through(proxy), heartbeat_ttl_s=2.0)
    registry.register(Plain(ONE))
    registry.start_heartbeats()
    observer = make()
    eventually(lambda: registry.snapshot()["heartbeat"]["last_success_age"] is not None)

    # when the connections swallow everything, and new ones work
    proxy.half_open()
    seen = set[Liveness]()
    beats = set[Any]()

    def two_more_beats() -> bool:
        found = observer.get(ONE)
        assert found is not None
        seen.add(found.liveness)
        beats.add(found.last_beat)
        return len(beats) == 3

    eventually(two_more_beats, timeout=PATIENCE)
    assert seen == {Liveness.ALIVE}


@pytest.mark.backend("fakeredis", "cluster")
def test_an_agent_whose_hook_hangs_holds_no_other_back(make: Make) -> None:
    # given three agents, the first two of which hang
    registry, observer = make(heartbeat_ttl_s=TTL), make()
    first, second, third = Hanging(ONE), Hanging(TWO), Stateful(AgentId("worker", "3"), {"n": 0})
    for agent in (first, second, third):
        registry.register(agent)
    registry.start_heartbeats()
    for agent in (first, second):
        agent.hang.set()
    for agent in (first, second):
        assert agent.hangs.wait(PATIENCE)

    # then all beat, and the third is heard
    third.state = {"n": 1}
    for agent_id in (ONE, TWO, third.agent_id):
        beats_on(observer, agent_id)

    def stored() -> bool:
        reader = Stateful(third.agent_id)
        observer.restore_state_if_available(reader)
        return reader.given == [{"n": 1}]

    eventually(stored, timeout=PATIENCE)
    hooks = [one for one in threading.enumerate() if one.name == "tta-heartbeat-hooks"]
    assert len(hooks) <= 3

    # and those that hang say so, until they do not
    eventually(lambda: observer.get(ONE).status == "unresponsive", timeout=PATIENCE)
    assert observer.get(third.agent_id).status == "running"
    first.state = {"n": 7}
    for agent in (first, second):
        agent.hang.clear()
        agent.go_on.set()
    eventually(lambda: observer.get(ONE).status == "running", timeout=PATIENCE)


@pytest.mark.backend("fakeredis")
def test_ending_an_agent_that_hangs_takes_a_moment_and_no_more(make: Make) -> None:
    registry, agent = make(), Hanging(ONE)
    registry.register(agent)
    agent.hang.set()
    start = time.monotonic()
    assert registry.deregister(ONE)
    assert time.monotonic() - start < PATIENCE / 2
    agent.go_on.set()


@pytest.mark.backend("fakeredis")
def test_a_hook_that_beats_for_its_own_agent_does_not_hang(make: Make) -> None:
    registry = make()
    answers: list[bool] = []

    class Eager(Plain):
        def export_state(self) -> None:
            if registry.snapshot()["local"]:
                answers.append(registry.heartbeat(ONE))

    registry.register(Eager(ONE))
    assert registry.heartbeat(ONE)
    assert answers == [True]


@pytest.mark.backend("fakeredis")
@pytest.mark.parametrize("hook", ["health_check", "get_capabilities", "export_state", "status"])
def test_a_hook_that_raises_stops_no_beat(
    make: Make, caplog: pytest.LogCaptureFixture, hook: str
) -> None:
    fails = threading.Event()

    def answer(self: object, *_: object) -> Any:
        del self
        if fails.is_set():
            raise RuntimeError("of the user's")
        return {} if hook == "export_state" else ()

    kind = type("Raising", (Plain,), {hook: property(answer) if hook == "status" else answer})
    registry = make(heartbeat_ttl_s=TTL)
    registry.register(kind(ONE))
    registry.register(Plain(TWO))
    registry.start_heartbeats()
    fails.set()
    beats_on(make(), ONE)
    beats_on(make(), TWO)
    assert caplog.text.count("could not be asked for") == 1


@pytest.mark.backend("fakeredis")
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("hook", ["health_check", "export_state", "name"])
def test_a_hook_that_wants_to_end_the_process_ends_nothing(
    make: Make, hook: str, error: type[BaseException]
) -> None:
    # given an agent whose hook raises what is no Exception, and one that is asked after it
    fails = threading.Event()

    class Ending(Moody):
        pass

    def answer(_: object) -> Any:
        if fails.is_set():
            raise error
        return "ending" if hook == "name" else {}

    agent, other, registry = Ending(ONE), Moody(TWO), make(heartbeat_ttl_s=TTL)
    setattr(Ending, hook, property(answer) if hook == "name" else answer)
    registry.register(agent)
    registry.register(other)
    registry.start_heartbeats()
    beats_on(make(), TWO)

    # when it does, the other is still heard, and so is the first
    fails.set()
    other.healthy = False
    eventually(lambda: make().get(TWO).status == "unhealthy", timeout=PATIENCE)
    bad = (ONE, TWO) if hook == "health_check" else (TWO,)
    assert registry.detect_and_recover().unhealthy == bad
    beats_on(make(), ONE)

    # and in the main thread it is Ctrl-C, or the end of the process
    with pytest.raises(error):
        registry.heartbeat(ONE)


@pytest.mark.backend("fakeredis")
def test_an_observer_that_wants_to_end_the_process_does_not_end_the_beats(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = make(heartbeat_ttl_s=TTL)
    registry.register(Plain(ONE))
    heart = registry._pulses.get().heart
    with monkeypatch.context() as patched:
        patched.setattr(heart, "_beat", lambda: sys.exit(1))
        registry.start_heartbeats()
        eventually(lambda: heart.last_error == "SystemExit: 1")
    beats_on(registry, ONE)


def test_the_status_follows_the_health_check_and_the_agent(make: Make) -> None:
    registry, agent = make(), Moody(ONE)
    statuses: list[str] = []
    registry.register(agent)
    for healthy, status in ((True, "busy"), (False, "busy"), (True, "idle")):
        agent.healthy, agent.status = healthy, status
        registry.heartbeat(ONE)
        statuses += [one.status for one in make().list_registered()]
    assert statuses == ["busy", "unhealthy", "idle"]


@pytest.mark.backend("fakeredis")
def test_any_beat_counts_for_the_age_of_the_last(make: Make) -> None:
    registry = make()
    registry.register(Plain(ONE))
    assert registry.snapshot()["heartbeat"]["last_success_age"] is None
    registry.heartbeat(ONE)
    assert 0 <= registry.snapshot()["heartbeat"]["last_success_age"] < PATIENCE


@pytest.mark.backend("fakeredis")
def test_without_agents_there_is_nothing_to_beat_for(make: Make) -> None:
    registry = make(heartbeat_ttl_s=0.03)
    registry.start_heartbeats()
    assert not holds_within(0.1, lambda: registry._pulses.get().heart.age is not None)
    assert registry.snapshot()["heartbeat"]["running"]


@pytest.mark.backend("valkey")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
# Python 3.12 and newer; that it is dangerous is why this test is here.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_begins_without_the_agents_of_its_parent(make: Make) -> None:
    # given a parent that beats, with its locks held
    registry = make(heartbeat_ttl_s=TTL)
    registry.register(Plain(ONE))
    registry.start_heartbeats()
    beats_on(registry, ONE, times=1)
    pulse = registry._pulses.get()
    reading, writing = os.pipe()
    with pulse.agents._lock, pulse.heart._lock:
        pid = os.fork()
        if pid == 0:
            os.write(writing, pickle.dumps(in_child(registry)))
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        found = pickle.loads(pipe.read())
    os.waitpid(pid, 0)

    # then the child had its own agents and its own thread, and the parent goes on
    assert found == {
        "local": [],
        "running": False,
        "beat of the parent's agent": False,
        "seen": ["worker:1"],
        "own beat": True,
        "beats": True,
    }
    beats_on(registry, ONE)
    assert registry.get(TWO) is not None


def in_child(registry: RedisAgentRegistry) -> dict[str, Any]:
    """Use a registry in a forked process; return what was seen."""
    try:
        seen: dict[str, Any] = {
            "local": registry.snapshot()["local"],
            "running": registry.snapshot()["heartbeat"]["running"],
            "beat of the parent's agent": registry.heartbeat(ONE),
            "seen": [str(one.agent_id) for one in registry.list_registered()],
        }
        registry.register(Plain(TWO))
        seen["own beat"] = registry.heartbeat(TWO)
        registry.start_heartbeats()
        beats_on(registry, TWO)
        seen["beats"] = True
        registry.close()
    except BaseException as error:  # noqa: BLE001 - the parent shall see it
        return {"error": repr(error)}
    return seen


@pytest.mark.guarantee("3.4")
@pytest.mark.backend("fakeredis")
def test_a_name_that_is_none_stops_no_beat(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    registry, agent = make(), Plain(ONE, "before")
    registry.register(agent)
    registry.register(Plain(TWO))
    agent.name = cast("str", object())
    assert registry.heartbeat(ONE)
    assert registry.heartbeat(TWO)
    found = make().get(ONE)
    assert found is not None
    assert found.name == "before"
    assert "the name of agent worker:1 could not be asked for" in caplog.text


@pytest.mark.guarantee("3.4")
@pytest.mark.backend("fakeredis")
def test_beats_go_on_where_no_thread_can_be_started(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # given a process that has as many threads as it may have, with the one for heartbeats
    registry = make(heartbeat_ttl_s=TTL)
    registry.register(Stateful(ONE, {"n": 1}))
    registry.start_heartbeats()
    spawn = threads.spawn

    def refuse(name: str, *arguments: Any) -> threading.Thread:
        if name == "heartbeat-hooks":
            raise RuntimeError("can't start new thread")
        return spawn(name, *arguments)

    monkeypatch.setattr(threads, "spawn", refuse)

    # then its agents stay alive, and can end
    eventually(lambda: "agents cannot be asked" in caplog.text, timeout=PATIENCE)
    beats_on(registry, ONE)
    assert caplog.text.count("agents cannot be asked") == 1

    # and those that somebody else takes over are told
    told: list[AgentId] = []
    registry.on_superseded(told.append)
    registry.register(Plain(TWO))
    make().register(Plain(TWO))
    eventually(lambda: told, timeout=PATIENCE)
    assert registry.deregister(ONE)
    assert make().get(ONE) is None
