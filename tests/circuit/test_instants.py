"""What the scripts of circuit breakers answer, to the microsecond: the clock stands still."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.circuit.given import NAME
from tests.support.servers import Client
from tests.support.stopped_clock import START, Clock
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.scripts import Script

pytestmark = [pytest.mark.guarantee("5.1"), pytest.mark.backend("fakeredis")]

TIMEOUT, LEASE = 10_000_000, 5_000_000
"""Microseconds."""
LIFETIME, RETENTION = 3_600_000, 60_000
"""Milliseconds."""
MOST = THRESHOLD = NEEDED = 2

Answer = dict[str, Any]


class Circuit:
    """A circuit breaker as the scripts know it; each method runs one."""

    def __init__(self, client: Client, keys: dict[str, str]) -> None:
        self.client, self.keys = client, keys

    def admit(self, call: str) -> Answer:
        return self._told(scripts.CIRCUIT_ADMIT, call, MOST, LEASE, LIFETIME)

    def read(self) -> Answer:
        return self._told(scripts.CIRCUIT_READ, MOST)

    def settle(self, call: str, period: int, outcome: str) -> Answer:
        words = (call, period, outcome, THRESHOLD, NEEDED, TIMEOUT, LIFETIME, RETENTION)
        return self._told(scripts.CIRCUIT_SETTLE, *words)

    def set(self, call: str, phase: str) -> Answer:
        return self._told(scripts.CIRCUIT_SET, call, phase, TIMEOUT, LIFETIME, RETENTION)

    def renew(self, *calls: str) -> list[int]:
        return self._run(scripts.CIRCUIT_RENEW, LEASE, LIFETIME, *calls)

    def _told(self, script: Script, *words: str | int) -> Answer:
        admitted, phase, period, failures, successes, probes, left, opened, now = self._run(
            script, *words
        )
        return {
            "admitted": admitted,
            "phase": phase.decode(),
            "period": int(period),
            "counts": (failures, successes, probes),
            "left": left,
            "opened": opened,
            "now": now,
        }

    def _run(self, script: Script, *words: str | int) -> Any:
        keys = [self.keys[name] for name in script.keys]
        return self.client.eval(script.source, len(keys), *keys, *words)


@pytest.fixture
def circuit(client: Client, key_prefix: str) -> Circuit:
    return Circuit(client, Keys(key_prefix).circuit(NAME))


def told(now: int, **changes: Any) -> Answer:
    """What is told of a closed circuit, with changes."""
    closed = {"admitted": 1, "phase": "closed", "period": 0, "counts": (0, 0, 0), "left": 0}
    return {**closed, "opened": 0, "now": now, **changes}


def test_a_closed_circuit_admits_and_writes_nothing(circuit: Circuit, clock: Clock) -> None:
    assert circuit.read() == circuit.admit("a") == told(clock.now)
    assert not circuit.client.exists(*circuit.keys.values())


def test_it_opens_at_the_threshold_and_each_failure_counts_once(
    circuit: Circuit, clock: Clock
) -> None:
    first = told(clock.now, counts=(1, 0, 0))
    assert circuit.settle("a", 0, "failure") == first
    assert circuit.settle("a", 0, "failure") == first, "a copy"
    assert circuit.settle("b", 0, "none") == first
    assert circuit.settle("c", 1, "failure") == first, "of another period"
    clock.now += 1
    opened = {"phase": "open", "period": clock.now, "left": TIMEOUT, "opened": clock.now}
    assert circuit.settle("b", 0, "failure") == told(clock.now, counts=(2, 0, 0), **opened)
    assert circuit.settle("c", 0, "failure")["counts"] == (2, 0, 0)


def test_a_success_ends_the_row(circuit: Circuit, clock: Clock) -> None:
    circuit.settle("a", 0, "failure")
    assert circuit.settle("b", 0, "success") == told(clock.now)
    assert circuit.settle("c", 0, "failure") == told(clock.now, counts=(1, 0, 0))


def opened(circuit: Circuit) -> None:
    """Open it now."""
    for call in ("f1", "f2"):
        circuit.settle(call, 0, "failure")


def test_it_may_be_tried_when_its_time_is_over_and_not_before(
    circuit: Circuit, clock: Clock
) -> None:
    opened(circuit)
    clock.now += TIMEOUT - 1
    closed = {"admitted": 0, "phase": "open", "period": START, "left": 1, "opened": START}
    assert circuit.read() == circuit.admit("p") == told(clock.now, counts=(2, 0, 0), **closed)
    assert circuit.settle("late", START, "success")["counts"] == (2, 0, 0)

    clock.now += 1
    ready = {"phase": "half-open", "period": START, "opened": START}
    assert circuit.read() == told(clock.now, counts=(2, 0, 0), **ready)
    tried = {"phase": "half-open", "period": clock.now, "opened": START}
    assert circuit.admit("p") == told(clock.now, counts=(2, 0, 1), **tried)


@pytest.fixture
def half_open(circuit: Circuit, clock: Clock) -> int:
    """Its period; one probe has a place."""
    opened(circuit)
    clock.now += TIMEOUT
    return circuit.admit("p1")["period"]


def test_so_many_probes_have_a_place_and_a_copy_has_that_of_the_first(
    circuit: Circuit, half_open: int
) -> None:
    assert half_open == START + TIMEOUT
    assert circuit.read()["admitted"] == 1
    answers = [circuit.admit(call) for call in ("p1", "p2", "p3", "p2", "p1")]
    assert [each["admitted"] for each in answers] == [1, 1, 0, 1, 1]
    assert [each["counts"][2] for each in answers] == [1, 2, 2, 2, 2]
    assert circuit.read()["admitted"] == 0


def test_a_place_is_free_when_its_lease_ends_and_not_before(
    circuit: Circuit, clock: Clock, half_open: int
) -> None:
    circuit.admit("p2")
    clock.now += LEASE - 1
    assert circuit.admit("p3")["admitted"] == circuit.read()["admitted"] == 0
    assert circuit.renew("p2", "p3") == [1, 0]
    clock.now += 1
    assert circuit.read()["counts"] == (2, 0, 1)
    assert circuit.admit("p3")["counts"] == (2, 0, 2)
    clock.now += LEASE - 1
    assert circuit.read()["counts"] == (2, 0, 1), "the renewed one is over"
    assert circuit.renew("p2", "p1", "p3") == [1, 0, 1], "nobody has taken its place"
    assert circuit.settle("p1", half_open, "success")["counts"] == (0, 1, 2)


def test_it_closes_at_so_many_successes(circuit: Circuit, clock: Clock, half_open: int) -> None:
    tried = {"phase": "half-open", "period": half_open, "opened": START}
    assert circuit.settle("p1", half_open, "success") == told(clock.now, counts=(0, 1, 0), **tried)
    clock.now += 1
    assert circuit.settle("p2", half_open, "success") == told(clock.now, period=clock.now)
    assert circuit.settle("p3", half_open, "failure") == told(clock.now, period=clock.now)


def test_one_failure_of_a_probe_opens_it_again(
    circuit: Circuit, clock: Clock, half_open: int
) -> None:
    circuit.admit("p2")
    circuit.settle("p1", half_open, "success")
    clock.now += 1
    again = {"phase": "open", "period": clock.now, "left": TIMEOUT, "opened": clock.now}
    assert circuit.settle("p2", half_open, "failure") == told(clock.now, counts=(1, 0, 0), **again)


@pytest.mark.parametrize("back", [0, 1, 1_000_000])
def test_each_change_has_a_later_period_though_the_clock_is_set_back(
    circuit: Circuit, clock: Clock, back: int
) -> None:
    periods = []
    for number in range(4):
        periods.append(circuit.set(f"call-{number}", ["open", "closed"][number % 2])["period"])
        clock.now -= back
    assert periods == [START, START + 1, START + 2, START + 3]


def test_a_change_by_hand_happens_once(circuit: Circuit, clock: Clock) -> None:
    by_hand = {"phase": "open", "period": START, "left": TIMEOUT, "opened": START}
    assert circuit.set("a", "open") == told(clock.now, **by_hand)
    assert circuit.set("b", "half-open")["phase"] == "half-open"
    assert circuit.set("c", "closed") == told(clock.now, period=START + 2)
    assert circuit.set("a", "open") == told(clock.now, period=START + 2)


Step = Callable[[Circuit], object]


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("step", "left"),
    [
        (lambda one: one.settle("a", 0, "failure"), LIFETIME),
        (lambda one: one.set("a", "closed"), LIFETIME),
        (lambda one: one.set("a", "half-open"), LIFETIME),
        (lambda one: one.set("a", "open"), LIFETIME + TIMEOUT // 1000),
    ],
    ids=["a failure", "closed", "half-open", "open"],
)
def test_it_is_forgotten_after_its_lifetime_and_never_while_it_is_open(
    circuit: Circuit, step: Step, left: int
) -> None:
    step(circuit)
    # Times to live are whole milliseconds, and never too short.
    assert left <= circuit.client.pttl(circuit.keys["circuit"]) <= left + 1
    assert circuit.client.pttl(circuit.keys["marks"]) == 2 * RETENTION


def test_probes_are_forgotten_with_it(circuit: Circuit, clock: Clock, half_open: int) -> None:
    assert half_open
    assert circuit.client.pttl(circuit.keys["probes"]) == LIFETIME
    clock.now += 1_000_000
    circuit.renew("p1")
    assert circuit.client.pttl(circuit.keys["probes"]) == LIFETIME
    circuit.set("a", "closed")
    assert not circuit.client.exists(circuit.keys["probes"])


@pytest.mark.parametrize("field", ["phase", "failures", "successes", "opened", "ends", "period"])
@pytest.mark.parametrize("garbage", [None, b"", b"garbage", b"-"])
def test_what_somebody_else_overwrote_counts_as_nothing(
    circuit: Circuit, clock: Clock, field: str, garbage: bytes | None
) -> None:
    circuit.settle("a", 0, "failure")
    if garbage is None:
        circuit.client.hdel(circuit.keys["circuit"], field)
    else:
        circuit.client.hset(circuit.keys["circuit"], field, garbage)
    expected = told(clock.now, counts=(int(field != "failures"), 0, 0))
    assert circuit.read() == expected
    assert circuit.settle("b", 0, "success") == told(clock.now)
