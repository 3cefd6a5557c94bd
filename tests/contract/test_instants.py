"""What holds up to an instant, and what from it on, to the microsecond: the clock stands still."""

import time
from collections.abc import Callable

import pytest

from tests.contract.conftest import Make, Raw
from tests.contract.given import FAILED, LONG, SENDER, WORKER, drain, message, send, take
from tests.support.raw_inbox import places_of
from tests.support.servers import Client
from tests.support.stopped_clock import MICROSECOND, START, Clock
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    LeaseOutcome,
    RedisMessageCoordinator,
    policy,
)
from tta_agent_coordination.coordinator import outbox
from tta_agent_coordination.coordinator.calls import HORIZON
from tta_agent_coordination.identity import REPLY_TYPE
from tta_agent_coordination.keys import Keys

pytestmark = [pytest.mark.guarantee("2.10"), pytest.mark.backend("fakeredis", "sandbox")]


@pytest.fixture
def is_awake(client: Client, key_prefix: str) -> Callable[[], bool]:
    """Whether there is a wake-up for one who waits; takes it away."""
    return lambda: client.delete(Keys(key_prefix).inbox(WORKER)["wake"]) == 1


Act = Callable[[RedisMessageCoordinator, float], object]


# Who waits is told ----------------------------------------------------------------------------


def send_later(coordinator: RedisMessageCoordinator, seconds: float) -> None:
    coordinator.send_message(SENDER, WORKER, message(0), delay=seconds)


def retry(coordinator: RedisMessageCoordinator, seconds: float) -> None:
    send(coordinator, 1)
    coordinator.nack(WORKER, take(coordinator).token, delay=seconds)


def shorten(coordinator: RedisMessageCoordinator, seconds: float) -> None:
    send(coordinator, 1)
    coordinator.extend(WORKER, take(coordinator).token, seconds)


def take_the_only_one(coordinator: RedisMessageCoordinator, seconds: float) -> None:
    send(coordinator, 1)
    take(coordinator, lease=seconds)


def take_while_one_is_delayed(coordinator: RedisMessageCoordinator, seconds: float) -> None:
    send_later(coordinator, seconds)
    send(coordinator, 1)
    take(coordinator)


def take_while_one_is_delayed_for_long(
    coordinator: RedisMessageCoordinator, seconds: float
) -> None:
    send_later(coordinator, LONG)
    send(coordinator, 1)
    take(coordinator, lease=seconds)


def take_and_wait_no_more(coordinator: RedisMessageCoordinator, seconds: float) -> None:
    send(coordinator, 1)
    assert coordinator.receive(WORKER, seconds, wait=LONG) is not None


def find_nothing(coordinator: RedisMessageCoordinator, seconds: float) -> None:
    send_later(coordinator, seconds)
    assert coordinator.receive(WORKER) is None


def recover(coordinator: RedisMessageCoordinator, seconds: float) -> None:
    send_later(coordinator, seconds)
    coordinator.recover_pending(WORKER)


ACTS: list[Act] = [send_later, retry, shorten, take_the_only_one, take_while_one_is_delayed,
                   take_while_one_is_delayed_for_long, take_and_wait_no_more, find_nothing,
                   recover]  # fmt: skip


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
@pytest.mark.parametrize("early", [1, 0], ids=["before they look", "when they look"])
def test_who_waits_is_told_of_what_is_due_before_they_look_again(
    coordinator: RedisMessageCoordinator, is_awake: Callable[[], bool], act: Act, early: int
) -> None:
    act(coordinator, (HORIZON - early) * MICROSECOND)

    assert is_awake() == bool(early)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("act", [find_nothing, recover, take_while_one_is_delayed])
def test_who_waits_is_told_of_what_is_due_in_a_microsecond(
    coordinator: RedisMessageCoordinator, is_awake: Callable[[], bool], act: Act
) -> None:
    act(coordinator, MICROSECOND)

    assert is_awake()


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("lease", "awake"), [(2.999999, True), (3.0, False), (3.000001, False)])
def test_who_waits_is_told_of_a_lease_that_ends_sooner_than_it_would_have(
    coordinator: RedisMessageCoordinator, is_awake: Callable[[], bool], lease: float, awake: bool
) -> None:
    send(coordinator, 1)
    token = take(coordinator, lease=3).token
    is_awake()

    coordinator.extend(WORKER, token, lease)

    assert is_awake() == awake


def test_who_waits_is_told_of_a_lease_that_is_taken_up_again_after_its_end(
    coordinator: RedisMessageCoordinator, clock: Clock, is_awake: Callable[[], bool]
) -> None:
    send(coordinator, 1)
    token = take(coordinator, lease=1).token
    clock.now += 1_000_000
    assert coordinator.recover_pending(WORKER) == 1
    assert is_awake()

    coordinator.extend(WORKER, token, 1)
    assert is_awake()
    assert coordinator.extend(WORKER, token, LONG)
    assert not is_awake()


@pytest.mark.usefixtures("clock")
def test_one_who_stays_is_told_itself_when_something_is_due(
    coordinator: RedisMessageCoordinator, is_awake: Callable[[], bool]
) -> None:
    send_later(coordinator, 1)

    claim, _ = coordinator._inbox.look(WORKER, 1, LONG, time.monotonic() + LONG)

    assert (claim.messages, claim.due) == ([], 1.0)
    assert not is_awake(), "it nudges the server itself"


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("delay", "lease", "due"), [(9, 5, 5), (5, 9, 5), (None, 5, 5)])
def test_who_takes_a_message_learns_when_the_next_is_due(
    coordinator: RedisMessageCoordinator, delay: float | None, lease: float, due: float
) -> None:
    send(coordinator, 1)
    if delay:
        send_later(coordinator, delay)

    claim, _ = coordinator._inbox.look(WORKER, 1, lease, 0.0)

    assert (len(claim.messages), claim.due) == (1, due)


@pytest.mark.parametrize("lease", [None, 1])
def test_who_takes_what_was_due_learns_when_the_next_is_due(
    coordinator: RedisMessageCoordinator, clock: Clock, lease: int | None
) -> None:
    if lease:
        send(coordinator, 1)
        take(coordinator, lease=lease)
    else:
        send_later(coordinator, 1)
    send_later(coordinator, 5)
    clock.now += 1_000_000

    claim, _ = coordinator._inbox.look(WORKER, 1, LONG, 0.0)

    assert (len(claim.messages), claim.due) == (1, 4)


@pytest.mark.usefixtures("clock")
def test_who_waits_is_told_while_more_is_due_than_a_step_moves(
    coordinator: RedisMessageCoordinator,
    client: Client,
    key_prefix: str,
    is_awake: Callable[[], bool],
) -> None:
    leased = Keys(key_prefix).inbox(WORKER)["leased"]
    client.zadd(leased, {f"gone-{number}": number for number in range(10_001)})
    send_later(coordinator, LONG)

    assert coordinator._inbox.recover_some(WORKER) == (10_000, 0, 1)
    assert is_awake()
    assert coordinator._inbox.recover_some(WORKER) == (1, 60_000_000, 1)
    assert not is_awake()


# What is due ----------------------------------------------------------------------------------


def test_a_delayed_message_is_there_from_the_instant_on_that_it_is_due(
    coordinator: RedisMessageCoordinator, clock: Clock
) -> None:
    send_later(coordinator, 1)
    clock.now += 999_999
    assert drain(coordinator) == []
    clock.now += 1
    assert drain(coordinator) == [0]


def test_a_lease_ends_at_its_deadline(coordinator: RedisMessageCoordinator, clock: Clock) -> None:
    send(coordinator, 1)
    take(coordinator, lease=1)
    clock.now += 999_999
    assert coordinator.recover_pending(WORKER) == 0
    clock.now += 1
    assert coordinator.recover_pending(WORKER) == 1


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("delay", [0, 3])
def test_a_message_expires_at_the_end_of_its_time_to_live_after_its_delay(
    coordinator: RedisMessageCoordinator, clock: Clock, many: bool, delay: int
) -> None:
    for number in (0, 1):
        sent = message(number, ttl=2)
        if many and not delay:
            coordinator.send_many(SENDER, [sent, message(7, to=AgentId("other"))])
            coordinator.send_many(SENDER, [message(8, ttl=100), message(9)])
        else:
            coordinator.send_message(SENDER, WORKER, sent, delay=delay)
        clock.now += (delay + 2) * 1_000_000 - 1 + number
        assert (number in drain(coordinator)) == (number == 0)
    assert [letter.reason for letter in coordinator.dead_letters(WORKER)] == ["expired"]


@pytest.mark.parametrize("end", ["ack", "nack"])
def test_a_message_is_known_until_the_window_ends(
    coordinator: RedisMessageCoordinator, clock: Clock, end: str
) -> None:
    sent = message(1)
    for way in ("send_message", "send_many"):
        coordinator.send_message(SENDER, WORKER, sent)
        token = take(coordinator).token
        _ = (
            coordinator.ack(WORKER, token)
            if end == "ack"
            else coordinator.nack(WORKER, token, FAILED)
        )
        clock.now += 59_999_999
        assert resent(coordinator, way, sent)
        clock.now += 1
        assert not resent(coordinator, way, sent)
        assert coordinator.purge(WORKER) >= 1


def resent(coordinator: RedisMessageCoordinator, way: str, sent: AgentMessage) -> bool:
    """Whether a message that is sent again is known; alone, or among others."""
    if way == "send_message":
        return coordinator.send_message(SENDER, WORKER, sent).duplicate
    return coordinator.send_many(SENDER, [message(2), sent, message(3)])[1].duplicate


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("delay", "place"), [(0, "ready"), (MICROSECOND, "delayed")])
def test_a_retry_is_at_once_or_delayed_however_little(
    coordinator: RedisMessageCoordinator, raw: Raw, delay: float, place: str
) -> None:
    [result] = send(coordinator, 1)
    assert coordinator.nack(WORKER, take(coordinator).token, delay=delay) is LeaseOutcome.DONE

    assert places_of(raw(), result.message_id) == [place]


def test_the_age_of_the_oldest_is_exact(coordinator: RedisMessageCoordinator, clock: Clock) -> None:
    for number, priority in enumerate((5, 1, 9)):
        send(coordinator, number, priority=priority)
        clock.now += 1_000_001
    assert coordinator.stats(WORKER).oldest_ready_age == 3.000003
    clock.now -= 10_000_000
    assert coordinator.stats(WORKER).oldest_ready_age == 0, "the clock was set back"


def test_dead_letters_of_one_instant_keep_their_order_and_the_oldest_go(
    make: Make, clock: Clock, raw: Raw, client: Client, key_prefix: str
) -> None:
    coordinator = make(dead_letter_limit=2)
    names = Keys(key_prefix).inbox(WORKER)
    results = send(coordinator, *range(5))
    for number in range(5):
        coordinator.nack(WORKER, take(coordinator).token, FAILED)
        clock.now += 1
        assert client.exists(names["dead_dropped"]) == int(number > 1)

    kept = {result.message_id for result in results[3:]}
    assert raw().dead == raw().dead_records == kept
    assert coordinator.stats(WORKER).dead_dropped == 3


@pytest.mark.parametrize(
    ("left", "kept"), [(60.0, True), (59.999, False), (0.0004, False)], ids=str
)
def test_marks_go_to_the_older_generation_at_half_of_their_life(
    coordinator: RedisMessageCoordinator,
    clock: Clock,
    client: Client,
    key_prefix: str,
    left: float,
    kept: bool,
) -> None:
    names = Keys(key_prefix).inbox(WORKER)
    send(coordinator, 1, 2)
    coordinator.ack(WORKER, take(coordinator).token)
    clock.now += 120_000_000 - round(left * 1_000_000)

    coordinator.ack(WORKER, take(coordinator).token)

    assert client.exists(names["marks_old"]) == (not kept)
    assert client.hlen(names["marks"]) == 1 + kept
    assert client.pttl(names["marks"]) == (60_000 if kept else 120_000)


def test_a_claim_is_answered_up_to_the_instant_it_is_waited_for(
    coordinator: RedisMessageCoordinator, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(coordinator, 1)
    answer_by = clock.now
    monkeypatch.setattr(coordinator._inbox._clocks, "answer_by", lambda *_: str(answer_by))
    answer_by -= 1
    claim = coordinator._inbox._claim(WORKER, 1, LONG, staying=False)
    assert (claim.messages, claim.due) == ([], 0)
    answer_by += 1
    assert len(coordinator._inbox._claim(WORKER, 1, LONG, staying=False).messages) == 1


def test_an_inbox_is_struck_off_the_list_after_so_long_without_use_and_not_before(
    coordinator: RedisMessageCoordinator, clock: Clock, client: Client, key_prefix: str
) -> None:
    index = f"{key_prefix}:inboxes"
    send(coordinator, 1)
    coordinator.ack(WORKER, take(coordinator).token)
    assert client.zrange(index, 0, -1, withscores=True) == [(str(WORKER).encode(), START)]
    clock.now += round(policy.RECOVERY_GRACE * 1_000_000)
    coordinator.recover_pending()
    assert client.zcard(index) == 1
    assert client.pttl(index) == policy.INDEX_LIFETIME * 1000
    clock.now += 1
    coordinator.recover_pending()
    assert client.zcard(index) == 0


# What the scripts of a send answer ------------------------------------------------------------

STORED, DUPLICATE, UNLISTED, FULL = 1, 2, 3, -3


@pytest.fixture
def answers(
    coordinator: RedisMessageCoordinator, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[int]]:
    """Send under the id of a call, and return what the script answers for each message."""
    sending = coordinator._outbox

    def answers(call: str, *messages: AgentMessage, delay: float = 0.0) -> list[int]:
        monkeypatch.setattr(outbox, "new_call_id", lambda: call)
        letters = [sending.letter(SENDER, WORKER, one, delay) for one in messages]
        command = sending._command(WORKER, letters)
        return coordinator._calls.link.commands.run("", command)[0]

    return answers


@pytest.mark.parametrize("delay", [0.0, 5.0])
@pytest.mark.parametrize("leased", [False, True])
def test_the_first_message_of_an_inbox_without_marks_is_unlisted_and_so_is_its_copy(
    coordinator: RedisMessageCoordinator,
    answers: Callable[..., list[int]],
    delay: float,
    leased: bool,
) -> None:
    first, second = message(1), message(2)
    assert answers("a", first, delay=delay) == [UNLISTED]
    assert answers("b", second, delay=delay) == [STORED]
    if leased:
        coordinator.receive_many(WORKER, 2, LONG)
    assert answers("a", first, delay=delay) == [UNLISTED]
    assert answers("b", second, delay=delay) == [STORED]
    assert answers("c", first, delay=delay) == [DUPLICATE]


@pytest.mark.parametrize("leased", [0, 1, 2])
def test_of_many_the_first_that_is_stored_is_unlisted_and_so_is_its_copy(
    coordinator: RedisMessageCoordinator, answers: Callable[..., list[int]], leased: int
) -> None:
    one, two, three = message(1), message(2), message(3)
    coordinator.configure(queue_size=2)
    for _ in range(2):
        assert answers("a", one, two, one, three) == [UNLISTED, STORED, DUPLICATE, FULL]
    if leased:
        coordinator.receive_many(WORKER, leased, LONG)
    assert answers("a", one, two) == [UNLISTED, STORED]
    assert answers("b", three, two, one) == [FULL, DUPLICATE, DUPLICATE]


def test_where_something_was_finished_of_late_nothing_is_unlisted(
    coordinator: RedisMessageCoordinator, answers: Callable[..., list[int]]
) -> None:
    assert answers("a", message(1)) == [UNLISTED]
    coordinator.ack(WORKER, take(coordinator).token)
    assert answers("b", message(2)) == [STORED]
    coordinator.ack(WORKER, take(coordinator).token)
    assert answers("c", message(3), message(4)) == [STORED, STORED]


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("many", [1, 2])
@pytest.mark.parametrize("delay", [0.0, 5.0])
def test_the_inbox_of_a_process_that_waits_for_replies_fades(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str, many: int, delay: float
) -> None:
    inbox = AgentId(REPLY_TYPE, "1")
    if delay:
        coordinator.send_message(SENDER, inbox, message(to=inbox), delay=delay)
    else:
        coordinator.send_many(SENDER, [message(number, to=inbox) for number in range(many)])
    keys = client.keys(f"{key_prefix}:*")
    assert len(keys) >= 3
    assert {client.pttl(key) for key in keys} == {policy.REPLY_LIFETIME * 1000}
