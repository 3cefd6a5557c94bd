"""The figures say what the history says."""

from tests.chaos.given import LEASE, event, handled, received, sent, settled
from tta_agent_coordination.chaos.checker import End, Window
from tta_agent_coordination.chaos.figures import (
    MOST_SHOWN,
    Counts,
    Spread,
    count,
    judge,
    spread,
)

FIRST = received(10)
SECOND = received(10 + 2 * LEASE, process="c2", attempts=2)
DUPLICATE = [
    event("sending", 0),
    event("uncertain", 1),
    event("sending", 2),
    event("refused", 3),
    *sent(4),
    FIRST,
    *handled(15, FIRST),
    SECOND,
    *handled(2 * LEASE + 15, SECOND),
    *settled(2 * LEASE + 20, "ack", SECOND),
]


def test_what_was_done_is_counted() -> None:
    assert count([*DUPLICATE, event("sending", 9, "m-2")], End(killed={"c1"})) == Counts(
        sent=2,
        confirmed=1,
        refused=1,
        uncertain=1,
        deliveries=2,
        handled=1,
        redelivered={"killed": 1},
        duplicates={"killed": 1},
        redelivery=Spread(2.0, 2.0, 2.0),
    )


def test_a_history_in_order_is_judged_so() -> None:
    judgment = judge(DUPLICATE, End(killed={"c1"}))

    assert (judgment.lost, judgment.lost_by_server, judgment.unexplained) == (0, 0, [])


def test_a_message_that_is_lost_is_counted_and_told() -> None:
    judgment = judge(sent(0), End())

    assert judgment.lost == 1
    assert "sent and confirmed" in judgment.unexplained[0]


def test_what_the_server_lost_is_counted_apart_and_not_told() -> None:
    judgment = judge(sent(0), End(losses=[Window(0, 10)]))

    assert (judgment.lost, judgment.lost_by_server) == (0, 1)
    assert judgment.unexplained == []


def test_what_else_the_server_forgot_is_counted_apart_too() -> None:
    acked = [*sent(0), FIRST, *settled(20, "ack", FIRST), SECOND]
    judgment = judge([*acked, *settled(3 * LEASE, "ack", SECOND)], End(losses=[Window(0, 30)]))

    assert (judgment.lost_by_server, judgment.forgotten_by_server) == (0, 2)
    assert judgment.unexplained == []


def test_a_delivery_without_a_cause_is_told() -> None:
    soon = received(40, process="c2", attempts=2)

    judgment = judge([*sent(0), FIRST, soon], End(stored={"m-1"}))

    [told] = judgment.unexplained
    assert "while c1 held it" in told


def test_many_problems_are_told_in_short() -> None:
    lost = [one for number in range(MOST_SHOWN + 5) for one in sent(number, f"m-{number:03}")]

    judgment = judge(lost, End())

    assert judgment.lost == MOST_SHOWN + 5
    assert len(judgment.unexplained) == MOST_SHOWN + 1
    assert judgment.unexplained[-1] == "and 5 more"


def test_percentiles_are_those_of_the_ordered_values() -> None:
    assert spread([]) is None
    assert spread([3.0]) == Spread(3.0, 3.0, 3.0)
    assert spread([5.0, 3.0]) == Spread(5.0, 5.0, 5.0)
    assert spread([7.0, 5.0, 3.0]) == Spread(5.0, 7.0, 7.0)
    assert spread([float(n) for n in range(100)]) == Spread(50.0, 99.0, 99.0)
    assert spread([float(n) for n in range(200, 0, -1)]) == Spread(101.0, 199.0, 200.0)
