"""The history checker accepts what is right and rejects what is not."""

from dataclasses import replace

from tests.processes.checker import End, problems
from tests.processes.history import Event

LEASE = 1_000_000


def event(kind: str, at: int, message_id: str = "m-1", process: str = "p", **details) -> Event:
    return Event(kind, process, at, message_id, **details)


def sent(at: int, message_id: str = "m-1", **details) -> list[Event]:
    return [
        event("sending", at, message_id, **details),
        event("sent", at + 1, message_id, outcome="stored", **details),
    ]


def received(at: int, message_id: str = "m-1", process: str = "c1", **details) -> Event:
    fields = {"token": f"{process}-{message_id}", "attempts": 1, "claimed": at, "lease": LEASE}
    return event("received", at, message_id, process, **(fields | details))


def settled(
    at: int, verb: str, delivery: Event, outcome: str = "DONE", *, lease: int = 0
) -> list[Event]:
    fields = {"token": delivery.token, "verb": verb, "lease": lease}
    return [
        event("settling", at, delivery.message_id, delivery.process, **fields),
        event("settled", at + 1, delivery.message_id, delivery.process, outcome=outcome, **fields),
    ]


def complaint(events: list[Event], end: End | None = None) -> str:
    """Return the one problem of a history."""
    found = problems(events, end or End())
    assert len(found) == 1, found
    return found[0]


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
        [*sent(0), FIRST, *settled(20, "ack", FIRST, outcome="STALE")]
    )


def test_a_repeated_ack_counts_once() -> None:
    assert problems([*HANDLED, *settled(30, "ack", FIRST, outcome="ALREADY_DONE")], End()) == []


def test_two_acks_with_effect_are_one_too_many() -> None:
    second = received(LEASE + 20, process="c2", attempts=2)
    found = problems([*HANDLED, second, *settled(LEASE + 30, "ack", second)], End())

    assert "acked with effect under 2 tokens" in found[0]
    assert "after c1, whose ack counted" in found[1]


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

    assert "nobody was killed" in complaint(events, End(stored={"m-1"}))
    assert problems(events, End(stored={"m-1"}, killed={"c3"})) == []


def test_a_token_that_two_got_is_not_new() -> None:
    second = received(10 + LEASE, process="c2", attempts=2, token=FIRST.token)
    events = [*sent(0), FIRST, second]

    assert "got a token of c1" in complaint(events, End(stored={"m-1"}))


ALL = End(stored={"m-1", "m-2"})


def test_the_order_of_sending_is_the_order_of_first_deliveries() -> None:
    events = [*sent(0), *sent(2, "m-2")]
    late, early = received(20), received(10, "m-2")

    assert "m-2 came before m-1" in complaint([*events, early, late], ALL)
    assert problems([*events, early, late], replace(ALL, replies_lost=True)) == []


def test_the_order_holds_within_one_step_too() -> None:
    events = [*sent(0), *sent(2, "m-2")]

    assert "m-2 came before m-1" in complaint(
        [*events, received(10, "m-2"), received(10, position=1)], ALL
    )


def test_messages_of_two_priorities_may_come_in_any_order() -> None:
    events = [*sent(0, priority=1), *sent(2, "m-2", priority=9)]

    assert problems([*events, received(10, "m-2"), received(20)], ALL) == []
