"""What a process knows without asking, and how old that may be."""

import logging

import attrs
import pytest

from tests.circuit.conftest import Make
from tests.circuit.given import (
    CLOSED,
    CONFIG,
    HALF_OPEN,
    NAME,
    OPEN,
    fails,
    refused,
    succeeds,
    trip,
)
from tests.support.backends import Backend
from tests.support.servers import Client
from tta_agent_coordination import CircuitBreaker, CircuitBreakerConfig
from tta_agent_coordination.circuit.known import KnownCircuit
from tta_agent_coordination.circuit.view import View
from tta_agent_coordination.errors import CoordinatorUnavailableError
from tta_agent_coordination.proxy import FaultProxy

pytestmark = pytest.mark.guarantee("5.1")

REFRESH, PATIENCE = 0.1, 0.5
LONG = 3600.0


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic time, to be changed by the test."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def known() -> KnownCircuit:
    return KnownCircuit("tested")


def seen(now: list[float], **what: object) -> View:
    """What was seen just now."""
    return View(asked_at=now[0], known_at=now[0], stamp=now[0] * 1_000_000, **what)


def test_nothing_is_decided_before_the_first_answer(known: KnownCircuit) -> None:
    assert known.decided(REFRESH, PATIENCE) is None
    assert known.view == View()


def test_a_view_decides_while_it_is_fresh(known: KnownCircuit, now: list[float]) -> None:
    known.learn(seen(now))
    now[0] += 0.099
    assert known.decided(REFRESH, PATIENCE) is known.view
    now[0] += 0.001
    assert known.decided(REFRESH, PATIENCE) is None


def test_its_age_counts_from_the_question_not_from_the_answer(
    known: KnownCircuit, now: list[float]
) -> None:
    known.learn(attrs.evolve(seen(now), asked_at=now[0] - 0.2))
    assert known.decided(REFRESH, PATIENCE) is None


def test_one_thread_asks_and_the_others_go_by_the_view_meanwhile(
    known: KnownCircuit, now: list[float]
) -> None:
    known.learn(seen(now))
    now[0] += 0.2
    assert known.decided(REFRESH, PATIENCE) is None, "this one asks"
    assert known.decided(REFRESH, PATIENCE) is not None
    # until the view is as old as asking may take
    now[0] += 0.4
    assert known.decided(REFRESH, PATIENCE) is None
    # or one has the answer
    known.learn(seen(now))
    now[0] += 0.11
    assert known.decided(REFRESH, PATIENCE) is None


def test_an_answer_that_does_not_come_is_asked_for_again(
    known: KnownCircuit, now: list[float]
) -> None:
    known.learn(seen(now))
    now[0] += 0.1
    assert known.decided(REFRESH, 0.05) is None
    now[0] += 0.049
    assert known.decided(REFRESH, 0.05) is not None
    now[0] += 0.0005
    assert known.decided(REFRESH, 0.05) is not None
    now[0] += 0.001
    assert known.decided(REFRESH, 0.05) is None


def test_a_view_of_long_ago_is_not_used_while_another_asks(
    known: KnownCircuit, now: list[float]
) -> None:
    known.learn(seen(now))
    now[0] += LONG
    assert known.decided(REFRESH, PATIENCE) is None
    assert known.decided(REFRESH, PATIENCE) is None


@pytest.mark.parametrize(
    "view",
    [
        {"failures": 1},
        {"phase": HALF_OPEN},
        {"phase": OPEN, "ends": 1000.0},
    ],
)
def test_what_may_change_with_each_call_is_always_asked_for(
    known: KnownCircuit, now: list[float], view: dict[str, object]
) -> None:
    known.learn(seen(now, **view))
    assert known.decided(REFRESH, PATIENCE) is None


def test_an_open_circuit_refuses_by_itself_until_its_time_is_over(
    known: KnownCircuit, now: list[float]
) -> None:
    known.learn(seen(now, phase=OPEN, ends=1000.05))
    assert known.decided(REFRESH, PATIENCE) is not None
    now[0] += 0.06
    assert known.decided(REFRESH, PATIENCE) is None


def test_without_a_refresh_time_every_call_asks(known: KnownCircuit, now: list[float]) -> None:
    known.learn(seen(now))
    for _ in range(2):
        assert known.decided(0.0, PATIENCE) is None


def test_an_older_answer_that_comes_later_is_passed_over(
    known: KnownCircuit, now: list[float]
) -> None:
    older = attrs.evolve(seen(now), stamp=5.0)
    newer = attrs.evolve(seen(now, phase=OPEN), stamp=6.0)
    known.learn(newer)
    known.learn(older)
    assert known.view is newer


def test_of_two_answers_that_were_under_way_together_the_later_one_counts(
    known: KnownCircuit, now: list[float]
) -> None:
    first = attrs.evolve(seen(now), known_at=now[0] + 0.2, stamp=5.0)
    later = attrs.evolve(seen(now, phase=OPEN), asked_at=now[0] + 0.1, stamp=6.0)
    known.learn(first)
    known.learn(later)
    assert known.view is later


def test_an_answer_after_the_servers_clock_was_set_back_is_taken(
    known: KnownCircuit, now: list[float]
) -> None:
    known.learn(seen(now, phase=OPEN))
    now[0] += 1.0
    latest = attrs.evolve(seen(now), stamp=5.0)
    known.learn(latest)
    assert known.view is latest


def test_after_an_outage_the_server_is_believed_whatever_its_clock_says(
    known: KnownCircuit, now: list[float]
) -> None:
    known.learn(seen(now))
    local = known.lose(CoordinatorUnavailableError("away"))
    known.note(local.read(CircuitBreakerConfig()))
    answer = attrs.evolve(seen(now, phase=OPEN), stamp=0.0)
    known.learn(answer)
    assert known.view is answer


def test_what_the_local_circuit_came_to_counts_for_nothing_once_redis_is_back(
    known: KnownCircuit, now: list[float]
) -> None:
    local = known.lose(CoordinatorUnavailableError("away"))
    known.learn(seen(now, phase=OPEN, ends=LONG))
    now[0] += 1.0
    known.note(attrs.evolve(local.read(CircuitBreakerConfig()), stamp=1e18))
    assert known.view.phase is OPEN


def test_each_change_is_one_line_in_the_log(
    known: KnownCircuit, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tta_agent_coordination")
    for phase in (CLOSED, CLOSED, OPEN, OPEN, HALF_OPEN, OPEN, HALF_OPEN, CLOSED):
        now[0] += 1.0
        known.learn(seen(now, phase=phase))
    lines = [(record.levelname, record.message.partition(": ")[2]) for record in caplog.records]
    assert lines == [
        ("WARNING", "open after closed"),
        ("INFO", "half-open after open"),
        ("INFO", "open after half-open"),
        ("INFO", "half-open after open"),
        ("INFO", "closed after half-open"),
    ]
    assert "circuit breaker tested: " in caplog.text


# With a server ----------------------------------------------------------------------------------


@pytest.mark.backend("valkey")
def test_while_nothing_fails_calls_send_nothing(through_proxy: Make, proxy: FaultProxy) -> None:
    breaker = through_proxy(refresh=LONG)
    succeeds(breaker)
    proxy.forget()
    succeeds(breaker, 100)
    assert proxy.commands == []


@pytest.mark.backend("valkey")
def test_each_decision_is_one_command(through_proxy: Make, proxy: FaultProxy) -> None:
    breaker = through_proxy(CircuitBreakerConfig(2, timeout_seconds=0.0), refresh=LONG)
    for _ in range(2):  # the second time the server knows the scripts
        assert breaker.state is CLOSED
        succeeds(breaker)
        proxy.forget()
        fails(breaker)  # settle
        fails(breaker)  # admit, as something failed; settle
        succeeds(breaker)  # admit, settle
        succeeds(breaker)  # admit, settle
        sent = len(proxy.commands)
    assert sent == 7
    proxy.forget()
    assert (breaker.state, breaker.is_call_permitted()) == (CLOSED, True)
    assert len(proxy.commands) == 2, "these ask"


@pytest.mark.backend("valkey")
def test_an_answer_that_took_long_is_as_old_as_its_question(
    through_proxy: Make, proxy: FaultProxy
) -> None:
    breaker = through_proxy()
    succeeds(breaker)
    proxy.delay(0.1)
    assert breaker.get_metrics()["view_age"] >= 0.1
    proxy.heal()


@pytest.mark.backend("valkey")
def test_an_open_circuit_refuses_without_asking_while_its_view_is_fresh(
    through_proxy: Make, proxy: FaultProxy
) -> None:
    breaker = through_proxy(refresh=LONG)
    trip(breaker)
    proxy.forget()
    for _ in range(10):
        refused(breaker)
    assert proxy.commands == []


@pytest.mark.backend("valkey", "fakeredis")
def test_another_process_sees_a_change_when_its_view_is_old(make: Make) -> None:
    one, other = make(), make(refresh=0.05)
    succeeds(other)
    trip(one)
    known = other._parts.get().decisions.known
    now = known.view
    known._view = attrs.evolve(now, asked_at=now.asked_at - 0.05)
    refused(other)


@pytest.mark.backend("valkey", "fakeredis", "cluster")
def test_breakers_of_one_name_in_one_process_know_the_same(
    backend: Backend, key_prefix: str, client: Client
) -> None:
    # given two breakers, and one of another prefix, all with fresh views
    options = {"refresh": LONG, "call_timeout": 5.0}
    one = CircuitBreaker(client, NAME, key_prefix=key_prefix, **options)
    other = CircuitBreaker(backend.client(), NAME, key_prefix=key_prefix, **options)
    third = CircuitBreaker(client, NAME, key_prefix=f"{key_prefix}-3", **options)
    for breaker in (one, other, third):
        succeeds(breaker)
    # when one opens
    trip(one)
    # then the other knows
    refused(other)
    succeeds(third)
    for breaker in (one, other, third):
        breaker.close()


@pytest.mark.backend("valkey", "fakeredis")
def test_the_success_of_a_long_call_ends_a_row_of_failures_elsewhere(make: Make) -> None:
    one, other = make(), make(refresh=0.05)

    def take_long() -> str:
        fails(one, CONFIG.failure_threshold - 1)
        other._parts.get().decisions.known.let_pass(1.0)
        return "done"

    assert other.call(take_long) == "done"
    fails(one)

    assert one.state is CLOSED
