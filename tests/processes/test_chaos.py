"""Processes are killed at random instants, and nothing is lost, doubled or unexplained."""

import argparse
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import OwnServers
from tests.processes.checker import End, problems
from tests.processes.conftest import PREFIX, MakeCrew
from tests.processes.crew import Crew
from tests.processes.history import Event, read_all
from tests.processes.work import INBOX, LEASE, RETRY_ATTEMPTS, Work
from tests.support.raw_inbox import KEPT_WHEN_EMPTY, RawInbox, look
from tests.support.servers import LocalServer
from tests.support.waiting import eventually
from tta_agent_coordination.keys import Keys

CHAOS_SECONDS = 12.0
KILL_INTERVAL = 0.3
CONSUMERS, PRODUCERS = 3, 2


def gather(crew: Crew) -> None:
    for _ in range(PRODUCERS):
        crew.add("produce")
    for clock in (-1.0, 0.0, 1.0):
        crew.add("consume", clock=clock)


def bring_chaos(crew: Crew, seconds: float) -> None:
    end = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < end:
        pause.wait(KILL_INTERVAL * crew.dice.uniform(0.5, 1.5))
        crew.replace_one()


def await_progress(folder: Path, *, messages: int) -> None:
    """Return once so many messages were sent, and as many handled."""

    def done(kind: str, verb: str = "") -> bool:
        return sum((e.kind, e.verb) == (kind, verb) for e in read_all(folder)) >= messages

    eventually(lambda: done("sent") and done("settled", "ack"), timeout=30.0, what="no progress")


def drain(server: LocalServer, folder: Path) -> None:
    """Handle what is left, as one more consumer that writes a diary."""
    options = argparse.Namespace(url=server.url, prefix=PREFIX, folder=folder, name="drain", seed=0)
    end = time.monotonic() + 20.0
    with Work(options, lambda: time.monotonic() < end) as work:
        while work.go_on() and look(server.admin, PREFIX, INBOX).messages:
            for item in work.receive(100, LEASE, 0.5):
                work.ack(item)


def clock_offset() -> int:
    return (time.time_ns() - time.monotonic_ns()) // 1000


def end_of(crew: Crew, raw: RawInbox, **known: bool) -> End:
    return End(
        stored=raw.messages,
        dead=raw.dead,
        killed=frozenset(crew.killed),
        deliveries=RETRY_ATTEMPTS + 1,
        clock_offset=clock_offset(),
        **known,
    )


def judge(server: LocalServer, crew: Crew, folder: Path, **known: bool) -> list[Event]:
    """Check the history as it stands, and again when all that is left is handled."""
    raw = look(server.admin, PREFIX, INBOX)
    assert not list(raw.faults())
    assert problems(read_all(folder), end_of(crew, raw, **known)) == []
    drain(server, folder)
    raw = look(server.admin, PREFIX, INBOX)
    assert not raw.messages
    events = read_all(folder)
    assert problems(events, end_of(crew, raw, **known)) == []
    return events


def assert_nothing_is_left(server: LocalServer) -> None:
    """Only marks, which vanish by themselves, dead letters and the list of inboxes."""
    names = Keys(PREFIX).inbox(INBOX)
    allowed = {names[name] for name in KEPT_WHEN_EMPTY} | {Keys(PREFIX).inboxes}
    left = {key.decode() for key in server.admin.scan_iter()}
    assert left <= allowed, left - allowed
    for name in ("marks", "marks_old"):
        assert server.admin.pttl(names[name]) != -1


@pytest.mark.guarantee("2.3")
@pytest.mark.guarantee("2.4")
@pytest.mark.guarantee("2.5")
@pytest.mark.guarantee("2.6")
@pytest.mark.guarantee("2.10")
@pytest.mark.guarantee("2.14")
def test_killed_processes_lose_and_double_nothing(
    own_server: OwnServers, crew_of: MakeCrew, tmp_path: Path
) -> None:
    server = own_server()
    crew = crew_of(server)
    gather(crew)

    bring_chaos(crew, CHAOS_SECONDS)
    crew.end()

    events = judge(server, crew, tmp_path)
    assert_nothing_is_left(server)
    kinds = {event.kind for event in events} | {event.verb for event in events}
    assert kinds >= {"sent", "ack"}
    assert sum(event.kind == "sent" for event in events) > 5
    assert max(event.attempts for event in events) > 1
    assert len(crew.killed) > 5


@pytest.mark.guarantee("2.3")
@pytest.mark.guarantee("2.9")
def test_a_server_that_writes_before_it_answers_loses_nothing_when_it_is_killed(
    own_server: OwnServers, crew_of: MakeCrew, tmp_path: Path
) -> None:
    server = own_server(options=("--appendonly", "yes", "--appendfsync", "always"))
    crew = crew_of(server)
    gather(crew)

    for kills in range(3):
        await_progress(tmp_path, messages=(kills + 1) * 50)
        server.kill()
        server.start()
    await_progress(tmp_path, messages=200)
    crew.end()

    judge(server, crew, tmp_path, replies_lost=True)
    assert_nothing_is_left(server)
