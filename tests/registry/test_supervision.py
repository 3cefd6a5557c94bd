"""Agents that are dead or unwell are restarted: with a back-off, and not for ever."""

import threading
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.registry.conftest import Later, Make
from tests.registry.given import ONE, PATIENCE, TWO, Hanging, Moody, Plain
from tests.support.waiting import eventually
from tta_agent_coordination import AgentRecord, Liveness, RecoverySummary, RestartPolicy
from tta_agent_coordination.registry import recovery as recovery_module
from tta_agent_coordination.registry.recovery import Recovery

pytestmark = pytest.mark.guarantee("3.1")

NOW = datetime.now(UTC)
EAGER = RestartPolicy(backoff_base=0)
"""Restarts without a pause."""


def test_a_dead_agent_is_restarted_and_then_alive(make: Make, later: Later) -> None:
    # given an agent that died, and a supervisor that starts another in its place
    make(heartbeat_ttl_s=10).register(Plain(ONE))
    make(heartbeat_ttl_s=10).register(Plain(TWO))
    later(25, ONE)
    supervisor, host = make(), make()
    asked: list[AgentRecord] = []

    def restart(record: AgentRecord) -> None:
        asked.append(record)
        host.register(Plain(record.agent_id, "restarted"))

    supervisor.on_unhealthy(restart)

    # when it looks
    summary = supervisor.detect_and_recover()

    # then only that one was restarted
    assert summary == RecoverySummary(checked=2, unhealthy=(ONE,), restarted=(ONE,))
    assert [(one.agent_id, one.liveness) for one in asked] == [(ONE, Liveness.DEAD)]
    found = supervisor.get(ONE)
    assert found is not None
    assert (found.name, found.liveness) == ("restarted", Liveness.ALIVE)
    assert supervisor.detect_and_recover() == RecoverySummary(checked=2)


def test_without_a_hook_the_dead_are_only_named(make: Make, later: Later) -> None:
    make(heartbeat_ttl_s=10).register(Plain(ONE))
    later(25)
    assert make().detect_and_recover() == RecoverySummary(checked=1, unhealthy=(ONE,))


def test_a_suspect_is_left_alone(make: Make, later: Later) -> None:
    make(heartbeat_ttl_s=10).register(Plain(ONE))
    later(15)
    assert make().detect_and_recover() == RecoverySummary(checked=1)


def test_an_agent_of_this_process_is_asked_how_it_is(make: Make) -> None:
    registry, agent = make(restart_policy=EAGER), Moody(ONE)
    registry.register(agent)
    registry.on_unhealthy(lambda _record: setattr(agent, "healthy", True))
    agent.healthy = False
    assert registry.detect_and_recover().restarted == (ONE,)
    assert registry.detect_and_recover() == RecoverySummary(checked=1)


def test_a_health_check_that_raises_is_bad(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Plain):
        def health_check(self) -> bool:
            raise RuntimeError("no pulse")

    registry = make()
    registry.register(Broken(ONE))
    for _ in range(3):
        assert registry.detect_and_recover().unhealthy == (ONE,)
    assert caplog.text.count("RuntimeError: no pulse") == 1
    assert caplog.text.count("is unwell") == 1


def test_an_agent_of_another_process_says_itself_that_it_is_unwell(make: Make) -> None:
    other, agent = make(), Moody(ONE)
    other.register(agent)
    agent.healthy = False
    assert make().detect_and_recover().unhealthy == ()
    other.heartbeat(ONE)
    assert make().detect_and_recover().unhealthy == (ONE,)
    agent.healthy = True
    other.heartbeat(ONE)
    assert make().detect_and_recover().unhealthy == ()


@pytest.mark.backend("fakeredis")
def test_an_agent_that_hangs_is_unwell_and_holds_nobody_up(make: Make) -> None:
    registry, agent = make(heartbeat_ttl_s=0.2), Hanging(ONE)
    registry.register(agent)
    agent.hang.set()
    start = time.monotonic()
    eventually(lambda: registry.detect_and_recover().unhealthy == (ONE,), timeout=PATIENCE)
    assert time.monotonic() - start < PATIENCE / 2
    agent.hang.clear()
    agent.go_on.set()
    eventually(lambda: registry.detect_and_recover().unhealthy == (), timeout=PATIENCE)


@pytest.mark.backend("fakeredis")
def test_restarts_keep_a_growing_distance(make: Make, later: Later) -> None:
    make(heartbeat_ttl_s=10).register(Plain(ONE))
    later(25)
    supervisor = make(restart_policy=RestartPolicy(limit=4, backoff_base=0.05, backoff_max=0.1))
    times: list[float] = []
    supervisor.on_unhealthy(lambda _record: times.append(time.monotonic()))
    assert supervisor.detect_and_recover().restarted == (ONE,)
    assert supervisor.detect_and_recover().waiting == (ONE,)
    eventually(lambda: supervisor.detect_and_recover().given_up, timeout=PATIENCE)
    pauses = [later - before for before, later in pairwise(times)]
    assert len(pauses) == 3
    assert all(took >= asked for took, asked in zip(pauses, (0.05, 0.1, 0.1), strict=True))


@pytest.mark.backend("fakeredis")
def test_after_the_limit_the_fallback_is_called_once(
    make: Make, later: Later, caplog: pytest.LogCaptureFixture
) -> None:
    make(heartbeat_ttl_s=10).register(Plain(ONE))
    later(25)
    calls: list[str] = []
    supervisor = make(restart_policy=RestartPolicy(limit=2, backoff_base=0, window=60))
    supervisor.on_unhealthy(
        lambda record: calls.append(f"restart {record.agent_id}"),
        fallback=lambda record: calls.append(f"fallback {record.agent_id}"),
    )
    summaries = [supervisor.detect_and_recover() for _ in range(5)]
    assert [len(one.restarted) for one in summaries] == [1, 1, 0, 0, 0]
    assert [len(one.given_up) for one in summaries] == [0, 0, 1, 1, 1]
    assert calls == ["restart worker:1", "restart worker:1", "fallback worker:1"]
    assert caplog.text.count("is given up") == 1


@pytest.mark.backend("fakeredis")
def test_it_is_tried_again_when_the_window_has_passed(make: Make, later: Later) -> None:
    make(heartbeat_ttl_s=10).register(Plain(ONE))
    later(25)
    supervisor = make(restart_policy=RestartPolicy(limit=1, backoff_base=0, window=0.05))
    supervisor.on_unhealthy(lambda _record: None)
    assert supervisor.detect_and_recover().restarted == (ONE,)
    assert supervisor.detect_and_recover().given_up == (ONE,)
    eventually(lambda: supervisor.detect_and_recover().restarted, timeout=PATIENCE)


@pytest.mark.backend("fakeredis")
def test_the_last_restart_gets_its_time_before_it_is_given_up(make: Make, later: Later) -> None:
    make(heartbeat_ttl_s=10).register(Plain(ONE))
    later(25)
    supervisor = make(restart_policy=RestartPolicy(limit=1, backoff_base=60))
    supervisor.on_unhealthy(lambda _record: None)
    assert supervisor.detect_and_recover().restarted == (ONE,)
    assert supervisor.detect_and_recover().waiting == (ONE,)


class Hours:
    """A clock that the test moves, in place of the module `time`."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_one_that_was_given_up_stays_so_for_a_whole_window(monkeypatch: pytest.MonkeyPatch) -> None:
    # given an agent that two restarts within a window did not help
    hours, record = Hours(), AgentRecord(ONE, "one", 1, Liveness.DEAD, NOW, NOW, 30.0)
    monkeypatch.setattr(recovery_module, "time", hours)
    done: list[str] = []
    recovery = Recovery(RestartPolicy(limit=2, window=100, backoff_base=10))
    recovery.hook(lambda _one: done.append("restart"), lambda _one: done.append("fallback"))
    for hours.now in range(1000, 1100, 5):
        recovery.run([record])
    assert done == ["restart", "restart", "fallback"]

    # then nothing is tried while one of the two is of this window, and it begins anew after it
    for hours.now in range(1100, 1111, 5):
        recovery.run([record])
    assert len(done) == 3
    for hours.now in range(1115, 1200, 5):
        recovery.run([record])
    assert done[3:] == ["restart", "restart", "fallback"]


@pytest.mark.backend("fakeredis")
def test_a_hook_that_raises_is_named_and_stops_no_other(
    make: Make, later: Later, caplog: pytest.LogCaptureFixture
) -> None:
    for agent_id in (ONE, TWO):
        make(heartbeat_ttl_s=10).register(Plain(agent_id))
    later(25)
    supervisor = make(restart_policy=RestartPolicy(limit=1, backoff_base=0))

    def hook(record: AgentRecord) -> None:
        if record.agent_id == ONE:
            raise RuntimeError("no machine left")

    supervisor.on_unhealthy(hook, fallback=hook)
    summary = supervisor.detect_and_recover()
    assert (summary.failed, summary.restarted) == ((ONE,), (TWO,))
    summary = supervisor.detect_and_recover()
    assert (summary.failed, summary.given_up) == ((ONE,), (TWO,))
    assert caplog.text.count("RuntimeError: no machine left") == 2


@pytest.mark.backend("fakeredis")
def test_a_fallback_that_raises_is_tried_again(
    make: Make, later: Later, caplog: pytest.LogCaptureFixture
) -> None:
    make(heartbeat_ttl_s=10).register(Plain(ONE))
    later(25)
    supervisor = make(restart_policy=RestartPolicy(limit=1, backoff_base=0))
    answers = [RuntimeError("nobody answers the phone"), RuntimeError("nor now"), None]
    called: list[AgentRecord] = []

    def fallback(record: AgentRecord) -> None:
        called.append(record)
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    supervisor.on_unhealthy(lambda _record: None, fallback=fallback)
    assert supervisor.detect_and_recover().restarted == (ONE,)
    summaries = [supervisor.detect_and_recover() for _ in range(5)]
    assert [one.failed for one in summaries] == [(ONE,), (ONE,), (), (), ()]
    assert [one.given_up for one in summaries] == [(), (), (ONE,), (ONE,), (ONE,)]
    assert len(called) == 3
    assert caplog.text.count("is given up") == 1


async def never_awaited(_: object) -> None:
    """Would have done nothing when it returns."""


@pytest.mark.backend("fakeredis")
@pytest.mark.guarantee("3.3")
@pytest.mark.parametrize("wrong", [5, None, never_awaited])
def test_what_cannot_be_called_is_no_hook(make: Make, wrong: Any) -> None:
    registry = make()
    with pytest.raises(TypeError, match="callback"):
        registry.on_unhealthy(wrong)
    with pytest.raises(TypeError, match="callback"):
        registry.on_superseded(wrong)
    if wrong is not None:
        with pytest.raises(TypeError, match="fallback"):
            registry.on_unhealthy(print, fallback=wrong)


@pytest.mark.backend("fakeredis")
def test_an_agent_is_restarted_by_one_thread_at_a_time(make: Make, later: Later) -> None:
    make(heartbeat_ttl_s=10).register(Plain(ONE))
    later(25)
    supervisor = make(restart_policy=RestartPolicy(backoff_base=0, window=0.001))
    begun, go_on = threading.Event(), threading.Event()

    def restart(_record: AgentRecord) -> None:
        begun.set()
        go_on.wait(PATIENCE)

    supervisor.on_unhealthy(restart)
    thread = threading.Thread(target=supervisor.detect_and_recover, name="supervisor")
    thread.start()
    assert begun.wait(PATIENCE)
    eventually(lambda: supervisor.detect_and_recover().waiting == (ONE,), timeout=1)
    go_on.set()
    thread.join()
    assert supervisor.detect_and_recover().restarted == (ONE,)


@pytest.mark.backend("fakeredis")
def test_an_agent_that_stays_well_for_a_window_begins_anew(make: Make, later: Later) -> None:
    owner = make(heartbeat_ttl_s=10)
    owner.register(Plain(ONE))
    later(25)
    supervisor = make(restart_policy=RestartPolicy(limit=1, window=0.05))
    supervisor.on_unhealthy(lambda _record: None)
    supervisor.detect_and_recover()
    owner.heartbeat(ONE)

    def forgotten() -> bool:
        assert supervisor.detect_and_recover().unhealthy == ()
        return not supervisor._supervision.recovery._histories.get().of

    eventually(forgotten, timeout=PATIENCE)
