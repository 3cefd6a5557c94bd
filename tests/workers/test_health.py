"""4.6: a worker says how it is, lives through outages, and is quiet when idle."""

import logging
import threading
import time
from functools import partial
from typing import Any

import pytest

from tests.conftest import OwnServers
from tests.support.backends import Backend
from tests.support.marks import ALL, ONE_BACKEND, REAL
from tests.support.waiting import SLACK, eventually, holds_within
from tests.workers.conftest import Coordinators
from tests.workers.given import (
    ASKER,
    LONG,
    OWN,
    SHARED,
    Gate,
    Payload,
    Scripted,
    Serve,
    event,
    in_thread,
    is_empty,
    send,
)
from tta_agent_coordination import (
    AgentId,
    AgentLoad,
    AgentRecord,
    AgentWorker,
    ConfigurationError,
    CoordinatorUnavailableError,
    Liveness,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)
from tta_agent_coordination.registry.local import LocalAgent
from tta_agent_coordination.worker.crew import Crew
from tta_agent_coordination.worker.depths import Depths
from tta_agent_coordination.worker.farewell import Farewell

Coordinator = RedisMessageCoordinator


@pytest.mark.guarantee("4.6")
@ALL
def test_health_tells_how_it_is(coordinator: Coordinator, serve: Serve) -> None:
    gate = Gate()

    def act(payload: Payload) -> Payload:
        gate(payload)
        raise OSError("disk full")

    worker = AgentWorker(Scripted(act), coordinator, threads=3)
    health = worker.health()
    assert (health.running, health.last_poll_age, health.threads) == (False, None, 3)

    worker = serve(Scripted(act), coordinator, threads=3)
    coordinator.send_many(ASKER, [event(number) for number in range(2)])
    gate.wait_for(2)
    health = worker.health()
    assert (health.running, health.busy_threads, health.last_error) == (True, 2, None)
    assert health.last_poll_age is not None
    assert health.last_poll_age < 10.0
    assert health.breakers == {"commands": "closed", "leases": "closed"}

    gate.open.set()
    eventually(lambda: worker.health().last_error == "OSError: disk full")
    worker.stop()
    assert worker.health().last_error == "OSError: disk full"


@pytest.mark.guarantee("4.6")
def test_a_worker_lives_through_an_outage(
    own_server: OwnServers, coordinators: Coordinators, serve: Serve,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    server = own_server()
    coordinator = coordinators(server.client(), call_timeout=0.5)
    agent = Scripted()
    worker = serve(agent, coordinator)
    send(coordinator, event(1))
    eventually(lambda: agent.got)

    # given that Redis is away for a while
    with caplog.at_level(logging.INFO):
        server.kill()
        eventually(lambda: "Unavailable" in str(worker.health().last_error))
        eventually(lambda: worker.health().breakers["commands"] == "open")
        age = worker.health().last_poll_age
        assert age is not None
        eventually(lambda: worker.health().last_poll_age > age + 0.5)

        # then it goes on by itself, and the log has one line for each change
        server.start()
        eventually(lambda: "Redis answers again" in caplog.text, timeout=10.0)
    assert "CoordinatorUnavailableError: " in caplog.text
    assert " It goes on trying." in caplog.text
    other = coordinators(server.client())
    send(other, event(2))
    eventually(lambda: len(agent.got) == 2)
    ours = [record.getMessage() for record in caplog.records if "worker greeter" in record.message]
    assert len(ours) <= 4, ours


@pytest.mark.guarantee("4.6")
def test_a_worker_stops_while_redis_is_away(
    own_server: OwnServers, coordinators: Coordinators, serve: Serve
) -> None:
    server = own_server()
    coordinator = coordinators(server.client(), call_timeout=0.3)
    worker = serve(Scripted(), coordinator)
    eventually(lambda: worker.health().last_poll_age is not None)
    server.kill()
    begun = time.monotonic()
    assert worker.stop() is True
    assert time.monotonic() - begun < 5.0


@pytest.mark.guarantee("4.6")
def test_a_handler_that_ends_while_redis_is_away_does_not_end_its_thread(
    own_server: OwnServers, coordinators: Coordinators, serve: Serve,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    # given handlers that fail, and ones that answer, while Redis is away
    server = own_server()
    coordinator = coordinators(server.client(), call_timeout=0.3)
    gate = Gate()

    def act(payload: Payload) -> Payload:
        gate(payload)
        raise OSError("disk full")

    agent = Scripted(act)
    worker = serve(agent, coordinator, threads=2)
    coordinator.send_many(ASKER, [event(number) for number in range(2)])
    gate.wait_for(2)
    server.kill()
    gate.open.set()
    eventually(lambda: worker.health().busy_threads == 0)

    # then they go on when it is back
    server.start()
    other = coordinators(server.client())
    send(other, event(7))
    eventually(lambda: len(agent.got) >= 3, timeout=10.0)
    assert "Unavailable" in caplog.text


@pytest.mark.guarantee("4.6")
@ONE_BACKEND
def test_a_worker_whose_coordinator_was_closed_can_be_stopped(
    coordinator: Coordinator, serve: Serve
) -> None:
    worker = serve(Scripted(), coordinator)
    coordinator.close()
    eventually(lambda: "closed" in str(worker.health().last_error))
    assert worker.stop() is True


@pytest.mark.guarantee("4.6")
def test_an_idle_worker_is_quiet(
    own_server: OwnServers, coordinators: Coordinators, serve: Serve
) -> None:
    # given a worker on two inboxes that has nothing to do
    server = own_server()
    coordinator = coordinators(server.client())
    worker = serve(Scripted(), coordinator, threads=8, visibility_timeout=0.6)
    eventually(lambda: all(one._parked for one in worker._crew._fetchers.values()))
    eventually(lambda: "cmdstat_evalsha" in server.admin.info("commandstats"))
    server.admin.config_resetstat()

    # then the server hears from it when its wait is over, and not before
    assert not holds_within(4.0, lambda: _calls(server))
    wait = 12.0
    commands_a_wait = 3  # one to wait for both inboxes, one to look into each
    assert commands_a_wait * 60 / wait <= 15


def _calls(server) -> int:
    own = {"cmdstat_info", "cmdstat_config|resetstat", "cmdstat_config"}
    stats = server.admin.info("commandstats")
    return sum(found["calls"] for name, found in stats.items() if name not in own)


@pytest.mark.guarantee("4.1")
@REAL
def test_who_was_superseded_reads_its_own_inbox_no_more(
    backend, key_prefix: str, coordinators: Coordinators, serve: Serve
) -> None:
    # given two processes with one agent id
    coordinator = coordinators(backend.client(), key_prefix)
    ttl = {"heartbeat_ttl_s": 1.0, "heartbeat_interval_s": 0.1}
    with (
        RedisAgentRegistry(backend.client(), key_prefix, **ttl) as registry,
        RedisAgentRegistry(backend.client(), key_prefix, **ttl) as other_registry,
    ):
        first, second = Scripted(), Scripted()
        worker = serve(first, coordinator, registry=registry)
        other = serve(second, coordinators(backend.client(), key_prefix), registry=other_registry)
        eventually(lambda: OWN not in _served(worker), what="it still reads its own inbox")
        assert worker.health().superseded == (OWN,)
        assert other.health().superseded == ()

        # then the second gets what is sent to it, at once, and both share the inbox of the type
        for number in range(5):
            begun = time.monotonic()
            send(coordinator, event(number))
            eventually(lambda number=number: len(second.got) == number + 1)
            assert time.monotonic() - begun < SLACK, "it waited for a lease"
        assert first.got == []
        assert SHARED in _served(worker)

        # and the end of the first does not end the registration of the second
        assert worker.stop()
        assert registry.get(OWN) is not None
        assert other.stop()
        assert registry.get(OWN) is None

        # and who is started again has lost nothing yet
        with worker:
            assert worker.health().superseded == ()


def _served(worker: AgentWorker) -> list[AgentId]:
    return [one for fetcher in worker._crew._fetchers.values() for one in fetcher.feed.agent_ids]


@pytest.mark.guarantee("4.1")
@ONE_BACKEND
def test_two_workers_with_one_registry_cannot_serve_one_agent(
    backend: Backend, key_prefix: str, coordinator: Coordinator, serve: Serve
) -> None:
    with RedisAgentRegistry(backend.client(), key_prefix) as registry:
        first, agent = serve(Scripted(), coordinator, registry=registry), Scripted()
        epoch = registry.get(OWN).epoch
        second = AgentWorker([Scripted(agent_id=SHARED), agent], coordinator, registry)
        with pytest.raises(ConfigurationError, match="greeter:1 is served by another worker"):
            second.start()
        assert not second.health().running
        assert agent.life == []
        assert [one.epoch for one in registry.list_registered()] == [epoch]

        # when the first has stopped, the second may follow
        assert first.stop()
        with second:
            assert first.stop()
            assert registry.get(OWN) is not None


@pytest.mark.guarantee("4.1")
@ONE_BACKEND
def test_an_agent_of_the_shared_inbox_goes_on_when_superseded(
    coordinator: Coordinator, serve: Serve
) -> None:
    agent = Scripted(agent_id=SHARED)
    worker = serve(agent, coordinator)
    worker._superseded(SHARED)
    worker._superseded(AgentId("stranger", "1"))
    send(coordinator, event(1, SHARED))
    eventually(lambda: agent.got)
    worker.stop()
    worker._superseded(SHARED)


@pytest.mark.guarantee("4.6")
@ONE_BACKEND
def test_a_worker_registers_its_agents_and_tells_their_load(
    backend, key_prefix: str, coordinator: Coordinator, serve: Serve
) -> None:
    gate = Gate()
    ttl = {"heartbeat_ttl_s": 1.0, "heartbeat_interval_s": 0.05}
    with RedisAgentRegistry(backend.client(), key_prefix, **ttl) as registry:
        worker = serve(Scripted(gate), coordinator, registry=registry, threads=1)
        coordinator.send_many(ASKER, [event(number) for number in range(3)])
        gate.wait_for(1)

        def load():
            record = registry.get(OWN)
            return record and (record.load.busy, record.load.threads, record.load.depth)

        eventually(lambda: load() == (1, 1, 3))
        gate.open.set()
        worker.stop()
        assert registry.get(OWN) is None
        assert worker._load(worker._agents[0]).threads == 0


@pytest.mark.guarantee("3.4", "4.6")
@ONE_BACKEND
def test_a_coordinator_that_hangs_makes_no_agent_unwell(
    backend, proxy, key_prefix: str, coordinators: Coordinators, serve: Serve,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    # given a worker of several agents, and a registry that does not share its connections
    far = coordinators(backend.client_through(proxy), key_prefix, call_timeout=5.0)
    near = coordinators(backend.client(), key_prefix)
    agents = [Scripted(agent_id=AgentId("crowd", str(number))) for number in range(5)]
    ids = [agent.agent_id for agent in agents]
    send(near, event(1, ids[3], ttl=3600.0))
    with RedisAgentRegistry(backend.client(), key_prefix, heartbeat_ttl_s=0.6) as registry:
        restarted: list[AgentRecord] = []
        registry.on_unhealthy(restarted.append)
        gate = Gate()
        agents[3]._act = gate
        worker = serve(agents, far, registry=registry)
        gate.wait_for(1)
        eventually(lambda: registry.get(ids[3]).load == AgentLoad(1, 2, 1))

        # when every answer to the coordinator fails to come, for longer than two ttls
        proxy.black_hole()
        begun = time.monotonic()
        seen = set[tuple[str, str, int]]()
        beats = set[object]()
        while time.monotonic() - begun < 2.0:
            for record in registry.list_registered(include_dead=True):
                seen.add((record.status, record.liveness.value, record.load.busy))
                beats.add(record.last_beat)
            registry.detect_and_recover()

        # then all are as well as they were, and beat in time; the last known depth is told
        assert seen == {("running", "alive", 1)}
        assert len(beats) >= 5
        assert registry.get(ids[3]).load.depth == 1
        assert restarted == []
        assert "could not be asked for" not in caplog.text
        proxy.heal()
        gate.open.set()
        worker.stop()


@pytest.mark.guarantee("3.4")
@pytest.mark.backend("fakeredis")
def test_depths_are_asked_for_by_one_thread_and_kept_while_redis_is_away(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    answers: list[dict[AgentId, int]] = [{OWN: 3}]

    def ask(*_: object) -> dict[AgentId, int]:
        begun.set()
        assert go_on.wait(LONG)
        if not answers:
            raise CoordinatorUnavailableError("gone fishing")
        return answers.pop()

    monkeypatch.setattr(type(coordinator.internals), "held_by_each", ask)
    depths = Depths(coordinator, [OWN])
    assert depths.of(OWN) == 0
    asked = in_thread(depths.refresh, "asks")
    assert begun.wait(LONG)
    depths.refresh()
    assert depths.of(OWN) == 0
    go_on.set()
    asked()
    assert depths.of(OWN) == 3
    depths.refresh()
    assert depths.of(OWN) == 3


@pytest.mark.guarantee("4.6")
@ONE_BACKEND
def test_the_log_says_what_a_worker_serves_and_when_it_has_stopped(
    coordinator: Coordinator, serve: Serve, key_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tta_agent_coordination")
    serve(Scripted(), coordinator).stop()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        f"worker greeter:1 serves greeter:1, greeter under the prefix {key_prefix}",
        "worker greeter:1 has stopped",
    ]


@pytest.mark.guarantee("4.6")
@ONE_BACKEND
def test_a_worker_that_cannot_register_does_not_start(
    backend, proxy, key_prefix: str, coordinator: Coordinator
) -> None:
    proxy.refuse()
    with RedisAgentRegistry(
        backend.client_through(proxy), key_prefix, call_timeout=0.3
    ) as registry:
        agent = Scripted()
        worker = AgentWorker(agent, coordinator, registry)
        with pytest.raises(CoordinatorUnavailableError):
            worker.start()
        assert agent.life == ["start", "stop"]
        assert not worker.health().running


@pytest.mark.guarantee("4.6")
@ONE_BACKEND
def test_a_worker_stops_though_it_cannot_deregister(
    backend, proxy, key_prefix: str, coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisAgentRegistry(
        backend.client_through(proxy), key_prefix, call_timeout=0.3
    ) as registry:
        agents = [Scripted(agent_id=AgentId("crowd", str(number))) for number in range(3)]
        worker = AgentWorker(agents, coordinator, registry)
        worker.start()
        send(coordinator, event(1, agents[0].agent_id))
        eventually(lambda: agents[0].got)
        proxy.refuse()
        assert worker.stop() is True
        assert registry.snapshot()["local"] == []

        # then it tried once; and what it says to the coordinator's Redis is said all the same
        assert caplog.text.count("registrations are left to expire") == 1
        assert is_empty(coordinator, *worker.internals.inboxes)
        assert registry._pulses.get().heart.running is False


@pytest.mark.guarantee("4.3")
@ONE_BACKEND
@pytest.mark.parametrize("fault", ["black_hole", "refuse"])
@pytest.mark.parametrize("working", [False, True])
def test_a_stop_takes_one_call_timeout_more_and_no_longer_while_redis_is_away(
    backend, proxy, key_prefix: str, coordinators: Coordinators, fault: str, *, working: bool
) -> None:
    # given a worker of several agents, which waits, or one of which works on a message
    patience, gate = 1.0, Gate()
    agents = [Scripted(gate, AgentId("crowd", str(number))) for number in range(5)]
    client = backend.client_through(proxy)
    coordinator = coordinators(client, key_prefix, call_timeout=patience)
    with RedisAgentRegistry(client, key_prefix, call_timeout=patience) as registry:
        worker = AgentWorker(agents, coordinator, registry, drain_timeout=0.5)
        worker.start()
        eventually(lambda: all(one._parked for one in worker._crew._fetchers.values()))
        if working:
            send(coordinator, event(1, agents[3].agent_id))
            gate.wait_for(1)

        # when it stops while Redis does not answer any more
        getattr(proxy, fault)()
        begun = time.monotonic()
        assert worker.stop() is not working
        taken = time.monotonic() - begun

        # then what it would say to it is tried once, not for each agent
        assert taken < 0.5 + patience + SLACK / 2
        assert registry.snapshot()["local"] == []
        gate.open.set()
        eventually(worker.stop, what="its last handler has ended")


@pytest.mark.guarantee("4.3")
def test_who_was_found_away_is_asked_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said, failed = [100.0], list[str](), list[Exception]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    inner = Farewell(failed.append)
    outer = Farewell(failed.append, after=inner)

    def gone() -> None:
        raise CoordinatorUnavailableError("gone fishing")

    def broken() -> None:
        raise ValueError("of no use")

    # given errors of which only one says that Redis is away
    inner.say(broken)
    inner.say(lambda: said.append("inner"))
    outer.say(gone)
    outer.say(lambda: said.append("outer"))
    inner.say(lambda: said.append("inner"))
    assert said == ["inner", "inner"]
    assert [type(one) for one in failed] == [ValueError, CoordinatorUnavailableError]

    # when handlers take a while to end
    now[0] += 5.0
    outer.say(lambda: said.append("outer"))
    assert said[2:] == ["outer"]
    inner.say(gone)
    outer.say(lambda: said.append("outer"))
    assert said[3:] == []


class Counting(Scripted):
    """Exports how much it has handled."""

    def export_state(self) -> Payload:
        return {"handled": len(self.got)}

    def process(self, payload: Payload) -> Payload:
        answer = self._act(payload)
        self.got.append(payload)
        return answer


@pytest.mark.guarantee("3.5", "4.3")
@ONE_BACKEND
def test_what_handlers_change_while_a_worker_drains_is_exported(
    backend, key_prefix: str, coordinator: Coordinator, serve: Serve
) -> None:
    with RedisAgentRegistry(backend.client(), key_prefix) as registry:
        gate = Gate()
        worker = serve(Counting(gate), coordinator, registry=registry, drain_timeout=LONG)
        send(coordinator, event(1))
        gate.wait_for(1)
        registry.heartbeat(OWN)
        assert [one.agent_id for one in registry.discover()] == [OWN]

        # while it drains it is alive, and nobody is sent to it
        stopped = in_thread(worker.stop, "stopper")
        eventually(lambda: registry.get(OWN).status == "stopping")
        assert registry.discover() == []
        assert registry.heartbeat(OWN)
        assert registry.get(OWN).liveness is Liveness.ALIVE
        assert registry.get(OWN).well
        gate.open.set()
        assert stopped()

        # and its successor gets what it came to
        assert registry.get(OWN) is None
        successor = Counting(gate)
        given: list[Payload] = []
        successor.import_state = given.append
        registry.register(successor)
        assert given == [{"handled": 1}]
        assert registry.discover() != []


@pytest.mark.guarantee("3.7")
@ONE_BACKEND
def test_a_beat_of_a_thousand_agents_of_a_worker_is_two_round_trips(
    backend, key_prefix: str, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a worker with a thousand agents, of which one has a message
    ids = [AgentId("crowd", str(number)) for number in range(1000)]
    send(coordinator, event(1, ids[7]))
    worker = AgentWorker([Scripted(agent_id=one) for one in ids], coordinator)
    worker._crew = Crew(worker._agents, coordinator, worker._options, worker._loop)
    with RedisAgentRegistry(backend.client(), key_prefix) as registry:
        pulse = registry._pulses.get()
        for agent in worker._agents:
            pulse.agents.add(
                LocalAgent(agent, ttl=30.0, epoch=1, load=partial(worker._load, agent))
            )
        trips: list[str] = []
        for gate in (coordinator.internals.link.commands, registry._beat_link.commands):
            monkeypatch.setattr(gate, "run", counted(gate.run, trips))

        # when they beat, and once more
        pulse.refreshing = (worker._depths.refresh,)
        for _ in range(2):
            pulse._survey.take(pulse.agents.all(), LONG, pulse.refreshing)
            pulse._beat(pulse.agents.all())

        # then their inboxes were asked in one round trip each time
        assert len(trips) == 4
        assert registry.get(ids[7]).load.depth == 1
        assert registry.get(ids[8]).load.depth == 0


def counted(run: Any, trips: list[str]) -> Any:
    def count(key: str, *commands: Any) -> Any:
        trips.append(key)
        return run(key, *commands)

    return count
