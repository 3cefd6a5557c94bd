"""The breaker by itself: no server is needed to open it."""

import logging
import threading

import pytest

from tta_agent_coordination import policy
from tta_agent_coordination.errors import CoordinatorCircuitOpenError
from tta_agent_coordination.events import Events
from tta_agent_coordination.transport.breaker import Breaker

LOST = ConnectionError("lost")


@pytest.fixture
def breaker() -> Breaker:
    return Breaker("tested", trial_time=60.0, events=Events())


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic time, to be changed by the test."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def fail(breaker: Breaker, times: int = policy.BREAKER_FAILURES) -> None:
    for _ in range(times):
        breaker.failed(LOST, trial=False)


def test_it_begins_closed_and_admits_calls_that_are_no_trials(breaker: Breaker) -> None:
    assert breaker.state == "closed"
    assert breaker.admit() is False
    breaker.check_closed()


def test_it_opens_with_the_last_of_many_failures_in_a_row(breaker: Breaker) -> None:
    fail(breaker, policy.BREAKER_FAILURES - 1)
    breaker.succeeded(trial=False)
    fail(breaker, policy.BREAKER_FAILURES - 1)
    assert breaker.state == "closed"
    fail(breaker, 1)
    assert breaker.state == "open"


def test_while_open_it_refuses_and_says_for_how_long(breaker: Breaker, now: list[float]) -> None:
    fail(breaker)
    now[0] += policy.BREAKER_RESET / 4
    for refused in (breaker.admit, breaker.check_closed):
        with pytest.raises(CoordinatorCircuitOpenError, match="'tested' tries it again") as caught:
            refused()
        assert caught.value.retry_after == pytest.approx(0.75 * policy.BREAKER_RESET)


def test_further_failures_do_not_put_the_trial_off(breaker: Breaker, now: list[float]) -> None:
    fail(breaker)
    now[0] += policy.BREAKER_RESET
    fail(breaker)
    assert breaker.admit() is True


def test_a_trial_that_succeeds_closes_it(breaker: Breaker, now: list[float]) -> None:
    fail(breaker)
    now[0] += policy.BREAKER_RESET
    assert breaker.admit() is True
    assert breaker.state == "half-open"
    breaker.succeeded(trial=True)
    assert breaker.state == "closed"
    fail(breaker, policy.BREAKER_FAILURES - 1)
    assert breaker.state == "closed"


def test_a_trial_that_fails_opens_it_for_another_while(breaker: Breaker, now: list[float]) -> None:
    fail(breaker)
    now[0] += policy.BREAKER_RESET
    assert breaker.admit() is True
    now[0] += 10.0
    breaker.failed(LOST, trial=True)
    assert breaker.state == "open"
    with pytest.raises(CoordinatorCircuitOpenError) as caught:
        breaker.admit()
    assert caught.value.retry_after == pytest.approx(policy.BREAKER_RESET)
    now[0] += policy.BREAKER_RESET
    assert breaker.admit() is True


def test_there_is_one_trial_at_a_time(breaker: Breaker, now: list[float]) -> None:
    fail(breaker)
    now[0] += policy.BREAKER_RESET
    admitted: list[bool] = []

    def ask() -> None:
        try:
            admitted.append(breaker.admit())
        except CoordinatorCircuitOpenError:
            admitted.append(False)

    threads = [threading.Thread(target=ask, name=f"asker-{n}") for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(admitted) == [False] * 19 + [True]


def test_nothing_that_takes_long_is_a_trial(breaker: Breaker, now: list[float]) -> None:
    fail(breaker)
    now[0] += policy.BREAKER_RESET
    with pytest.raises(CoordinatorCircuitOpenError):
        breaker.check_closed()
    assert breaker.admit() is True


def test_a_trial_that_is_abandoned_leaves_its_place(breaker: Breaker, now: list[float]) -> None:
    fail(breaker)
    now[0] += policy.BREAKER_RESET
    assert breaker.admit() is True
    breaker.abandoned(trial=True)
    assert breaker.admit() is True


def test_a_trial_of_which_nothing_is_heard_loses_its_place(
    breaker: Breaker, now: list[float]
) -> None:
    fail(breaker)
    now[0] += policy.BREAKER_RESET
    assert breaker.admit() is True
    now[0] += 59.0
    with pytest.raises(CoordinatorCircuitOpenError):
        breaker.admit()
    now[0] += 1.0
    assert breaker.admit() is True


def test_a_success_that_comes_as_it_opens_is_no_error(
    breaker: Breaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given that another thread opens it between the look and the recording
    fail(breaker, policy.BREAKER_FAILURES - 1)
    record = breaker._breaker.call

    def open_first(*arguments: object) -> object:
        breaker._breaker.open()
        return record(*arguments)

    monkeypatch.setattr(breaker._breaker, "call", open_first)

    breaker.succeeded(trial=False)

    assert breaker.state == "open"


def test_the_log_tells_of_an_outage_once_and_of_its_trials_only_when_debugging(
    breaker: Breaker, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tta_agent_coordination")
    fail(breaker)
    now[0] += policy.BREAKER_RESET
    breaker.admit()
    breaker.failed(LOST, trial=True)
    now[0] += policy.BREAKER_RESET
    breaker.admit()
    breaker.succeeded(trial=True)

    assert [(record.levelname, record.message.partition(": ")[2]) for record in caplog.records] == [
        ("WARNING", "open after closed"),
        ("DEBUG", "half-open after open"),
        ("DEBUG", "open after half-open"),
        ("DEBUG", "half-open after open"),
        ("INFO", "closed after half-open"),
    ]


class PeculiarError(Exception):
    """Cannot be made of its arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


@pytest.mark.parametrize("error", [ConnectionError("gone"), PeculiarError("gone", "away")])
def test_the_error_of_a_caller_keeps_its_traceback_and_the_refusal_holds_none(
    error: Exception,
) -> None:
    breaker = Breaker("test", trial_time=1.0, events=Events())
    for _ in range(policy.BREAKER_FAILURES):
        with pytest.raises(type(error)) as caught:
            raise error
        breaker.failed(caught.value, trial=False)
        assert error.__traceback__ is not None

    with pytest.raises(CoordinatorCircuitOpenError, match="gone") as refused:
        breaker.admit()
    cause = refused.value.__cause__
    assert cause is not None
    assert cause.__traceback__ is None
