"""Every agent has an inbox; consumers of one compete for it."""

from collections import Counter

import pytest

from tests.contract.conftest import Make
from tests.contract.given import LONG, ONE, SENDER, TWO, WORKER, drain, message, send, together
from tests.support.servers import Client
from tta_agent_coordination import AgentId, RedisMessageCoordinator
from tta_agent_coordination.keys import Keys

pytestmark = pytest.mark.guarantee("2.1")


def test_the_shared_inbox_and_those_of_instances_are_apart(
    coordinator: RedisMessageCoordinator,
) -> None:
    for number, inbox in enumerate((WORKER, ONE, TWO)):
        send(coordinator, number, to=inbox)
    assert [drain(coordinator, inbox) for inbox in (TWO, ONE, WORKER)] == [[2], [1], [0]]


@pytest.mark.parametrize("kind", ["_reply", "reply", "_tta-coordination"])
def test_no_inbox_of_an_agent_fades(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str, kind: str
) -> None:
    inbox = AgentId(kind, "1")
    send(coordinator, 1, to=inbox)
    coordinator.receive(inbox, 0.0)
    names = Keys(key_prefix).inbox(inbox)
    assert {client.pttl(names[name]) for name in ("messages", "seq", "states")} == {-1}


ALIKE = [
    "a",
    "A",
    "a.b",
    "a_b",
    "a-b",
    "ready",
    "a:ready",
    "a:messages",
    "inboxes",
    "...",
    "-",
    "0",
]


def test_names_that_look_alike_are_different_inboxes(coordinator: RedisMessageCoordinator) -> None:
    inboxes = [AgentId.parse(name) for name in ALIKE]
    for number, inbox in enumerate(inboxes):
        send(coordinator, number, to=inbox)
    for number, inbox in enumerate(inboxes):
        assert drain(coordinator, inbox) == [number]


def test_the_longest_names_work(coordinator: RedisMessageCoordinator) -> None:
    longest = AgentId("x" * 128, "y" * 128)
    send(coordinator, 1, to=longest)
    assert drain(coordinator, longest) == [1]


def test_an_inbox_needs_no_setup(coordinator: RedisMessageCoordinator) -> None:
    assert coordinator.receive(WORKER) is None
    assert coordinator.receive_many(WORKER, 10) == []
    assert coordinator.recover_pending(WORKER) == coordinator.purge(WORKER) == 0
    assert coordinator.dead_letters(WORKER) == []
    assert coordinator.replay_dead_letters(WORKER) == coordinator.purge_dead_letters(WORKER) == 0


def test_eight_consumers_get_each_message_exactly_once(make: Make) -> None:
    coordinator = make()
    send(coordinator, *range(400))
    consumers = [make() for _ in range(2)]

    def consume(index: int) -> list[int]:
        mine: list[int] = []
        consumer = consumers[index % 2]
        while received := consumer.receive_many(WORKER, 1 + index, LONG):
            mine += [each.message.payload["n"] for each in received]
            assert all(consumer.ack_many(WORKER, [each.token for each in received]))
        return mine

    shares = together(8, consume)

    assert Counter(number for share in shares for number in share) == Counter(range(400))
    assert all(share == sorted(share) for share in shares)
    assert coordinator.stats(WORKER).leased == 0


def test_at_most_as_many_as_asked_for_are_handed_out(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, *range(7))
    assert [len(coordinator.receive_many(WORKER, 3, LONG)) for _ in range(4)] == [3, 3, 1, 0]


def test_a_thousand_at_most_are_handed_out_in_one_step(
    coordinator: RedisMessageCoordinator,
) -> None:
    coordinator.send_many(SENDER, [message(n) for n in range(1005)])
    assert drain(coordinator) == list(range(1000))
    assert len(coordinator.receive_many(WORKER, 10**9, LONG)) == 5
