"""Each delivery that is followed by another has a cause, and the right one."""

import pytest

from tests.chaos.given import LEASE, event, handled, received, sent, settled
from tta_agent_coordination.chaos.checker import End, Window, problems, stories
from tta_agent_coordination.chaos.duplicates import RULES, Again, Cause, agains
from tta_agent_coordination.chaos.history import Event

FIRST = received(10)
LATER = received(10 + LEASE, process="c2", attempts=2)
SOON = received(40, process="c2", attempts=2)


def only(events: list[Event], end: End | None = None) -> Again:
    """Return the one delivery that was followed by another."""
    [found] = agains(stories(sorted(events, key=lambda event: event.at)), end or End())
    return found


def test_every_cause_has_its_rule() -> None:
    assert set(RULES) == set(Cause)


@pytest.mark.parametrize(("verb", "cause"), [("nack", "retried"), ("release", "released")])
def test_what_was_given_back_was_given_back(verb: str, cause: str) -> None:
    found = only([*sent(0), FIRST, *settled(20, verb, FIRST), SOON])

    assert found == Again(Cause(cause), "m-1", handled=False)


def test_a_consumer_that_was_killed_before_its_ack_explains_a_duplicate() -> None:
    events = [*sent(0), FIRST, *handled(15, FIRST), LATER, *handled(2 * LEASE, LATER)]

    found = only(events, End(killed={"c1"}))

    assert found == Again(Cause.KILLED, "m-1", handled=True, waited=LEASE)


def test_the_death_after_an_answer_explains_nothing() -> None:
    refused = settled(2 * LEASE, "ack", FIRST, outcome="STALE")

    assert only([*sent(0), FIRST, LATER, *refused], End(killed={"c1"})).cause is Cause.OUTLASTED


def test_a_duplicate_needs_two_that_were_handled() -> None:
    killed = End(killed={"c1"})

    assert not only([*sent(0), FIRST, *handled(15, FIRST), LATER], killed).handled
    assert not only([*sent(0), FIRST, LATER, *handled(2 * LEASE, LATER)], killed).handled


def test_a_consumer_that_slept_through_its_lease_was_suspended() -> None:
    stops = [Window(20, 2 * LEASE, "c1")]

    assert only([*sent(0), FIRST, LATER], End(stops=stops)).cause is Cause.SUSPENDED


@pytest.mark.parametrize(
    "stop", [Window(20, 2 * LEASE, "c3"), Window(0, 5, "c1"), Window(2 * LEASE, 3 * LEASE, "c1")]
)
def test_sleep_at_another_time_or_of_somebody_else_explains_nothing(stop: Window) -> None:
    assert only([*sent(0), FIRST, LATER], End(stops=[stop])).cause is Cause.OUTLASTED


def test_a_call_that_raised_was_cut_off() -> None:
    raised = settled(20, "ack", FIRST, outcome="UNCERTAIN")

    assert only([*sent(0), FIRST, *raised, LATER]).cause is Cause.CUT_OFF


def test_a_call_that_took_long_held_up_all_that_its_process_had() -> None:
    other = received(10, "m-2")
    slow = settled(20, "ack", other, took=LEASE // 2)

    assert only([*sent(0), FIRST, LATER, *sent(1, "m-2"), other, *slow]).cause is Cause.CUT_OFF


def test_an_outcome_without_an_intent_took_no_time() -> None:
    lone = settled(20, "ack", FIRST, outcome="STALE")[1:]

    assert only([*sent(0), FIRST, *lone, LATER]).cause is Cause.OUTLASTED


def test_a_consumer_that_took_too_long_outlasted_its_lease() -> None:
    again = received(10 + LEASE * 3, process="c2", attempts=2)

    found = only([*sent(0), FIRST, again])

    assert found == Again(Cause.OUTLASTED, "m-1", handled=False, waited=3 * LEASE)


@pytest.mark.parametrize(
    "events",
    [
        [*sent(0), FIRST, SOON],
        [*sent(0), FIRST, *settled(20, "ack", FIRST), LATER],
    ],
    ids=["during the lease", "after an ack that counted"],
)
def test_what_no_rule_explains_is_unexplained_unless_the_server_forgot(
    events: list[Event],
) -> None:
    assert only(events).cause is Cause.UNEXPLAINED
    assert problems(events, End(stored={"m-1"})), "the checker tells it too"
    assert only(events, End(losses=[Window(0, 5)])).cause is Cause.SERVER


def test_a_message_that_was_received_once_is_not_told() -> None:
    events = [*sent(0), FIRST, *settled(20, "ack", FIRST), event("begun", 12)]

    assert list(agains(stories(events), End())) == []
