"""The later registration of an id holds; the earlier one is told, and stops."""

import contextlib
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest

from tests.registry.conftest import Make
from tests.registry.given import ONE, PATIENCE, TTL, TWO, Plain, Stateful
from tests.registry.processes import AgentProcess
from tests.support.backends import Backend
from tests.support.servers import Client
from tests.support.waiting import eventually
from tta_agent_coordination import (
    Agent,
    AgentId,
    AgentRecord,
    AgentWorker,
    CoordinatorUnavailableError,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.proxy import Command, FaultProxy
from tta_agent_coordination.registry.store import Beat

pytestmark = pytest.mark.guarantee("3.3")


def test_the_second_registration_takes_over(make: Make) -> None:
    first, second = make(), make()
    told: list[AgentId] = []
    first.on_superseded(told.append)
    old = first.register(Plain(ONE, "old"))
    new = second.register(Plain(ONE, "new"))

    assert new.epoch > old.epoch
    assert first.heartbeat(ONE) is False
    assert told == [ONE]
    assert second.heartbeat(ONE) is True
    found = make().get(ONE)
    assert found is not None
    assert (found.name, found.epoch) == ("new", new.epoch)


def test_the_one_taken_over_is_told_once_and_beats_no_more(make: Make) -> None:
    first, second = make(), make()
    told: list[AgentId] = []
    first.on_superseded(told.append)
    first.on_superseded(told.append)
    first.register(Plain(ONE))
    second.register(Plain(ONE))
    assert [first.heartbeat(ONE) for _ in range(3)] == [False] * 3
    assert told == [ONE]
    assert first.snapshot()["local"] == []
    assert first.snapshot()["superseded"] == [str(ONE)]
    first.register(Plain(ONE))
    assert first.snapshot()["superseded"] == []


@pytest.mark.backend("fakeredis", "valkey")
def test_the_heartbeat_thread_tells_it_too(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    first, second = make(heartbeat_ttl_s=TTL), make()
    told = threading.Event()

    def raising(_agent_id: AgentId) -> None:
        raise RuntimeError("of the user's")

    first.on_superseded(raising)
    first.on_superseded(lambda _agent_id: told.set())
    first.register(Plain(ONE))
    first.register(Plain(AgentId("stays")))
    first.start_heartbeats()
    second.register(Plain(ONE))

    assert told.wait(PATIENCE)
    eventually(lambda: first.snapshot()["local"] == ["stays"])
    assert "taken over by another registry of this process" in caplog.text
    assert "of the user's" in caplog.text


@pytest.mark.backend("fakeredis")
def test_a_callback_that_wants_to_end_the_process_keeps_it_from_nobody(make: Make) -> None:
    first, second = make(heartbeat_ttl_s=TTL), make()
    told: list[AgentId] = []
    first.on_superseded(lambda _agent_id: sys.exit(1))
    first.on_superseded(told.append)
    for agent_id in (ONE, TWO):
        first.register(Plain(agent_id))
        second.register(Plain(agent_id))
    first.start_heartbeats()
    eventually(lambda: told == [ONE, TWO], timeout=PATIENCE)

    # but not in the main thread
    first.stop_heartbeats()
    first.register(Plain(ONE))
    second.register(Plain(ONE))
    with pytest.raises(SystemExit):
        first.heartbeat(ONE)


@pytest.mark.backend("fakeredis")
def test_a_callback_that_hangs_holds_no_beat_back(make: Make) -> None:
    first, second = make(heartbeat_ttl_s=TTL), make()
    called, go_on = threading.Event(), threading.Event()

    def hang(_agent_id: AgentId) -> None:
        called.set()
        go_on.wait(PATIENCE)

    first.on_superseded(hang)
    first.register(Plain(ONE))
    before = first.register(Plain(AgentId("stays"))).last_beat
    first.start_heartbeats()
    second.register(Plain(ONE))
    assert called.wait(PATIENCE)
    after = before

    def beats() -> bool:
        found = second.get(AgentId("stays"))
        return found is not None and found.last_beat > after

    for _ in range(3):
        eventually(beats, timeout=PATIENCE)
        after = second.list_registered(agent_type="stays", include_dead=True)[0].last_beat
    go_on.set()


def test_the_one_taken_over_does_not_end_the_other(make: Make) -> None:
    first, second = make(), make()
    first.register(Plain(ONE))
    second.register(Plain(ONE))
    assert first.deregister(ONE) is False
    assert not first.heartbeat(ONE)
    assert first.deregister(ONE) is False, "nor after it was told"
    assert make().get(ONE) is not None
    assert second.heartbeat(ONE)


def test_the_state_of_the_one_taken_over_is_not_stored_any_more(make: Make) -> None:
    first, second = make(), make()
    old, new = Stateful(ONE, {"n": 1}), Stateful(ONE)
    first.register(old)
    second.register(new)
    new.state = {"n": 2}
    second.heartbeat(ONE)

    old.state = {"n": 99}
    first.heartbeat(ONE)
    first.deregister(ONE)

    successor = Stateful(ONE)
    make().register(successor)
    assert successor.given == [{"n": 2}]


def test_an_agent_ended_by_another_process_is_told(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    owner, admin = make(), make()
    told: list[AgentId] = []
    owner.on_superseded(told.append)
    owner.register(Plain(ONE))

    assert admin.deregister(ONE) is True
    assert admin.deregister(ONE) is False

    assert owner.heartbeat(ONE) is False
    assert told == [ONE]
    assert "was ended by another process" in caplog.text
    assert make().get(ONE) is None
    owner.register(Plain(ONE))
    assert owner.heartbeat(ONE), "it can come back"


def test_registering_again_in_the_same_process_is_no_news(make: Make) -> None:
    registry = make(heartbeat_ttl_s=TTL)
    told: list[AgentId] = []
    registry.on_superseded(told.append)
    registry.register(Plain(ONE))
    registry.heartbeat(ONE)
    registry.start_heartbeats()
    epochs = [registry.register(Plain(ONE)).epoch for _ in range(50)]
    assert epochs == sorted(set(epochs))
    assert registry.heartbeat(ONE)
    assert told == []


@pytest.mark.backend("fakeredis")
def test_a_beat_in_the_middle_of_registering_again_is_no_news(make: Make) -> None:
    registry = make()
    told: list[AgentId] = []
    registry.on_superseded(told.append)
    registry.register(Plain(ONE))
    pulse = registry._pulses.get()
    old = pulse.agents.all()
    register = pulse._store.register

    def with_a_beat(first: Beat) -> AgentRecord:
        record = register(first)
        pulse._tell(pulse._beat(old))
        return record

    pulse._store.register = with_a_beat
    registry.register(Plain(ONE))
    assert told == []
    assert registry.heartbeat(ONE)


def test_of_registrations_at_the_same_time_the_latest_is_kept(make: Make) -> None:
    registry = make()
    told: list[AgentId] = []
    registry.on_superseded(told.append)
    registry.register(Plain(ONE))
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(10):
            registry.register(Plain(ONE))

    threads = [threading.Thread(target=work, name=f"register-{i}") for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert registry.heartbeat(ONE)
    assert told == []


def test_epochs_grow_even_if_the_server_forgot_all(
    make: Make, client: Client, key_prefix: str
) -> None:
    first = make().register(Plain(ONE))
    client.delete(*Keys(key_prefix).agents.values())
    assert make().register(Plain(ONE)).epoch > first.epoch


def test_epochs_grow_even_if_the_clock_of_the_server_was_set_back(
    make: Make, client: Client, key_prefix: str
) -> None:
    keys = Keys(key_prefix).agents
    first = make().register(Plain(ONE))
    _, rest = client.hget(keys["records"], str(ONE)).split(b" ", 1)
    ahead = first.epoch + 3_600_000_000
    client.hset(keys["records"], str(ONE), b"%d %s" % (ahead, rest))
    assert make().register(Plain(ONE)).epoch == ahead + 1


def test_after_a_loss_the_later_registration_still_wins(
    make: Make, client: Client, key_prefix: str
) -> None:
    # given two processes of one id, the first of which was not told yet
    first, second = make(), make()
    first.register(Plain(ONE, "old"))
    second.register(Plain(ONE, "new"))
    client.delete(*Keys(key_prefix).agents.values())

    # when the first is the first to beat
    assert first.heartbeat(ONE)
    assert second.heartbeat(ONE)

    # then it is told at its next beat
    assert not first.heartbeat(ONE)
    assert [one.name for one in make().list_registered()] == ["new"]


@pytest.mark.backend("valkey")
@pytest.mark.parametrize("clock", [-3600.0, 3600.0])
def test_a_second_process_takes_over(
    make: Make, backend: Backend, key_prefix: str, clock: float, caplog: pytest.LogCaptureFixture
) -> None:
    registry = make(heartbeat_ttl_s=TTL)
    told = threading.Event()
    registry.on_superseded(lambda _agent_id: told.set())
    mine = registry.register(Stateful(ONE, {"n": 1}))
    registry.start_heartbeats()

    with AgentProcess(backend.url, key_prefix, ONE, ttl=TTL, clock=clock) as other:
        assert other.epoch > mine.epoch
        assert other.given == [{"n": 1}]
        assert told.wait(PATIENCE)
        found = registry.get(ONE)
        assert found is not None
        assert found.process != mine.process
        assert f"taken over by {found.process}" in caplog.text

        # and back again
        assert registry.register(Plain(ONE)).epoch > other.epoch
        assert other.line() == "superseded worker:1"
        other.end("deregister")  # as a worker does that stops
    assert registry.heartbeat(ONE)


@pytest.mark.backend("valkey")
def test_who_cannot_ask_by_whom_it_was_taken_over_is_told_all_the_same(
    make: Make, backend: Backend, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = make(backend.client_through(proxy), call_timeout=0.3), make()
    told: list[AgentId] = []
    first.on_superseded(told.append)
    first.register(Plain(ONE))
    second.register(Plain(ONE))
    asked = count(1)

    def asks_by_whom(command: Command) -> bool:  # before that it asks whether it was itself
        return command.name == "HGET" and next(asked) > 1

    proxy.drop_reply_of(asks_by_whom, times=10**6)
    assert first.heartbeat(ONE) is False
    assert told == [ONE]
    assert "taken over or ended by another process" in caplog.text


@pytest.mark.backend("valkey")
def test_who_cannot_ask_whether_it_was_itself_asks_again(
    make: Make, backend: Backend, proxy: FaultProxy
) -> None:
    first, second = make(backend.client_through(proxy), call_timeout=0.3), make()
    told: list[AgentId] = []
    first.on_superseded(told.append)
    first.register(Plain(ONE))
    second.register(Plain(ONE))
    proxy.drop_reply_of("HGET", times=10**6)
    with pytest.raises(CoordinatorUnavailableError):
        first.heartbeat(ONE)
    assert told == []
    proxy.heal()
    eventually(lambda: beats_in_vain(first), timeout=PATIENCE)
    assert told == [ONE]


def beats_in_vain(registry: RedisAgentRegistry) -> bool:
    """Whether a beat is refused, once there is an answer."""
    with contextlib.suppress(CoordinatorUnavailableError):
        return not registry.heartbeat(ONE)
    return False


# Its own registrations ----------------------------------------------------------------------------


@pytest.mark.guarantee("3.3", "2.9")
@pytest.mark.backend("valkey")
@pytest.mark.parametrize("again", ["the same", "another"])
def test_a_registration_without_an_answer_does_not_take_over_from_oneself(
    make: Make, backend: Backend, proxy: FaultProxy, again: str
) -> None:
    # given an agent that is registered, and registered again by a call whose answers get lost
    registry = make(backend.client_through(proxy), call_timeout=0.3)
    told: list[AgentId] = []
    registry.on_superseded(told.append)
    agent = Stateful(ONE, {"n": 1})
    before = registry.register(agent)
    proxy.drop_reply_of("EVALSHA", times=10**6)
    with pytest.raises(CoordinatorUnavailableError):
        registry.register(agent if again == "the same" else Plain(ONE))
    proxy.heal()
    late = make().get(ONE)
    assert late is not None
    assert late.epoch > before.epoch, "the server carried it out"

    # then it goes on to beat, and can end it
    eventually(lambda: is_answered(lambda: registry.heartbeat(ONE)), timeout=PATIENCE)
    agent.state = {"n": 2}
    assert registry.heartbeat(ONE)
    now = make().get(ONE)
    assert now is not None
    assert now.last_beat > late.last_beat
    eventually(lambda: is_answered(lambda: registry.deregister(ONE)), timeout=PATIENCE)
    assert make().get(ONE) is None
    assert (told, registry.snapshot()["superseded"]) == ([], [])


@pytest.mark.guarantee("3.3", "2.9")
@pytest.mark.backend("valkey")
def test_a_registration_without_an_answer_can_be_ended(
    make: Make, backend: Backend, proxy: FaultProxy
) -> None:
    registry = make(backend.client_through(proxy), call_timeout=0.3)
    agent = Plain(ONE)
    registry.register(agent)
    proxy.drop_reply_of("EVALSHA", times=10**6)
    with pytest.raises(CoordinatorUnavailableError):
        registry.register(agent)
    proxy.heal()
    eventually(lambda: is_answered(lambda: registry.deregister(ONE)), timeout=PATIENCE)
    assert make().get(ONE) is None


class Reborn(Stateful):
    """When it is asked for its last state, somebody registers another one of its id."""

    def __init__(self, registry: RedisAgentRegistry) -> None:
        super().__init__(ONE, {"n": 1})
        self._registry = registry
        self.ends = False

    def export_state(self) -> dict[str, Any] | None:
        if self.ends:
            self.ends = False
            self._registry.register(Plain(ONE, "new"))
        return self.state


@pytest.mark.backend("fakeredis", "valkey")
def test_the_end_of_one_does_not_end_another_that_was_registered_here_meanwhile(make: Make) -> None:
    registry = make()
    agent = Reborn(registry)
    registry.register(agent)
    agent.ends = True
    assert registry.deregister(ONE) is False
    found = make().get(ONE)
    assert found is not None
    assert found.name == "new"
    assert registry.heartbeat(ONE)


@pytest.mark.backend("fakeredis")
def test_a_callback_that_was_removed_is_called_no_more(make: Make) -> None:
    first, second = make(), make()
    told: list[AgentId] = []
    first.on_superseded(told.append)
    first.remove_on_superseded(told.append)
    first.register(Plain(ONE))
    second.register(Plain(ONE))
    assert not first.heartbeat(ONE)
    assert told == []


def is_answered(call: Callable[[], object]) -> bool:
    """Whether Redis is there for a call, and it returned something."""
    with contextlib.suppress(CoordinatorUnavailableError):
        return bool(call())
    return False


@pytest.mark.backend("fakeredis")
def test_a_callback_that_hangs_keeps_no_worker_serving(
    make: Make, client: Client, key_prefix: str, closing: ExitStack
) -> None:
    # given two agents that a worker serves, and a callback of the user's that hangs
    registry, go_on = make(heartbeat_ttl_s=TTL), threading.Event()
    closing.callback(go_on.set)
    registry.on_superseded(lambda _agent_id: go_on.wait(PATIENCE))
    coordinator = closing.enter_context(RedisMessageCoordinator(client, key_prefix))
    worker = AgentWorker([Idle(ONE), Idle(TWO)], coordinator, registry)
    closing.enter_context(worker)

    # when both are taken over
    other = make()
    for agent_id in (ONE, TWO):
        other.register(Plain(agent_id))

    # then the worker knows of both, and so does whoever looks
    eventually(lambda: set(worker.health().superseded) == {ONE, TWO}, timeout=PATIENCE)
    assert registry.snapshot()["superseded"] == [str(ONE), str(TWO)]
    go_on.set()


class Idle(Agent):
    """Is served, and sent nothing."""

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        return payload
