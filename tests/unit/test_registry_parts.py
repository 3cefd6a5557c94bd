"""Parts of the registry that need no server."""

import threading
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from tests.registry.given import ONE, PATIENCE, TWO, Hanging, Plain, Stateful
from tests.support.waiting import eventually
from tta_agent_coordination import AgentLoad, AgentRecord, Liveness, RestartPolicy
from tta_agent_coordination.events import Events
from tta_agent_coordination.registry.catalog import described
from tta_agent_coordination.registry.events import changes
from tta_agent_coordination.registry.heart import Heart
from tta_agent_coordination.registry.local import LocalAgent, LocalAgents
from tta_agent_coordination.registry.options import Times
from tta_agent_coordination.registry.recovery import Recovery
from tta_agent_coordination.registry.store import Look
from tta_agent_coordination.registry.survey import Survey

MOMENT = datetime(2025, 1, 1, tzinfo=UTC)


def record(agent_id: Any = ONE, **fields: Any) -> AgentRecord:
    known = AgentRecord(agent_id, "name", 1, Liveness.ALIVE, MOMENT, MOMENT, 30.0)
    return attrs.evolve(known, **fields)


# Records --------------------------------------------------------------------------------------


def test_load_is_the_share_of_busy_threads_then_the_inbox() -> None:
    assert AgentLoad().order == (0.0, 0)
    assert AgentLoad(busy=1, threads=4, depth=7).order == (0.25, 7)


@pytest.mark.parametrize(
    ("fields", "well"),
    [
        ({}, True),
        ({"liveness": Liveness.SUSPECT}, True),
        ({"liveness": Liveness.DEAD}, False),
        ({"status": "busy"}, True),
        ({"status": "unhealthy"}, False),
        ({"status": "unresponsive"}, False),
    ],
)
def test_an_agent_is_well_unless_it_is_dead_or_says_otherwise(
    fields: dict[str, Any], well: bool
) -> None:
    assert record(**fields).well is well


# Events ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, None, []),
        (None, {}, ["registered"]),
        (None, {"liveness": Liveness.SUSPECT}, ["registered", "suspect"]),
        ({}, {}, []),
        ({}, {"last_beat": datetime(2026, 1, 1, tzinfo=UTC)}, []),
        ({}, {"status": "busy"}, ["status_changed"]),
        ({}, {"epoch": 2, "status": "x"}, ["superseded", "status_changed"]),
        ({"liveness": Liveness.SUSPECT}, {"liveness": Liveness.DEAD}, ["dead"]),
        ({"liveness": Liveness.DEAD}, {}, []),
        ({}, None, ["deregistered"]),
    ],
)
def test_changes_are_named(
    before: dict[str, Any] | None, after: dict[str, Any] | None, expected: list[str]
) -> None:
    old = [] if before is None else [record(**before)]
    new = [] if after is None else [record(**after)]
    found = list(changes(Look(old, []), Look(new, [])))
    assert [event.type.value for event in found] == expected
    assert all(event.record == (new or old)[0] for event in found)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ((None, None, None, ()), "any at all"),
        ((None, "fly", None, ("en", "de")), "capability fly, tags en de"),
        (("bird", "fly", "2.0.0", ()), "type bird, capability fly, version at least 2.0.0"),
    ],
)
def test_what_nobody_fits_is_said_without_what_was_not_asked_for(
    wanted: tuple[Any, Any, Any, tuple[str, ...]], words: str
) -> None:
    assert described(*wanted) == words


def test_changes_come_in_the_order_of_ids() -> None:
    found = changes(Look([record(TWO)], []), Look([record(ONE)], []))
    assert [one.agent_id for one in found] == [ONE, TWO]


# Times ----------------------------------------------------------------------------------------


def test_times_follow_from_the_ttl() -> None:
    times = Times.of(30, None, None)
    assert (times.interval, times.grace) == (10.0, 300.0)
    assert (times.patience, times.look_interval) == (1.0, 1.0)
    assert [times.beat_timeout(each) for each in (5.0, 60.0)] == [5.0, 15.0]
    short = Times.of(0.6, 0.1, 1.5)
    assert (short.interval, short.grace) == (0.1, 1.5)
    assert (short.patience, short.look_interval) == (0.05, 0.1)
    assert [short.beat_timeout(each) for each in (0.5, 5.0)] == [0.5, 1.0]


# Heart ----------------------------------------------------------------------------------------


def test_the_heart_beats_at_once_and_then_in_intervals() -> None:
    beats = threading.Semaphore(0)
    heart = Heart(beats.release, 0.01, Events())
    assert heart.age is None
    assert not heart.running
    heart.start()
    for _ in range(5):
        assert beats.acquire(timeout=PATIENCE)
    assert heart.running
    assert heart.stop(PATIENCE)
    assert not heart.running
    assert heart.stop(0)


def test_no_error_ends_the_heart(caplog: pytest.LogCaptureFixture) -> None:
    fails, tried = threading.Event(), threading.Semaphore(0)

    def beat() -> None:
        tried.release()
        if fails.is_set():
            raise RuntimeError("no way")
        heart.succeeded()

    heart = Heart(beat, 0.005, Events())
    fails.set()
    heart.start()
    for _ in range(5):
        assert tried.acquire(timeout=PATIENCE)
    assert heart.last_error == "RuntimeError: no way"
    fails.clear()
    eventually(lambda: heart.last_error is None)
    assert heart.running
    assert heart.stop(PATIENCE)
    assert heart.age is not None
    assert caplog.text.count("heartbeats fail") == 1
    assert caplog.text.count("Traceback") == 1, "what nobody expects is told with where it was"
    assert caplog.text.count("succeed again") == 1


def test_a_heart_that_is_stuck_in_a_beat_is_not_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def beat() -> None:
        begun.set()
        go_on.wait(PATIENCE)

    heart = Heart(beat, 0.005, Events())
    heart.start()
    assert begun.wait(PATIENCE)
    assert not heart.stop(0.01)
    assert "tta-heartbeat" in caplog.text
    go_on.set()


# Local agents ---------------------------------------------------------------------------------


def test_the_latest_registration_is_the_one_kept() -> None:
    agents = LocalAgents()
    older, newer = (LocalAgent(Plain(ONE), 30.0, epoch=epoch) for epoch in (1, 2))
    agents.add(newer)
    agents.add(older)
    assert agents.get(ONE) is newer
    assert not agents.drop(older)
    assert agents.drop(newer)
    assert agents.last_epoch(ONE) == 2
    agents.forget(ONE, 1)
    assert agents.last_epoch(ONE) == 2
    agents.forget(ONE, 2)
    assert agents.last_epoch(ONE) == 0


def test_an_agent_is_asked_by_one_thread_at_a_time() -> None:
    agent = Hanging(ONE)
    agent.hang.set()
    local = LocalAgent(agent, ttl=0.01)
    thread = threading.Thread(target=local.ask, name="asking")
    thread.start()
    assert agent.hangs.wait(PATIENCE)
    assert not local.ask()
    assert not local.ask(wait=0.01)
    eventually(lambda: not local.responsive)
    assert not local.well
    assert local.beat().registration.status == "unresponsive"
    agent.hang.clear()
    agent.go_on.set()
    thread.join()
    assert local.ask()
    assert local.well


# Survey ---------------------------------------------------------------------------------------


def test_a_survey_passes_over_those_that_hang() -> None:
    first, second = Hanging(ONE), Stateful(TWO, {"n": 1})
    agents = [LocalAgent(first, 30.0), LocalAgent(second, 30.0)]
    survey = Survey()
    first.hang.set()
    survey.take(agents, patience=0.01)
    assert first.hangs.wait(PATIENCE)
    eventually(lambda: agents[1].state or survey.take(agents, patience=0.01), timeout=PATIENCE)
    assert agents[1].state == '{"n": 1}'
    first.go_on.set()


def test_a_survey_that_gets_on_is_not_begun_again() -> None:
    # given a round of slow agents
    slow = [Hanging(ONE), Hanging(TWO)]
    for agent in slow:
        agent.hang.set()
    agents = [LocalAgent(agent, 30.0) for agent in slow]
    survey = Survey()
    survey.take(agents, patience=0.01)
    assert slow[0].hangs.wait(PATIENCE)
    slow[0].go_on.set()
    assert slow[1].hangs.wait(PATIENCE)
    threads = threading.active_count()

    # when the next is due
    survey.take(agents, patience=0.01)

    # then it is left to go on
    assert threading.active_count() == threads
    slow[1].go_on.set()


def test_a_survey_that_ended_after_its_time_is_taken_again() -> None:
    # given a round that went on after its time, and has ended since
    agent = Hanging(ONE)
    agent.hang.set()
    local = LocalAgent(agent, 30.0)
    survey = Survey()
    before = threading.active_count()
    survey.take([local], patience=0.01)
    assert agent.hangs.wait(PATIENCE)
    agent.hang.clear()
    agent.go_on.set()
    eventually(lambda: threading.active_count() == before)

    # then the next one asks anew
    agent.state = {"n": 2}
    survey.take([local], patience=PATIENCE)
    assert local.state == '{"n": 2}'


# Recovery -------------------------------------------------------------------------------------


def test_pauses_double_up_to_the_longest() -> None:
    recovery = Recovery(RestartPolicy(limit=5000, backoff_base=1.0, backoff_max=9.0))
    recovery.hook(lambda _record: None, None)
    recovery.run([record()])
    history = recovery._histories.get().of[ONE]
    pauses = []
    for _ in range(6):
        pauses.append(recovery._pause(history))
        history.restarts.append(0.0)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 9.0, 9.0]
    history.restarts.extend([0.0] * 4000)
    assert recovery._pause(history) == 9.0
