"""Waiting for messages: blocked on the server, woken at once, and told of what becomes due."""

import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from redis.cluster import RedisCluster

from tests.conftest import OwnServers
from tests.contract.conftest import Make
from tests.contract.given import (
    FAILED,
    LONG,
    ONE,
    PATIENCE,
    SENDER,
    WORKER,
    InBackground,
    drain,
    message,
    numbers,
    send,
    take,
    together,
)
from tests.support.backends import Backend
from tests.support.servers import Client
from tests.support.waiting import eventually
from tta_agent_coordination import (
    CoordinationError,
    LeaseOutcome,
    ReceivedMessage,
    RedisMessageCoordinator,
    policy,
)
from tta_agent_coordination.coordinator.calls import SHORTEST_WAIT
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.proxy import FaultProxy
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.gate import Gate

pytestmark = pytest.mark.guarantee("2.12")

PROMPT = 0.06
"""Seconds, for a median: a few milliseconds, and what a machine of CI adds to them."""
SOON = 2.0
"""Seconds, for one: far below the 9 s after which a consumer looks by itself."""


@pytest.fixture
def blocked(client: Client) -> Callable[[int], None]:
    """Return when so many consumers are blocked on the server; fakeredis cannot tell."""

    def count() -> int:
        if not isinstance(client, RedisCluster):
            return client.info("clients")["blocked_clients"]
        nodes = client.info("clients", target_nodes=RedisCluster.PRIMARIES).values()
        return sum(node["blocked_clients"] for node in nodes)

    def blocked(consumers: int) -> None:
        if "fakeredis" not in type(client).__module__:
            eventually(lambda: count() >= consumers, what=f"{consumers} are not waiting")

    return blocked


def waiting(coordinator: RedisMessageCoordinator, wait: float = PATIENCE, **options: Any) -> Any:
    """A consumer that waits in the background."""
    lease = options.pop("lease", LONG)
    return InBackground(lambda: coordinator.receive(WORKER, lease, wait=wait), **options)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.monotonic()
    answer = call()
    return answer, time.monotonic() - start


# Without result -------------------------------------------------------------------------------


def test_without_a_wait_the_answer_comes_at_once(coordinator: RedisMessageCoordinator) -> None:
    coordinator.receive(WORKER)
    answer, took = timed(lambda: coordinator.receive(WORKER))
    assert answer is None
    assert took < SOON


@pytest.mark.parametrize("wait", [0.01, 0.25])
def test_a_wait_for_nothing_takes_as_long_as_asked(
    coordinator: RedisMessageCoordinator, wait: float
) -> None:
    answer, took = timed(lambda: coordinator.receive_many(WORKER, 5, wait=wait))
    assert answer == []
    assert wait <= took < wait + SOON


def test_what_is_there_is_not_waited_for(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1, 2)
    answer, took = timed(lambda: coordinator.receive_many(WORKER, 5, LONG, wait=PATIENCE))
    assert numbers(answer) == [1, 2]
    assert took < SOON


# Woken by what arrives ------------------------------------------------------------------------


def test_a_message_that_arrives_is_handed_out_within_milliseconds(make: Make) -> None:
    consumer, sender = make(), make()
    handled = threading.Event()
    sent_at = 0.0
    latencies: list[float] = []

    def consume() -> None:
        for _ in range(15):
            received = consumer.receive(WORKER, wait=PATIENCE)
            latencies.append(time.monotonic() - sent_at)
            assert received is not None
            consumer.ack(WORKER, received.token)
            handled.set()

    with InBackground(consume) as answer:
        for number in range(15):
            threading.Event().wait(0.01)  # it waits again
            sent_at = time.monotonic()
            send(sender, number)
            assert handled.wait(PATIENCE)
            handled.clear()
        answer()
    assert statistics.median(latencies) < PROMPT


def test_many_that_wait_get_a_message_each(make: Make, blocked: Callable[[int], None]) -> None:
    consumer = make()
    stop = threading.Event()

    def act(index: int) -> list[int]:
        if index < 6:
            return numbers([take_waiting(consumer)])
        blocked(6)
        send(consumer, *range(3))
        send(consumer, *range(3, 6))
        stop.set()
        return []

    shares, took = timed(lambda: together(7, act))
    assert sorted(number for share in shares for number in share) == list(range(6))
    assert took < 4 * SOON


def take_waiting(coordinator: RedisMessageCoordinator) -> ReceivedMessage:
    received = coordinator.receive(WORKER, LONG, wait=PATIENCE)
    assert received is not None
    return received


def test_one_message_goes_to_one_of_those_who_wait(
    make: Make, blocked: Callable[[int], None]
) -> None:
    consumer = make()

    def act(index: int) -> int:
        if index == 4:
            blocked(4)
            send(consumer, 1)
            return 0
        return consumer.receive(WORKER, LONG, wait=0.3) is not None

    assert sum(together(5, act)) == 1


def test_eight_that_wait_get_each_of_many_messages_exactly_once(make: Make) -> None:
    consumer, sender = make(), make()
    counts: Counter[int] = Counter()
    lock = threading.Lock()

    def act(index: int) -> None:
        if index == 8:
            for number in range(120):
                send(sender, number)
            send(sender, *[-1] * 8, priority=1)
            return
        while (received := take_waiting(consumer)).message.payload["n"] >= 0:
            assert consumer.ack(WORKER, received.token) is LeaseOutcome.DONE
            with lock:
                counts[received.message.payload["n"]] += 1

    _, took = timed(lambda: together(9, act))
    assert counts == Counter(range(120))
    assert took < PATIENCE


def test_what_arrives_elsewhere_is_not_for_one_who_waits(
    make: Make, blocked: Callable[[int], None]
) -> None:
    coordinator = make()
    with waiting(make()) as answer:
        blocked(1)
        send(coordinator, 1, to=ONE)
        send(coordinator, 2)
        assert numbers([answer()]) == [2]
    assert drain(coordinator, ONE) == [1]


Wake = Callable[[RedisMessageCoordinator, str], object]

WAKERS: dict[str, Wake] = {
    "send_message": lambda c, _: c.send_message(SENDER, WORKER, message()),
    "send_many": lambda c, _: c.send_many(SENDER, [message()]),
    "broadcast": lambda c, _: c.broadcast_message(SENDER, message(), [ONE, WORKER]),
    "release": lambda c, token: c.release(WORKER, token),
    "nack at once": lambda c, token: c.nack(WORKER, token, delay=0),
    "nack with a delay": lambda c, token: c.nack(WORKER, token, delay=0.1),
    "send with a delay": lambda c, _: c.send_message(SENDER, WORKER, message(), delay=0.1),
    "extend to nothing": lambda c, token: c.extend(WORKER, token, 0),
    "extend to a little": lambda c, token: c.extend(WORKER, token, 0.1),
    "replay": lambda c, token: (c.nack(WORKER, token, FAILED), c.replay_dead_letters(WORKER)),
    "replay from elsewhere": lambda c, _: c.replay_dead_letters(ONE, to=WORKER),
}


@pytest.mark.parametrize("way", WAKERS)
def test_whatever_makes_a_message_receivable_wakes_one_who_waits(
    make: Make, blocked: Callable[[int], None], way: str
) -> None:
    coordinator = make()
    send(coordinator, 7, to=ONE)
    coordinator.nack(ONE, take(coordinator, ONE).token, FAILED)
    send(coordinator, 1)
    token = take(coordinator).token
    with waiting(make()) as answer:
        blocked(1)
        start = time.monotonic()
        WAKERS[way](coordinator, token)
        assert answer() is not None
        assert time.monotonic() - start < SOON


# Woken by what becomes due --------------------------------------------------------------------


def late_by(prepare: Callable[[float], object], coordinator: RedisMessageCoordinator) -> float:
    """The median of how late a message is handed out that becomes due while one waits."""
    late: list[float] = []
    for after in (0.03, 0.06, 0.04, 0.07, 0.05):
        prepare(after)
        start = time.monotonic()
        received = coordinator.receive(WORKER, LONG, wait=PATIENCE)
        took = time.monotonic() - start
        assert received is not None
        coordinator.ack(WORKER, received.token)
        late.append(took - after)
    return statistics.median(late)


def test_the_end_of_a_delay_is_met_within_milliseconds(
    coordinator: RedisMessageCoordinator,
) -> None:
    def prepare(after: float) -> None:
        coordinator.send_message(SENDER, WORKER, message(), delay=after)

    assert late_by(prepare, coordinator) < PROMPT


def test_the_end_of_a_lease_is_met_within_milliseconds(
    coordinator: RedisMessageCoordinator,
) -> None:
    def prepare(after: float) -> None:
        send(coordinator, 1)
        take(coordinator, lease=after)

    assert late_by(prepare, coordinator) < PROMPT


def test_the_last_lease_that_ends_is_no_message(make: Make) -> None:
    coordinator = make(retry_attempts=0)
    send(coordinator, 1)
    take(coordinator, lease=0.1)
    answer, took = timed(lambda: coordinator.receive(WORKER, wait=0.3))
    assert answer is None
    assert 0.3 <= took < 0.3 + SOON
    assert coordinator.stats(WORKER).dead == 1


def test_one_who_takes_a_message_and_dies_is_followed_by_one_who_waits(
    make: Make, blocked: Callable[[int], None]
) -> None:
    doomed, patient = make(), make()
    with waiting(doomed, lease=0.15, name="doomed") as first:
        blocked(1)
        with waiting(patient, lease=0.15, name="patient") as second:
            blocked(2)
            send(make(), 1)
            answers = [(first(), time.monotonic()), (second(), time.monotonic())]
    assert all(received is not None for received, _ in answers)
    assert sorted(received.queue_message.delivery_attempts for received, _ in answers) == [1, 2]
    assert abs(answers[1][1] - answers[0][1]) < SOON


@pytest.mark.parametrize("way", ["send with a delay", "nack", "extend"])
def test_the_first_to_know_of_what_becomes_due_tells_another_when_it_leaves(
    make: Make, blocked: Callable[[int], None], way: str
) -> None:
    coordinator, hasty, patient = make(), make(), make()
    send(coordinator, 1)
    token = take(coordinator).token
    for one in (hasty, patient):
        one.stats(WORKER)  # connects, so that waiting begins at once
    due = 1.2
    acts: dict[str, Callable[[], object]] = {
        "send with a delay": lambda: coordinator.send_message(SENDER, WORKER, message(), delay=due),
        "nack": lambda: coordinator.nack(WORKER, token, delay=due),
        "extend": lambda: coordinator.extend(WORKER, token, due),
    }
    with waiting(hasty, 0.8, name="hasty") as first:
        blocked(1)  # so that it is the first to be woken
        with waiting(patient, name="patient") as second:
            blocked(2)
            start = time.monotonic()
            acts[way]()
            assert first() is None, "it leaves before the message is due"
            received = second()
            took = time.monotonic() - start
    assert received is not None
    assert due <= took < due + SOON


def test_the_first_to_be_woken_leaves_what_it_does_not_take_to_another(
    make: Make, blocked: Callable[[int], None]
) -> None:
    coordinator = make()
    with waiting(make(), name="first") as first:
        blocked(1)
        with waiting(make(), name="second") as second:
            blocked(2)
            start = time.monotonic()
            send(coordinator, 1, 2)  # one step, one wake-up
            assert sorted(numbers([first(), second()])) == [1, 2]
            assert time.monotonic() - start < SOON


def test_a_nudge_says_when_to_nudge_again(coordinator: RedisMessageCoordinator) -> None:
    inbox, far = coordinator._inbox, time.monotonic() + 1000
    assert inbox.nudge(WORKER, far) is None, "nothing is due of itself"
    coordinator.send_message(SENDER, WORKER, message(1), delay=50)
    alarm = inbox.nudge(WORKER, far)
    assert alarm is not None
    assert 0 < alarm <= 50
    assert inbox.nudge(WORKER, time.monotonic()) is None, "who waits is gone by then"


def test_a_nudge_that_leaves_something_due_is_soon_followed_by_another(
    coordinator: RedisMessageCoordinator, client: Client, key_prefix: str
) -> None:
    leased = Keys(key_prefix).inbox(WORKER)["leased"]
    client.zadd(leased, {f"gone-{number}": number for number in range(10_001)})
    assert coordinator._inbox.nudge(WORKER, time.monotonic() + 1000) == SHORTEST_WAIT
    assert coordinator._inbox.nudge(WORKER, time.monotonic() + 1000) is None


@pytest.mark.backend("valkey")
@pytest.mark.parametrize(("wait", "staying"), [(0.0, [0]), (0.02, [1, 1, 0])])
def test_who_looks_says_whether_it_stays(
    backend: Backend, proxy: FaultProxy, key_prefix: str, wait: float, staying: list[int]
) -> None:
    place = 2 + len(scripts.CLAIM.keys) + scripts.CLAIM.arguments.index("staying")
    with RedisMessageCoordinator(backend.client_through(proxy), key_prefix) as coordinator:
        coordinator.send_message(SENDER, WORKER, message(1), delay=policy.WAIT_SLICE - 1)
        coordinator.receive(WORKER)  # from now on the server knows the scripts
        proxy.forget()
        assert coordinator.receive(WORKER, wait=wait) is None
        claims = [c.args for c in proxy.commands if c.args[0] == scripts.CLAIM.sha.encode()]
    told = [int(arguments[place]) for arguments in claims]
    assert (told[0], told[-1]) == (staying[0], staying[-1])


@pytest.mark.backend("valkey", "fakeredis", "sandbox")
def test_only_in_memory_a_wait_goes_on_when_the_connections_are_closed(
    coordinator: RedisMessageCoordinator, backend: Backend
) -> None:
    assert coordinator._inbox.waits_to_the_end is backend.in_memory


# How it waits ---------------------------------------------------------------------------------


def test_a_wait_may_be_longer_than_the_time_out_of_the_clients_socket(
    backend: Backend, key_prefix: str, make: Make
) -> None:
    client = backend.client(socket_timeout=0.5)
    with RedisMessageCoordinator(client, key_prefix) as coordinator:
        answer, took = timed(lambda: coordinator.receive(WORKER, wait=0.6))
        assert answer is None
        assert took >= 0.6
        make().send_message(SENDER, WORKER, message(1), delay=0.55)
        answer, took = timed(lambda: coordinator.receive(WORKER, wait=PATIENCE))
        assert answer is not None
        assert 0.5 < took < 0.55 + SOON


@pytest.mark.backend("valkey", "redis62")
def test_a_wait_past_the_time_out_of_a_socket_does_not_become_a_poll(
    backend: Backend, proxy: FaultProxy, key_prefix: str
) -> None:
    client = backend.client_through(proxy, socket_timeout=0.1)
    with RedisMessageCoordinator(client, key_prefix, call_timeout=0.6) as coordinator:
        coordinator.receive(WORKER)
        proxy.forget()
        opened = proxy.connections
        assert coordinator.receive(WORKER, wait=1.2) is None
        assert [command.name for command in proxy.commands] == ["EVALSHA", "BZPOPMIN", "EVALSHA"]
        assert proxy.connections - opened <= 1


def test_a_wait_leaves_other_calls_alone(
    coordinator: RedisMessageCoordinator, blocked: Callable[[int], None]
) -> None:
    with waiting(coordinator) as answer:
        blocked(1)
        for _ in range(10):
            coordinator.stats(WORKER)
        send(coordinator, 1)
        assert numbers([answer()]) == [1], "the calls before it did not wait for it to end"


def test_a_server_that_forgets_its_scripts_meanwhile_wakes_all_the_same(
    own_server: OwnServers,
) -> None:
    server = own_server()
    with (
        RedisMessageCoordinator(server.client()) as sender,
        RedisMessageCoordinator(server.client()) as consumer,
        waiting(consumer) as answer,
    ):
        eventually(lambda: server.admin.info("clients")["blocked_clients"])
        server.admin.script_flush()
        start = time.monotonic()
        send(sender, 1)
        assert numbers([answer()]) == [1]
        assert time.monotonic() - start < SOON


def test_closing_ends_a_wait(backend: Backend, make: Make, blocked: Callable[[int], None]) -> None:
    coordinator = make()
    with waiting(coordinator) as answer:
        blocked(1)
        if backend.in_memory:
            eventually(lambda: coordinator._inbox._interrupts)
        start = time.monotonic()
        coordinator.close()
        coordinator.close()
        with pytest.raises(CoordinationError, match="closed"):
            answer()
        assert time.monotonic() - start < SOON
    with pytest.raises(CoordinationError, match="closed"):
        coordinator.stats(WORKER)


@pytest.mark.backend("fakeredis", "sandbox")
def test_in_memory_nobody_begins_to_wait_while_a_coordinator_closes(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a coordinator of which the waits were ended
    coordinator = make()
    coordinator._inbox.end_waits()

    # then one who comes to wait just then does not block
    monkeypatch.setattr(Gate, "blocking", None)
    assert coordinator.receive(WORKER, wait=0.05) is None


def test_an_idle_consumer_issues_at_most_one_command_every_four_seconds(
    own_server: OwnServers,
) -> None:
    server = own_server()
    with (
        RedisMessageCoordinator(server.client()) as coordinator,
        waiting(coordinator, 8.2) as answer,
    ):
        eventually(lambda: server.admin.info("clients")["blocked_clients"])
        before = commands_of(server.admin)
        assert answer() is None
        # The server counts a blocking command at its end; the other is the last look.
        assert commands_of(server.admin) - before <= 2
    assert policy.WAIT_SLICE / 2 >= 4, "it looks again with two commands"


def commands_of(admin: Any) -> int:
    """Commands that reached a server from consumers since it started."""
    stats = admin.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in OURS)


OURS = ("evalsha", "bzpopmin", "script|load", "script", "eval", "ping", "select")
"""Scripts issue others, but on the server."""
