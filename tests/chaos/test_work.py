"""What processes write down of what they do, and of what fails."""

import faulthandler
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import attrs
import pytest

from tests.conftest import OwnServers
from tests.support.servers import LocalServer
from tests.support.waiting import eventually
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    CoordinatorUnavailableError,
    LeaseOutcome,
)
from tta_agent_coordination.chaos.history import Event, read_all
from tta_agent_coordination.chaos.produce import send
from tta_agent_coordination.chaos.serve import WatchedCoordinator, WatchedFeed
from tta_agent_coordination.chaos.settings import INBOX, LEASE, PRODUCER, Settings
from tta_agent_coordination.chaos.work import Work
from tta_agent_coordination.coordinator.feed import Feed
from tta_agent_coordination.coordinator.leases import Failure
from tta_agent_coordination.coordinator.records import Delivery

MESSAGE = AgentMessage(PRODUCER, INBOX, {"number": 1, "long": False}, message_id="message-1")
MakeWork = Callable[..., Work]


@pytest.fixture
def server(own_server: OwnServers) -> LocalServer:
    return own_server()


@pytest.fixture
def make_work(server: LocalServer, tmp_path: Path) -> Iterator[MakeWork]:
    """Make the work of a process in this one; its signals are given back."""
    numbers = (signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    with ExitStack() as opened:

        def make(role: str = "produce", **settings: int) -> Work:
            known = Settings(server.url, "work", str(tmp_path), "me", role, **settings)
            return opened.enter_context(Work(known))

        yield make
    for number, handler in before.items():
        signal.signal(number, handler)
    faulthandler.unregister(signal.SIGUSR2)


def kinds(folder: Path) -> list[str]:
    return [event.kind for event in read_all(folder)]


def settlements(folder: Path) -> list[tuple[str, str, str]]:
    return [
        (event.kind, event.verb, event.outcome)
        for event in read_all(folder)
        if event.kind.startswith("settl")
    ]


def send_until(work: Work, folder: Path, kind: str) -> None:
    """Send, and tell to finish once something of this kind is written down."""

    def tell() -> None:
        try:
            eventually(lambda: kind in kinds(folder))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    telling = threading.Thread(target=tell, name="telling")
    telling.start()
    send(work, MESSAGE)
    telling.join()


def test_a_message_that_arrives_is_written_down_twice(make_work: MakeWork, tmp_path: Path) -> None:
    send(make_work(), MESSAGE)

    assert kinds(tmp_path) == ["sending", "sent"]


def test_a_full_inbox_is_asked_again(make_work: MakeWork, tmp_path: Path) -> None:
    work = make_work()
    work.coordinator.configure(queue_size=1)
    work.coordinator.send_message(PRODUCER, INBOX, AgentMessage(PRODUCER, INBOX))

    send_until(work, tmp_path, "refused")

    assert kinds(tmp_path)[:2] == ["sending", "refused"]
    assert "sent" not in kinds(tmp_path)


def test_a_message_without_its_replica_is_not_confirmed(
    make_work: MakeWork, tmp_path: Path
) -> None:
    send_until(make_work(replicas=1), tmp_path, "unreplicated")

    assert kinds(tmp_path)[:2] == ["sending", "unreplicated"]
    assert "sent" not in kinds(tmp_path)


def test_calls_that_raise_are_written_down_as_uncertain(
    make_work: MakeWork, server: LocalServer, tmp_path: Path
) -> None:
    work = make_work()
    server.kill()

    send_until(work, tmp_path, "uncertain")

    assert kinds(tmp_path)[:2] == ["sending", "uncertain"]
    assert work.receive(1) == []


def test_an_ack_is_repeated_until_the_server_answers(
    make_work: MakeWork, server: LocalServer, tmp_path: Path
) -> None:
    work = make_work()
    send(work, MESSAGE)
    [item] = work.receive(1)
    server.kill()
    acking = threading.Thread(target=work.ack, args=[item], name="acking")
    acking.start()
    eventually(lambda: ("settled", "ack", "UNCERTAIN") in settlements(tmp_path))
    server.start()
    acking.join()

    assert settlements(tmp_path)[:2] == [("settling", "ack", ""), ("settled", "ack", "UNCERTAIN")]
    assert settlements(tmp_path)[-1] == ("settled", "ack", "UNKNOWN"), "it came back empty"


def test_a_process_that_was_forked_does_not_fork(make_work: MakeWork) -> None:
    work = make_work()
    work.name = "me+0"
    signal.raise_signal(signal.SIGUSR1)

    work.fork_if_asked()

    assert work.go_on()


# AgentWorker --------------------------------------------------------------------------------------


@pytest.fixture
def feed(make_work: MakeWork) -> Iterator[WatchedFeed]:
    """What a worker fetches from, with one message in it."""
    work = make_work("serve")
    work.coordinator.send_message(PRODUCER, INBOX, MESSAGE)
    with work.make(WatchedCoordinator) as coordinator:
        coordinator.work = work
        [feed] = coordinator.internals.feed([INBOX])
        yield cast("WatchedFeed", feed)


def fetch(feed: WatchedFeed) -> Delivery:
    """Fetch the message."""
    [(inbox, delivery)], refused = feed.exchange({}, 1, LEASE)
    assert (inbox, refused) == (INBOX, [])
    return delivery


def test_what_a_worker_fetches_and_acks_is_written_down(feed: WatchedFeed, tmp_path: Path) -> None:
    delivery = fetch(feed)
    token, stranger = delivery.token, attrs.evolve(delivery, nonce="0" * len(delivery.nonce))

    assert feed.exchange({INBOX: [delivery]}, 1, LEASE) == ([], [])
    assert feed.ack({INBOX: [stranger]}) == [(stranger, LeaseOutcome.STALE)]

    received, *_ = read_all(tmp_path)
    assert isinstance(received, Event)
    assert (received.kind, received.token, received.attempts) == ("received", token, 1)
    assert received.lease == LEASE * 1_000_000
    assert settlements(tmp_path) == [
        ("settling", "ack", ""),
        ("settled", "ack", "DONE"),
        ("settling", "ack", ""),
        ("settled", "ack", "STALE"),
    ]


def test_what_a_worker_asks_for_ahead_is_written_down(
    feed: WatchedFeed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = fetch(feed)
    begun = feed.begin({INBOX: [delivery]}, 1, LEASE)
    assert settlements(tmp_path) == [("settling", "ack", "")]
    assert feed.finish(*begun) == ([], [])

    def refuse(*_given: object) -> None:
        raise CoordinatorUnavailableError("for the test")

    monkeypatch.setattr(Feed, "begin", refuse)
    with pytest.raises(CoordinatorUnavailableError):
        feed.begin({INBOX: [delivery]}, 1, LEASE)

    assert settlements(tmp_path) == [
        ("settling", "ack", ""),
        ("settled", "ack", "DONE"),
        ("settling", "ack", ""),
        ("settled", "ack", "UNCERTAIN"),
    ]


def test_what_a_worker_asks_for_ahead_is_uncertain_when_no_answer_comes(
    feed: WatchedFeed, server: LocalServer, tmp_path: Path
) -> None:
    delivery = fetch(feed)
    server.pause()
    begun = feed.begin({INBOX: [delivery]}, 1, LEASE)
    server.kill()

    assert feed.finish(*begun) is None

    assert settlements(tmp_path) == [("settling", "ack", ""), ("settled", "ack", "UNCERTAIN")]


def test_what_a_worker_gives_back_or_keeps_is_written_down(
    feed: WatchedFeed, tmp_path: Path
) -> None:
    assert feed.inbox.extend(INBOX, [fetch(feed).token], LEASE) == [LeaseOutcome.DONE]
    [extended] = [event for event in read_all(tmp_path) if event.kind == "settled"]
    assert feed.inbox.release(INBOX, extended.token) is LeaseOutcome.DONE
    assert feed.inbox.nack(INBOX, fetch(feed).token, Failure()) == (LeaseOutcome.DONE, "")

    assert [told[1:] for told in settlements(tmp_path) if told[0] == "settled"] == [
        ("extend", "DONE"),
        ("release", "DONE"),
        ("nack", "DONE"),
    ]
    assert extended.lease == LEASE * 1_000_000


def test_calls_of_a_worker_that_raise_are_uncertain(
    feed: WatchedFeed, server: LocalServer, tmp_path: Path
) -> None:
    token = fetch(feed).token
    server.kill()

    with pytest.raises(CoordinatorUnavailableError):
        feed.inbox.release(INBOX, token)

    assert settlements(tmp_path) == [
        ("settling", "release", ""),
        ("settled", "release", "UNCERTAIN"),
    ]


def test_other_inboxes_are_no_concern_of_the_history(feed: WatchedFeed, tmp_path: Path) -> None:
    delivery, other = fetch(feed), AgentId("other")
    token = delivery.token

    assert not feed.inbox.release(other, token)
    assert feed.inbox.extend(other, [token], LEASE) == [LeaseOutcome.UNKNOWN]
    assert feed.inbox.nack(other, token, Failure()) == (LeaseOutcome.UNKNOWN, "")
    assert feed.ack({other: [delivery]}) == [(delivery, LeaseOutcome.UNKNOWN)]

    assert settlements(tmp_path) == []
