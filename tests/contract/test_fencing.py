"""An older token can do nothing once the message is somebody else's or finished."""

from collections.abc import Callable

import pytest

from tests.contract.conftest import Later, Make
from tests.contract.given import FAILED, LONG, ONE, WORKER, drain, lapsed, send, take
from tests.support.servers import Client
from tta_agent_coordination import LeaseOutcome, RedisMessageCoordinator
from tta_agent_coordination.coordinator import leases
from tta_agent_coordination.keys import INBOX_KEYS, Keys

DONE, ALREADY_DONE = LeaseOutcome.DONE, LeaseOutcome.ALREADY_DONE
STALE, UNKNOWN = LeaseOutcome.STALE, LeaseOutcome.UNKNOWN

Settle = Callable[[RedisMessageCoordinator, str], LeaseOutcome]

SETTLE: dict[str, Settle] = {
    "ack": lambda c, token: c.ack(WORKER, token),
    "ack_many": lambda c, token: c.ack_many(WORKER, [token])[0],
    "nack": lambda c, token: c.nack(WORKER, token),
    "nack at once": lambda c, token: c.nack(WORKER, token, delay=0),
    "nack for ever": lambda c, token: c.nack(WORKER, token, FAILED, "gone"),
    "extend": lambda c, token: c.extend(WORKER, token, 1000),
    "extend to nothing": lambda c, token: c.extend(WORKER, token, 0),
    "release": lambda c, token: c.release(WORKER, token),
}


def all_answer(outcome: LeaseOutcome, coordinator: RedisMessageCoordinator, token: str) -> bool:
    """Whether every way to settle a token is answered so; the ways that are not, fail the test."""
    answers = {way: settle(coordinator, token) for way, settle in SETTLE.items()}
    assert answers == dict.fromkeys(SETTLE, outcome), token
    return True


every_way = pytest.mark.parametrize("way", SETTLE)
pytestmark = pytest.mark.guarantee("2.5")


@pytest.fixture
def stored(client: Client, key_prefix: str) -> Callable[[], object]:
    """All that the inbox of WORKER holds, byte for byte."""
    names = Keys(key_prefix).inbox(WORKER)
    hashes = ("messages", "states", "claims", "marks", "marks_old", "dead_records")
    sets = ("ready", "delayed", "leased", "wake", "dead")

    def stored() -> object:
        found = [sorted(client.hgetall(names[name]).items()) for name in hashes]
        found += [client.zrange(names[name], 0, -1, withscores=True) for name in sets]
        return found

    assert {*hashes, *sets} | {"seq", "dead_dropped"} == set(INBOX_KEYS)
    return stored


def test_a_token_is_new_at_each_delivery(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, *range(20))
    tokens: list[str] = []
    for _ in range(3):
        taken = coordinator.receive_many(WORKER, 20, LONG)
        tokens += [each.token for each in taken]
        assert all(coordinator.release(WORKER, each.token) for each in taken)
    assert len(set(tokens)) == 60


def test_after_the_message_was_handed_out_again_the_old_token_is_stale(
    make: Make, later: Later, stored: Callable[[], object]
) -> None:
    slow, quick = make(), make()
    send(slow, 1)
    old = take(slow, lease=10)
    later(11)
    new = take(quick)
    before = stored()

    assert all_answer(STALE, slow, old.token)

    assert stored() == before
    assert quick.ack(WORKER, new.token) is DONE


@pytest.mark.parametrize("finish", ["ack", "nack for ever"])
def test_after_the_message_was_finished_by_another_the_old_token_is_stale(
    make: Make, later: Later, stored: Callable[[], object], finish: str
) -> None:
    slow, quick = make(), make()
    send(slow, 1)
    old = take(slow, lease=10)
    later(11)
    SETTLE[finish](quick, take(quick).token)
    before = stored()

    assert all_answer(STALE, slow, old.token)

    assert stored() == before


def test_after_the_message_died_of_its_last_lease_the_token_is_stale(
    make: Make, later: Later
) -> None:
    coordinator = make(retry_attempts=0)
    token = lapsed(coordinator, later)
    coordinator.recover_pending(WORKER)
    assert all_answer(STALE, coordinator, token)
    assert len(coordinator.dead_letters(WORKER)) == 1


@every_way
@pytest.mark.parametrize("recovered", [False, True])
def test_a_late_call_counts_while_nobody_else_got_the_message(
    coordinator: RedisMessageCoordinator, later: Later, way: str, recovered: bool
) -> None:
    token = lapsed(coordinator, later)
    if recovered:
        assert coordinator.recover_pending(WORKER) == 1
    assert SETTLE[way](coordinator, token) is DONE


def test_a_late_ack_ends_the_message(coordinator: RedisMessageCoordinator, later: Later) -> None:
    token = lapsed(coordinator, later)
    coordinator.recover_pending(WORKER)
    assert coordinator.ack(WORKER, token) is DONE
    assert coordinator.receive(WORKER) is None
    assert coordinator.dead_letters(WORKER) == []


def test_a_late_extend_hides_the_message_again(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    token = lapsed(coordinator, later)
    coordinator.recover_pending(WORKER)
    assert coordinator.extend(WORKER, token, LONG) is DONE
    assert coordinator.receive(WORKER) is None
    assert coordinator.ack(WORKER, token) is DONE


SETTLED_ANOTHER_WAY = [
    (first, second)
    for first in ("ack", "nack", "nack for ever", "release")
    for second in ("ack", "nack", "extend", "release")
    if first.split()[0] != second
]


@pytest.mark.parametrize(("first", "second"), SETTLED_ANOTHER_WAY)
def test_what_was_settled_one_way_cannot_be_settled_another(
    coordinator: RedisMessageCoordinator, stored: Callable[[], object], first: str, second: str
) -> None:
    send(coordinator, 1)
    token = take(coordinator).token
    assert SETTLE[first](coordinator, token) is DONE
    before = stored()
    assert SETTLE[second](coordinator, token) is STALE
    assert stored() == before


def forgeries(token: str) -> list[str]:
    nonce, _, message_id = token.partition(":")
    return [
        "", ":", "::", "x", message_id, nonce, f"{nonce}:", f":{message_id}",
        f"{nonce[:-1]}:{message_id}", f"{nonce}0:{message_id}", f"{nonce.upper()}X:{message_id}",
        f"{'0' * 16}:{message_id} ", f"{nonce}:{message_id}x", f"{nonce}:{message_id}:",
        f"{nonce} {message_id}", f" {token}", f"{nonce}:{message_id}\n", f"{nonce}:\0{message_id}",
        f"{nonce}:\ud800", f"{nonce}:\udc80", "\ud800" * 16 + ":" + message_id, "é" * 16 + ":x",
        "-" * 16 + ":" + message_id, "- - - - - - - - :" + message_id, f"{nonce}:{'x' * 100_000}",
        f"{nonce}:*", f"%d%s%n{nonce}", "*" * 16 + ":*", "0" * 16 + ": " + nonce,
    ]  # fmt: skip


def test_a_token_that_was_never_given_out_is_unknown_and_does_nothing(
    coordinator: RedisMessageCoordinator, stored: Callable[[], object]
) -> None:
    send(coordinator, 1)
    received = take(coordinator)
    before = stored()

    for forged in forgeries(received.token):
        assert all_answer(UNKNOWN, coordinator, forged)

    assert stored() == before
    assert coordinator.ack(WORKER, received.token) is DONE


def test_a_forged_nonce_for_a_message_that_is_there_holds_no_power(
    coordinator: RedisMessageCoordinator, stored: Callable[[], object]
) -> None:
    _, sent = send(coordinator, 1, 2)
    received = take(coordinator)
    coordinator.release(WORKER, take(coordinator).token)
    ready_id = sent.message_id
    before = stored()
    for message_id in (received.message.message_id, ready_id):
        for nonce in ("0" * 16, "f" * 16, "A" * 16):
            assert all_answer(STALE, coordinator, f"{nonce}:{message_id}")
    assert stored() == before


def test_a_token_of_another_inbox_is_unknown(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1, to=ONE)
    token = take(coordinator, ONE).token
    assert all_answer(UNKNOWN, coordinator, token)
    assert coordinator.ack(ONE, token) is DONE


def test_a_token_of_another_message_does_not_reach_this_one(
    coordinator: RedisMessageCoordinator,
) -> None:
    send(coordinator, 1, 2)
    first, second = take(coordinator), take(coordinator)
    crossed = f"{first.token.partition(':')[0]}:{second.message.message_id}"
    assert all_answer(STALE, coordinator, crossed)
    assert coordinator.ack_many(WORKER, [first.token, second.token]) == [DONE, DONE]


def test_after_purge_a_token_is_unknown(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1)
    token = take(coordinator).token
    assert coordinator.purge(WORKER) == 1
    assert all_answer(UNKNOWN, coordinator, token)


def test_an_ack_of_many_answers_for_each(
    coordinator: RedisMessageCoordinator, later: Later
) -> None:
    send(coordinator, 0)
    stale = take(coordinator, lease=10).token
    later(11)
    good = take(coordinator).token
    tokens = [good, stale, "forged", good, f"{'0' * 16}:nothing"]
    answers = coordinator.ack_many(WORKER, tokens)
    assert answers == [DONE, STALE, UNKNOWN, ALREADY_DONE, UNKNOWN]
    assert coordinator.ack_many(WORKER, []) == []
    assert coordinator.ack_many(WORKER, ["forged"]) == [UNKNOWN]


def test_an_outcome_is_true_when_it_holds() -> None:
    assert [outcome for outcome in LeaseOutcome if outcome] == [DONE, ALREADY_DONE]


def test_a_lease_of_another_coordinator_can_be_settled_with_its_token(make: Make) -> None:
    send(make(), 1)
    token = take(make()).token
    assert make().ack(WORKER, token) is DONE


def test_only_one_of_two_holders_can_finish_a_message(make: Make, later: Later) -> None:
    coordinator = make(backoff_base=0)
    send(coordinator, 1)
    old = take(coordinator, lease=10)
    later(11)
    new = take(coordinator)
    outcomes = [coordinator.nack(WORKER, old.token), coordinator.nack(WORKER, new.token)]
    assert outcomes == [STALE, DONE]
    assert drain(coordinator) == [1]


def test_a_token_that_is_there_twice_counts_once(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1, 2)
    first, second = take(coordinator).token, take(coordinator).token
    unknown = f"{'0' * 16}:nobody"
    tokens = [first, unknown, second, first]
    assert coordinator.ack_many(WORKER, tokens) == [DONE, UNKNOWN, DONE, ALREADY_DONE]
    assert coordinator.ack_many(WORKER, [first, "no token"]) == [ALREADY_DONE, UNKNOWN]


def test_of_two_tokens_of_one_message_only_the_live_one_counts(
    coordinator: RedisMessageCoordinator,
) -> None:
    send(coordinator, 1)
    old = take(coordinator).token
    coordinator.release(WORKER, old)
    new = take(coordinator).token
    assert coordinator.ack_many(WORKER, [old, new, old]) == [STALE, DONE, STALE]


@pytest.mark.parametrize("way", ["nack at once", "release"])
def test_a_copy_of_a_call_that_comes_when_another_has_the_message_does_nothing_and_is_done(
    make: Make, stored: Callable[[], object], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The reply to the first was lost, say, and meanwhile somebody took what it gave back."""
    coordinator = make()
    monkeypatch.setattr(leases, "new_call_id", lambda: "5" * 16)
    send(coordinator, 1)
    token = take(coordinator).token
    assert SETTLE[way](coordinator, token) is DONE
    take(make())
    before = stored()

    assert SETTLE[way](coordinator, token) is DONE

    assert stored() == before


@pytest.mark.backend("valkey")
def test_thousands_of_tokens_are_settled_in_scripts_of_a_thousand(
    coordinator: RedisMessageCoordinator, client: Client
) -> None:
    send(coordinator, *range(2100))
    tokens = [one.token for one in coordinator.receive_many(WORKER, 2100, LONG)]
    before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert coordinator.ack_many(WORKER, tokens) == [DONE] * 2100
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] - before <= 4
