"""4.2 and 4.3 with real processes: killed, suspended, told to end, and out of breath."""

import random
import secrets
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import OwnServers
from tests.support.servers import LocalServer
from tests.support.waiting import SLACK, eventually
from tests.workers.conftest import Coordinators
from tests.workers.given import ASKER, OWN, SHARED, Scripted, Serve, send
from tests.workers.process import RETRY_ATTEMPTS
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    Liveness,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)

ROOT = Path(__file__).parents[2]
PREFIX = "workers"
END_TIMEOUT = 20.0


class Process:
    """A worker of `tests.workers.process`."""

    def __init__(self, url: str, journal: Path, *options: str) -> None:
        self._journal = journal
        known = ("--url", url, "--prefix", PREFIX, "--journal", str(journal))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.workers.process", *known, *options],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def lines(self) -> list[list[str]]:
        """The journal, which several processes may share."""
        text = self._journal.read_text() if self._journal.exists() else ""
        return [line.split() for line in text.splitlines()]

    def ids(self, word: str) -> list[str]:
        return [line[1] for line in self.lines() if line[0] == word]

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL, unless it has ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit status and what it complained of."""
        _, complaints = self._process.communicate(timeout=END_TIMEOUT)
        return self._process.returncode, complaints


Start = Callable[..., Process]


@pytest.fixture
def server(own_server: OwnServers) -> LocalServer:
    return own_server()


@pytest.fixture
def coordinator(server: LocalServer, coordinators: Coordinators) -> RedisMessageCoordinator:
    return coordinators(server.client(), PREFIX, retry_attempts=RETRY_ATTEMPTS)


@pytest.fixture
def start(server: LocalServer, tmp_path: Path) -> Iterator[Start]:
    """Start a process; whoever is left at the end of the test is killed."""
    with ExitStack() as started:

        def begin(*options: str, journal: str = "journal") -> Process:
            process = Process(server.url, tmp_path / journal, *options)
            started.callback(process.kill)
            return process

        yield begin


@pytest.mark.guarantee("4.2")
def test_nothing_is_lost_when_workers_are_killed(
    coordinator: RedisMessageCoordinator, start: Start
) -> None:
    # given workers on a shared inbox that is being filled
    seed = secrets.randbits(32)
    print(f"seed: {seed}")
    dice = random.Random(seed)
    names = (str(number) for number in range(1000))
    crew = [start("--agent", f"greeter:{next(names)}") for _ in range(3)]
    eventually(lambda: len(crew[0].ids("ready")) == 3, timeout=END_TIMEOUT)
    messages = [AgentMessage(ASKER, SHARED, {"wait": 0.02}) for _ in range(300)]
    coordinator.send_many(ASKER, messages)

    # when some are killed at random moments, and replaced
    pause = threading.Event()
    for _ in range(5):
        pause.wait(dice.uniform(0.05, 0.3))
        victim = crew.pop(dice.randrange(len(crew)))
        victim.kill()
        crew.append(start("--agent", f"greeter:{next(names)}"))

    # then every message is handled, those of the dead ones after their leases
    eventually(lambda: coordinator.internals.held(SHARED) == 0, timeout=30.0)
    ended = Counter(crew[0].ids("end"))
    assert set(ended) == {message.message_id for message in messages}
    assert coordinator.dead_letters(SHARED) == []


@pytest.mark.guarantee("4.2")
def test_the_message_of_a_killed_worker_comes_back_within_its_lease(
    coordinator: RedisMessageCoordinator, start: Start
) -> None:
    process = start("--lease", "1.0")
    send(coordinator, AgentMessage(ASKER, OWN, {"wait": 60.0}))
    eventually(lambda: process.ids("begin"), timeout=END_TIMEOUT)
    process.kill()
    begun = time.monotonic()
    received = coordinator.receive(OWN, 30.0, wait=5.0)
    assert received is not None
    assert time.monotonic() - begun < 1.0 + SLACK
    assert received.queue_message.delivery_attempts == 2


@pytest.mark.guarantee("4.2")
def test_the_ack_of_a_worker_that_was_suspended_for_longer_than_its_lease_is_refused(
    coordinator: RedisMessageCoordinator, start: Start, serve: Serve
) -> None:
    # given a process that is suspended while its handler runs
    process = start("--lease", "0.6", "--agent", "greeter:2")
    message = AgentMessage(ASKER, SHARED, {"wait": 0.3})
    send(coordinator, message)
    eventually(lambda: process.ids("begin"), timeout=END_TIMEOUT)
    process.signal(signal.SIGSTOP)

    # when another worker has handled the message in its place, once
    other = Scripted()
    serve(other, coordinator)
    eventually(lambda: len(other.got) == 1)
    eventually(lambda: coordinator.internals.held(SHARED) == 0)

    # then what it says when it goes on is refused, and it goes on working
    process.signal(signal.SIGCONT)
    eventually(lambda: process.ids("end"))
    assert process.lines()[-1] == ["end", message.message_id, "lost"], "it was told at once"
    send(coordinator, AgentMessage(ASKER, AgentId("greeter", "2"), {}))
    eventually(lambda: len(process.ids("end")) == 2)
    process.signal(signal.SIGTERM)
    status, complaints = process.end()
    assert status == 0
    assert f"message {message.message_id} was handled, but its lease had passed on" in complaints
    assert len(other.got) == 1


@pytest.mark.guarantee("4.3")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_end_finishes_what_it_has_in_hand(
    coordinator: RedisMessageCoordinator, start: Start, number: signal.Signals
) -> None:
    # given a process under load
    process = start("--threads", "4", "--lease", "30")
    messages = [AgentMessage(ASKER, SHARED, {"wait": 0.1}) for _ in range(200)]
    coordinator.send_many(ASKER, messages)
    eventually(lambda: len(process.ids("begin")) >= 20, timeout=END_TIMEOUT)

    # when it is told to end
    process.signal(number)
    assert process.end() == (0, "")

    # then what was begun is finished, nothing is left on lease, and no attempt was lost
    assert sorted(process.ids("begin")) == sorted(process.ids("end"))
    assert process.lines()[-1] == ["stopped", "-"]
    assert coordinator.stats(SHARED).leased == 0
    left = coordinator.receive_many(SHARED, 1000, 30.0)
    assert len(left) + len(process.ids("end")) == 200
    assert {one.queue_message.delivery_attempts for one in left} == {1}


@pytest.mark.guarantee("4.3")
def test_a_worker_ends_when_two_signals_come_at_once(
    coordinator: RedisMessageCoordinator, start: Start
) -> None:
    # given processes with idle threads, which may be given the signals in place of the main one
    agents = [AgentId("greeter", f"p{number}") for number in range(8)]
    processes = [start("--threads", "8", "--agent", str(agent)) for agent in agents]
    for agent in agents:
        send(coordinator, AgentMessage(ASKER, agent, {}))
    eventually(lambda: len(processes[0].ids("end")) == len(agents), timeout=2 * END_TIMEOUT)

    # when each is told to end twice: by Ctrl-C, say, and by what started it
    for process in processes:
        process.signal(signal.SIGINT)
        process.signal(signal.SIGTERM)

    # then each ends, at the latest by the second, should it have left `run` at the first
    assert {process.end()[0] for process in processes} <= {0, -signal.SIGTERM}


@pytest.mark.guarantee("4.3")
def test_another_signal_ends_the_wait_for_handlers(
    coordinator: RedisMessageCoordinator, start: Start
) -> None:
    # given a process that waits for a handler, and has said so
    process = start("--threads", "1", "--lease", "30", "--drain-timeout", "600", "--note-events")
    send(coordinator, AgentMessage(ASKER, OWN, {"wait": 600.0}))
    eventually(lambda: process.ids("begin"), timeout=END_TIMEOUT)
    process.signal(signal.SIGINT)
    eventually(lambda: "worker_drains" in process.ids("log"), timeout=END_TIMEOUT)

    # when it gets signals until that makes a difference
    def has_given_up() -> bool:
        if "handlers_left" in process.ids("log"):
            return True
        process.signal(signal.SIGTERM)
        return False

    eventually(has_given_up, timeout=END_TIMEOUT)

    # then it ends, or the last of them has ended it
    status, complaints = process.end()
    assert status in {0, -signal.SIGTERM}
    assert "worker greeter:1 waits for 1 handler, for 600 s at most; another signal" in complaints
    assert "1 handler left at work; the leases will expire" in complaints


@pytest.mark.guarantee("4.3")
def test_signals_that_come_at_once_leave_handlers_their_time(
    coordinator: RedisMessageCoordinator, start: Start
) -> None:
    process = start("--threads", "1", "--lease", "30")
    send(coordinator, AgentMessage(ASKER, OWN, {"wait": 1.5}))
    eventually(lambda: process.ids("begin"), timeout=END_TIMEOUT)
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        process.signal(number)
    assert process.end() == (0, "")
    assert [line[0] for line in process.lines()] == ["ready", "begin", "end", "stopped"]


@pytest.mark.guarantee("4.3")
def test_others_go_on_with_what_a_worker_that_ends_did_not_begin(
    coordinator: RedisMessageCoordinator, start: Start, serve: Serve
) -> None:
    process = start("--threads", "1", "--lease", "30", "--agent", "greeter:2")
    coordinator.send_many(ASKER, [AgentMessage(ASKER, SHARED, {"wait": 0.2}) for _ in range(5)])
    eventually(lambda: process.ids("begin"), timeout=END_TIMEOUT)
    process.signal(signal.SIGTERM)
    assert process.end() == (0, "")
    done = len(process.ids("end"))
    other = Scripted()
    begun = time.monotonic()
    serve(other, coordinator, threads=8)
    eventually(lambda: len(other.got) == 5 - done)
    assert time.monotonic() - begun < SLACK
    eventually(lambda: coordinator.internals.held(SHARED) == 0)


@pytest.mark.guarantee("4.3")
def test_others_get_what_a_worker_did_not_begin_within_100_ms_of_sigterm(
    coordinator: RedisMessageCoordinator, start: Start, serve: Serve
) -> None:
    # given processes, each of which has claimed a message that it does not begin
    names = [str(number) for number in range(5)]
    processes = [
        start("--threads", "1", "--lease", "60", "--agent", f"greeter:p{name}", "--begins-nothing")
        for name in names
    ]
    coordinator.send_many(ASKER, [AgentMessage(ASKER, SHARED, {}) for _ in names])
    eventually(lambda: coordinator.stats(SHARED).leased == len(names), timeout=END_TIMEOUT)

    # and a worker that waits
    got_at: list[float] = []
    other = serve(Scripted(lambda _: got_at.append(time.monotonic())), coordinator)
    waits: list[float] = []
    for count, process in enumerate(processes, start=1):
        eventually(lambda: all(one._parked for one in other._crew._fetchers.values()))

        # when one is told to end
        begun = time.monotonic()
        process.signal(signal.SIGTERM)
        eventually(lambda count=count: len(got_at) == count)
        waits.append(got_at[-1] - begun)
        assert process.end() == (0, "")

    # then what it had is at work elsewhere; on a machine that has other things to do, mostly
    assert statistics.median(waits) < 0.1, waits


@pytest.mark.guarantee("4.2")
def test_a_handler_that_holds_the_interpreter_keeps_its_lease_and_its_registration(
    server: LocalServer, coordinator: RedisMessageCoordinator, start: Start
) -> None:
    # given a process in which no thread but one can run for 5 s: a lease of 30 s, a ttl of 10 s
    process = start("--lease", "30", "--heartbeat-ttl", "10")
    with RedisAgentRegistry(server.client(), PREFIX, heartbeat_ttl_s=10.0) as registry:
        eventually(lambda: registry.get(OWN), timeout=END_TIMEOUT)
        seen: list[tuple[Liveness, bool]] = []
        send(coordinator, AgentMessage(ASKER, OWN, {"hold": 5.0}))
        eventually(lambda: process.ids("begin"))

        # then it is alive all the time for others, and nobody else gets its message
        def look() -> bool:
            record = registry.get(OWN)
            assert record is not None
            seen.append((record.liveness, coordinator.receive(OWN) is None))
            return bool(process.ids("end"))

        eventually(look, timeout=END_TIMEOUT)
        assert set(seen) == {(Liveness.ALIVE, True)}
        eventually(lambda: coordinator.internals.held(OWN) == 0)
    assert process.lines()[-1][2] == "held"
    [held_for] = process.ids("hold")
    assert float(held_for) >= 5.0


@pytest.mark.guarantee("4.2")
def test_a_handler_that_holds_the_interpreter_for_longer_than_its_lease_loses_it(
    coordinator: RedisMessageCoordinator, start: Start
) -> None:
    # given a handler that lets nobody renew its lease
    process = start("--lease", "0.5")
    send(coordinator, AgentMessage(ASKER, OWN, {"hold": 2.5}))
    eventually(lambda: process.ids("begin"), timeout=END_TIMEOUT)

    # then somebody else gets the message while it runs, and its own end does not count
    received = coordinator.receive(OWN, 30.0, wait=2.0)
    assert received is not None
    eventually(lambda: process.ids("end"), timeout=END_TIMEOUT)
    process.signal(signal.SIGTERM)
    status, complaints = process.end()
    assert (status, "its lease had passed on" in complaints) == (0, True)
    assert coordinator.ack(OWN, received.token)
