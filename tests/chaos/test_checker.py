"""The history checker accepts what is right and rejects what is not."""

from attrs import evolve as replace

from tests.chaos.given import LEASE, received, sent, settled
from tta_agent_coordination.chaos.checker import End, Window, problems
from tta_agent_coordination.chaos.history import Event


def complaint(events: list[Event], end: End | None = None) -> str:
    """Return the one problem of a history."""
    found = problems(events, end or End())
    assert len(found) == 1, found
    return str(found[0])


FIRST = received(10)
HANDLED = [*sent(0), FIRST, *settled(20, "ack", FIRST)]


def test_a_message_that_was_handled_is_well() -> None:
    assert problems(HANDLED, End()) == []


def test_what_is_stored_or_dead_is_well() -> None:
    events = [*sent(0), *sent(2, "m-2")]

    assert problems(events, End(stored={"m-1"}, dead={"m-2"})) == []


def test_a_confirmed_message_that_is_nowhere_is_lost() -> None:
    assert "neither handled, nor dead, nor stored" in complaint(sent(0))


def test_a_message_that_was_never_confirmed_may_be_nowhere() -> None:
    assert problems(sent(0)[:1], End(killed={"p"})) == []


def test_an_ack_of_a_killed_process_may_have_counted() -> None:
    assert problems(HANDLED[:-1], End(killed={"c1"})) == []


def test_an_ack_of_a_live_process_that_was_not_confirmed_did_not_count() -> None:
    assert "neither handled" in complaint(HANDLED[:-1])


def test_an_ack_that_was_refused_does_not_count() -> None:
    assert "neither handled" in complaint(
        [*sent(0), FIRST, *settled(LEASE + 20, "ack", FIRST, outcome="STALE")]
    )


def test_a_repeated_ack_counts_once() -> None:
    assert problems([*HANDLED, *settled(30, "ack", FIRST, outcome="ALREADY_DONE")], End()) == []


def test_two_acks_with_effect_are_one_too_many() -> None:
    second = received(LEASE + 20, process="c2", attempts=2)
    found = problems([*HANDLED, second, *settled(LEASE + 30, "ack", second)], End())

    assert "acked with effect under 2 tokens" in found[0].text
    assert "after c1, whose ack counted" in found[1].text


def test_a_message_that_was_acked_is_not_to_be_stored_any_more() -> None:
    assert "still there" in complaint(HANDLED, End(stored={"m-1"}))


def test_a_message_that_nobody_sent_is_invented() -> None:
    assert "nobody sent it" in complaint([FIRST, *settled(20, "ack", FIRST)])


def test_more_deliveries_than_allowed_are_too_many() -> None:
    last = replace(FIRST, attempts=5)

    assert "handed out 5 times" in complaint([*sent(0), last], End(dead={"m-1"}))


def test_a_delivery_after_the_lease_is_explained() -> None:
    second = received(10 + LEASE, process="c2", attempts=2)

    assert problems([*sent(0), FIRST, second], End(stored={"m-1"})) == []


def test_a_delivery_during_the_lease_is_not() -> None:
    second = received(9 + LEASE, process="c2", attempts=2)

    assert "while c1 held it" in complaint([*sent(0), FIRST, second], End(stored={"m-1"}))


def test_a_delivery_after_the_death_of_the_holder_still_waits_for_the_lease() -> None:
    second = received(20, process="c2", attempts=2)
    end = End(stored={"m-1"}, killed={"c1"})

    assert "while c1 held it" in complaint([*sent(0), FIRST, second], end)


def test_a_delivery_during_an_extended_lease_is_not_explained() -> None:
    second = received(10 + LEASE, process="c2", attempts=2)
    extended = settled(20, "extend", FIRST, lease=2 * LEASE)

    found = complaint([*sent(0), FIRST, *extended, second], End(stored={"m-1"}))

    assert "while c1 held it" in found


def test_an_extension_that_was_not_confirmed_proves_nothing() -> None:
    second = received(10 + LEASE, process="c2", attempts=2)
    asked = settled(20, "extend", FIRST, lease=2 * LEASE)[:1]

    end = End(stored={"m-1"}, killed={"c1"})
    assert problems([*sent(0), FIRST, *asked, second], end) == []


def test_an_extension_of_a_later_lease_does_not_lengthen_an_earlier_one() -> None:
    second = received(10 + LEASE, process="c2", attempts=2)
    extended = settled(20 + LEASE, "extend", second, lease=2 * LEASE)

    assert problems([*sent(0), FIRST, second, *extended], End(stored={"m-1"})) == []


def test_a_delivery_after_a_nack_is_explained() -> None:
    second = received(40, process="c2", attempts=2)
    events = [*sent(0), FIRST, *settled(20, "nack", FIRST), second]

    assert problems(events, End(stored={"m-1"})) == []


def test_a_delivery_after_a_nack_that_a_killed_process_began_is_explained() -> None:
    second = received(40, process="c2", attempts=2)
    events = [*sent(0), FIRST, *settled(20, "nack", FIRST)[:1], second]

    assert problems(events, End(stored={"m-1"}, killed={"c1"})) == []


def test_a_release_does_not_count_the_attempt() -> None:
    second = received(40, process="c2")
    events = [*sent(0), FIRST, *settled(20, "release", FIRST), second]

    assert problems(events, End(stored={"m-1"})) == []


def test_a_nack_counts_the_attempt() -> None:
    second = received(40, process="c2")
    events = [*sent(0), FIRST, *settled(20, "nack", FIRST), second]

    assert "attempts went from 1 to 1" in complaint(events, End(stored={"m-1"}))


def test_a_delivery_that_nobody_saw_needs_somebody_killed() -> None:
    second = received(10 + LEASE, process="c2", attempts=3)
    events = [*sent(0), FIRST, second]

    assert "no fault says why" in complaint(events, End(stored={"m-1"}))
    assert problems(events, End(stored={"m-1"}, killed={"c3"})) == []


def test_a_token_that_two_got_is_not_new() -> None:
    second = received(10 + LEASE, process="c2", attempts=2, token=FIRST.token)
    events = [*sent(0), FIRST, second]

    assert "got a token of c1" in complaint(events, End(stored={"m-1"}))


ALL = End(stored={"m-1", "m-2"})


def test_the_order_of_sending_is_the_order_of_first_deliveries() -> None:
    events = [*sent(0), *sent(2, "m-2")]
    late, early = received(20), received(10, "m-2")

    assert "m-2: came before m-1" in complaint([*events, early, late], ALL)
    assert problems([*events, early, late], replace(ALL, replies_lost=True)) == []


def test_what_comes_in_the_order_of_sending_is_well() -> None:
    events = [*sent(0), *sent(2, "m-2"), FIRST, received(11, "m-2")]

    assert problems(events, End(stored={"m-1", "m-2"})) == []


def test_the_order_holds_within_one_step_too() -> None:
    events = [*sent(0), *sent(2, "m-2")]

    assert "m-2: came before m-1" in complaint(
        [*events, received(10, "m-2"), received(10, position=1)], ALL
    )


def test_messages_of_two_priorities_may_come_in_any_order() -> None:
    events = [*sent(0, priority=1), *sent(2, "m-2", priority=9)]

    assert problems([*events, received(10, "m-2"), received(20)], ALL) == []


# Calls that raised, processes that slept, servers that lost their last writes ---------------------


def test_an_ack_that_raised_may_have_counted() -> None:
    events = [*sent(0), FIRST, *settled(20, "ack", FIRST, outcome="UNCERTAIN")]

    assert problems(events, End()) == []


def test_an_ack_that_raised_and_was_then_refused_did_not_count() -> None:
    raised = settled(20, "ack", FIRST, outcome="UNCERTAIN")
    refused = settled(LEASE + 20, "ack", FIRST, outcome="STALE")

    assert "neither handled" in complaint([*sent(0), FIRST, *raised, *refused])


def test_a_nack_that_raised_explains_another_delivery() -> None:
    second = received(40, process="c2", attempts=2)
    events = [*sent(0), FIRST, *settled(20, "nack", FIRST, outcome="UNCERTAIN"), second]

    assert problems(events, End(stored={"m-1"})) == []


def test_an_ack_of_a_process_whose_origin_was_killed_may_have_counted() -> None:
    forked = received(10, process="c1+0")
    events = [*sent(0), forked, *settled(20, "ack", forked)[:1]]

    assert problems(events, End(killed={"c1"})) == []


def test_a_token_that_is_refused_during_its_lease_is_a_broken_promise() -> None:
    events = [*sent(0), FIRST, *settled(20, "ack", FIRST, outcome="UNKNOWN")]

    assert "ack by c1 was UNKNOWN" in complaint(events, End(stored={"m-1"}))


def test_an_extension_that_comes_after_the_ack_may_be_refused() -> None:
    events = [*HANDLED, *settled(30, "extend", FIRST, outcome="STALE", lease=LEASE)]

    assert problems(events, End()) == []


def test_the_clock_of_the_server_is_told_apart_from_that_of_the_processes() -> None:
    offset = 5_000_000
    first = received(10, claimed=10 + offset)
    late = settled(LEASE + 20, "ack", first, outcome="STALE")
    end = End(stored={"m-1"}, clock_offset=offset)

    assert problems([*sent(0), first, *late], end) == []


def test_a_delivery_that_nobody_saw_may_have_met_somebody_who_slept() -> None:
    second = received(10 + LEASE, process="c2", attempts=3)
    events = [*sent(0), FIRST, second]

    assert problems(events, End(stored={"m-1"}, stops=[Window(0, LEASE, "c3")])) == []


def test_a_delivery_that_nobody_saw_may_have_been_lost_with_its_call() -> None:
    second = received(10 + LEASE, process="c2", attempts=3)
    events = [*sent(0), FIRST, second]

    assert problems(events, End(stored={"m-1"}, calls_failed=True)) == []
    assert problems(events, End(stored={"m-1"}, replies_lost=True)) != []


def test_what_the_server_lost_in_its_last_moments_is_told_apart() -> None:
    events = [*sent(0), *sent(5_000, "m-2")]

    lost, by_server = problems(events, End(losses=[Window(4_000, 6_000)]))

    assert (lost.message_id, lost.kind, lost.by_server) == ("m-1", "lost", False)
    assert (by_server.message_id, by_server.kind, by_server.by_server) == ("m-2", "lost", True)


def test_what_a_replica_had_is_not_for_the_server_to_lose() -> None:
    second = received(40, process="c2", attempts=2)
    events = [*sent(0), *sent(2, "m-2"), FIRST, second]

    by_kind = {
        problem.kind: problem.by_server
        for problem in problems(
            events, End(stored={"m-1"}, losses=[Window(0, 50)], replicated=True)
        )
    }

    assert by_kind == {"lost": False, "unexplained": True}


def test_a_repeated_intent_has_one_outcome() -> None:
    again = settled(30, "extend", FIRST, lease=LEASE)
    asked = settled(20, "extend", FIRST, outcome="UNCERTAIN", lease=2 * LEASE)
    second = received(30 + LEASE, process="c2", attempts=2)

    assert problems([*sent(0), FIRST, *asked, *again, second], End(stored={"m-1"})) == []
