"""The hook by itself: who is called, when, and what happens when one raises."""

import logging
import threading
from collections.abc import Callable

import pytest

from tests.observability.given import ONE, Recorder
from tests.support.strikes import striking
from tta_agent_coordination import threads
from tta_agent_coordination.events import (
    AgentSuperseded,
    Event,
    Events,
    HeartbeatsFailed,
    HeartbeatsRecovered,
    held,
)
from tta_agent_coordination.events import kinds as kinds_of_events
from tta_agent_coordination.transport.breaker import Breaker

TOLD = HeartbeatsFailed(error="for the test")


@pytest.fixture
def events(recorder: Recorder) -> Events:
    events = Events()
    events.add(recorder)
    return events


def test_observers_are_told_in_the_order_in_which_they_were_added() -> None:
    events, told = Events(), []
    first, second = (lambda _: told.append(1)), (lambda _: told.append(2))
    events.add(first)
    events.add(second)
    events.add(first)

    events.tell(TOLD)

    assert told == [1, 2]


def test_one_that_is_removed_is_not_told_any_more(events: Events, recorder: Recorder) -> None:
    events.remove(recorder)
    events.remove(recorder)

    events.tell(TOLD)

    assert recorder.events == []


def test_events_are_never_equal_whatever_is_in_them() -> None:
    kinds = [kind for kind in vars(kinds_of_events).values() if isinstance(kind, type)]
    kinds = [kind for kind in kinds if issubclass(kind, Event)]
    assert len(kinds) > 20
    assert {kind.__eq__ for kind in kinds} == {object.__eq__}
    assert {kind.__hash__ for kind in kinds} == {object.__hash__}


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="an observer is a function of one event, not 5"):
        Events().add(5)


def test_an_observer_that_raises_is_logged_once_until_it_works_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events, broken = Events(), [True]

    def moody(_event: object) -> None:
        if broken[0]:
            raise RuntimeError("broken")

    events.add(moody)
    with caplog.at_level(logging.INFO, "tta_agent_coordination"):
        events.tell(TOLD)
        events.tell(TOLD)
        events.tell(HeartbeatsRecovered())
        broken[0] = False
        events.tell(TOLD)
        events.tell(TOLD)

    logged = [(record.event, record.observed) for record in caplog.records]
    assert logged == [
        ("observer_failed", "heartbeats_failed"),
        ("observer_failed", "heartbeats_recovered"),
        ("observer_recovered", "heartbeats_failed"),
    ]


def test_one_that_raises_keeps_nothing_from_the_others(events: Events, recorder: Recorder) -> None:
    def broken(_event: object) -> None:
        raise RuntimeError("broken")

    events.remove(recorder)
    events.add(broken)
    events.add(recorder)

    events.tell(TOLD)

    assert recorder.events == [TOLD]


def test_ctrl_c_in_an_observer_ends_the_call_that_it_interrupts(recorder: Recorder) -> None:
    events = Events()

    def interrupted(_event: object) -> None:
        raise KeyboardInterrupt

    events.add(interrupted)
    with pytest.raises(KeyboardInterrupt):
        events.tell(TOLD)
    events.remove(interrupted)
    events.add(recorder)
    events.tell(TOLD)

    assert recorder.events == [TOLD]


def test_an_observer_ends_no_thread_that_the_user_did_not_start(recorder: Recorder) -> None:
    events = Events()

    def ends(_event: object) -> None:
        raise SystemExit

    events.add(ends)
    events.add(recorder)
    thread = threads.spawn("test", lambda: events.tell(TOLD))
    thread.join(10.0)

    assert recorder.events == [TOLD]
    with pytest.raises(SystemExit):
        events.tell(TOLD)


def test_what_an_observer_does_is_not_told(events: Events, recorder: Recorder) -> None:
    events.add(lambda _: events.tell(AgentSuperseded(agent_id=ONE)))

    events.tell(TOLD)

    assert recorder.events == [TOLD]


def test_what_is_held_is_told_at_the_end_in_its_order(events: Events, recorder: Recorder) -> None:
    second = HeartbeatsRecovered()
    with held():
        events.tell(TOLD)
        with held():
            events.tell(second)
        during = list(recorder.events)

    assert (during, recorder.events) == ([], [TOLD, second])


def test_what_is_held_is_told_after_an_error_too(events: Events, recorder: Recorder) -> None:
    def fails() -> None:
        with held():
            events.tell(TOLD)
            raise OSError("for the test")

    with pytest.raises(OSError, match="for the test"):
        fails()

    assert recorder.events == [TOLD]


@pytest.mark.guarantee("2.13")
@pytest.mark.parametrize("event", ["call", "line", "return"])
@pytest.mark.parametrize("method", [held.__enter__, held.__exit__])
def test_what_ctrl_c_leaves_held_is_told_with_what_happens_next(
    method: Callable[..., None], event: str, events: Events, recorder: Recorder
) -> None:
    second = HeartbeatsRecovered()
    with striking(method, event), held():
        events.tell(TOLD)

    events.tell(second)

    before_it = [] if method is held.__enter__ else [TOLD]
    assert recorder.events == [*before_it, second]


@pytest.mark.guarantee("2.13")
def test_what_ctrl_c_leaves_held_is_told_before_the_next_is_held(
    events: Events, recorder: Recorder
) -> None:
    with striking(held.__exit__, "call"), held():
        events.tell(TOLD)

    with held():
        assert recorder.events == [TOLD]


@pytest.mark.guarantee("2.13")
@pytest.mark.parametrize("skip", range(6))
def test_ctrl_c_while_observers_are_told_silences_no_later_event(
    skip: int, events: Events, recorder: Recorder
) -> None:
    with striking(Events.tell, "line", skip=skip):
        events.tell(TOLD)
    recorder.events.clear()

    events.tell(TOLD)

    assert recorder.events == [TOLD]


def test_one_thread_holds_back_nothing_of_another(events: Events, recorder: Recorder) -> None:
    with held():
        other = threading.Thread(target=lambda: events.tell(TOLD), name="other")
        other.start()
        other.join()

        assert recorder.events == [TOLD]


def test_the_breaker_tells_when_its_lock_is_free() -> None:
    # pybreaker calls listeners under its lock. An observer that waits for another thread, which
    # needs the breaker, would wait for ever.
    events, ended = Events(), []
    breaker = Breaker("tested", trial_time=60.0, events=events)

    def observer(_event: object) -> None:
        other = threading.Thread(
            target=lambda: breaker.failed(OSError("lost"), trial=False), name="other"
        )
        other.start()
        other.join(5.0)
        ended.append(not other.is_alive())

    events.add(observer)
    for _ in range(5):
        breaker.failed(OSError("lost"), trial=False)

    assert breaker.state == "open"
    assert ended == [True]
