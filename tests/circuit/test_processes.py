"""Several processes share a circuit; some are killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from tests.circuit.conftest import Later, Make
from tests.circuit.given import CLOSED, HALF_OPEN, OPEN, PATIENCE, probes, refused, succeeds, trip
from tests.support.backends import Backend
from tests.support.waiting import eventually
from tta_agent_coordination import policy

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.backend("valkey")


class Caller:
    """A process of `tests.circuit.process`."""

    def __init__(self, url: str, prefix: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.circuit.process", url, prefix],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def heard(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def ask(self, word: str) -> str:
        self.tell(word)
        return self.heard()

    def send(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.communicate(timeout=PATIENCE)
            assert self._process.returncode == 0


Start = Callable[[], Caller]


@pytest.fixture
def start(backend: Backend, key_prefix: str, closing: ExitStack) -> Start:
    """Start a process."""
    return lambda: closing.enter_context(Caller(backend.url or "", key_prefix))


@pytest.mark.guarantee("5.1")
def test_three_processes_open_it_together_and_a_fourth_finds_it_open(start: Start) -> None:
    callers = [start() for _ in range(3)]
    assert [caller.heard() for caller in callers] == ["ready"] * 3
    for caller in callers:
        caller.tell("fail")
    assert [caller.heard() for caller in callers] == ["failed"] * 3
    assert [caller.ask("succeed") for caller in callers] == ["refused"] * 3
    late = start()
    assert late.heard() == "ready"
    assert late.ask("state") == "open"
    assert late.ask("succeed") == "refused"


@pytest.mark.guarantee("5.2")
def test_a_probe_whose_process_is_killed_gives_its_place_back(
    start: Start, make: Make, later: Later
) -> None:
    # given a half-open circuit, two of whose three places a process has that is killed
    breaker = make()
    trip(breaker)
    later(60.0)
    victims = [start(), start()]
    for victim in victims:
        assert victim.heard() == "ready"
        assert victim.ask("hang") == "inside"
    with probes(breaker, 1):
        refused(breaker)
        for victim in victims:
            victim.kill()
        refused(breaker)

        # when their leases have passed
        later(policy.PROBE_LEASE)

        # then the places are free; the live probe keeps its own by renewing it
        breaker._parts.get().decisions.server.renew(list(breaker._parts.get().places._held))
        assert breaker.is_call_permitted()
        succeeds(breaker)
    assert breaker.state is CLOSED


@pytest.mark.guarantee("5.2")
def test_a_process_that_was_suspended_past_its_lease_does_not_disturb_the_others(
    start: Start, make: Make, later: Later
) -> None:
    # given a probe whose process stands still, so that its place goes to others
    breaker = make()
    trip(breaker)
    later(60.0)
    sleeper = start()
    assert sleeper.heard() == "ready"
    assert sleeper.ask("hang") == "inside"
    sleeper.send(signal.SIGSTOP)
    try:
        later(policy.PROBE_LEASE)
        with probes(breaker, 3):
            refused(breaker)
            # when it wakes up and goes on
            sleeper.send(signal.SIGCONT)
            assert sleeper.ask("end") == "done"
            # then it took nobody's place, and its success counts: the period is the same
            metrics = breaker.get_metrics()
            assert (metrics["probes"], metrics["successes"]) == (3, 1)
    finally:
        sleeper.send(signal.SIGCONT)
    eventually(lambda: breaker.state is CLOSED)


@pytest.mark.guarantee("5.1")
def test_a_killed_process_leaves_the_circuit_as_it_was(start: Start, make: Make) -> None:
    victim = start()
    assert victim.heard() == "ready"
    assert [victim.ask("fail") for _ in range(3)] == ["failed"] * 3
    victim.kill()
    breaker = make()
    assert breaker.state is OPEN
    assert refused(breaker).retry_after > 0.0
    assert breaker.state is not HALF_OPEN
