"""The circuit in memory, which counts while Redis is away, goes by the rules of the scripts."""

from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.circuit.given import CLOSED, HALF_OPEN, NAME, OPEN
from tests.support.backends import Backend
from tests.support.circuit_clock import let_pass
from tta_agent_coordination import CircuitBreakerConfig
from tta_agent_coordination.circuit.local import LocalCircuit
from tta_agent_coordination.circuit.server import ServerCircuit
from tta_agent_coordination.circuit.view import Outcome, View
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.transport.link import Link

pytestmark = [pytest.mark.guarantee("5.3"), pytest.mark.backend("valkey", "fakeredis")]

CONFIG = CircuitBreakerConfig(3, 60.0, half_open_max_calls=2, success_threshold=2)

MOVES = st.lists(
    st.one_of(
        st.just(("admit",)),
        st.just(("admit",)),
        st.tuples(st.just("settle"), st.integers(0, 5), st.sampled_from(Outcome)),
        st.tuples(st.just("settle"), st.integers(0, 2), st.just(Outcome.FAILURE)),
        st.just(("pass", 60.0)),
        st.just(("pass", 30.0)),
        st.tuples(st.just("set"), st.sampled_from([CLOSED, OPEN, HALF_OPEN])),
    ),
    max_size=25,
)


def told(view: View) -> tuple[Any, ...]:
    """What both must agree about."""
    counts = (view.failures, view.successes, view.probes)
    return (view.phase, *counts, bool(view.opened_at), round(view.seconds_left() / 10.0))


class Both:
    """A circuit in Redis and one in memory, to which the same happens."""

    def __init__(self, backend: Backend, server: ServerCircuit, prefix: str) -> None:
        self.client, self.prefix = backend.client(), prefix
        self.server, self.local = server, LocalCircuit(View())
        self.calls: list[tuple[str, int, int]] = []
        self.made = 0

    def make(self, move: tuple[Any, ...]) -> None:
        getattr(self, f"do_{move[0]}")(*move[1:])
        there, here = self.server.read(CONFIG), self.local.read(CONFIG)
        assert told(here) == told(there)
        assert here.admitted == there.admitted

    def do_admit(self) -> None:
        self.made += 1
        call = f"call-{self.made}"
        there, here = self.server.admit(call, CONFIG), self.local.admit(call, CONFIG)
        assert (told(here), here.admitted) == (told(there), there.admitted)
        if there.admitted:
            self.calls.append((call, there.period, here.period))

    def do_settle(self, which: int, outcome: Outcome) -> None:
        if which >= len(self.calls):
            return
        call, there, here = self.calls.pop(-1 - which)
        seen = self.server.settle(call, there, outcome, CONFIG)
        assert told(self.local.settle(call, here, outcome, CONFIG)) == told(seen)

    def do_pass(self, seconds: float) -> None:
        let_pass(self.client, self.prefix, NAME, seconds)
        # A process that is there renews the places of its probes meanwhile.
        self.server.renew([call for call, _, _ in self.calls])
        self.local._view = attrs.evolve(self.local._view, ends=self.local._view.ends - seconds)

    def do_set(self, phase: Any) -> None:
        assert told(self.local.set(phase, CONFIG)) == told(self.server.set(phase, CONFIG))


@settings(
    max_examples=40,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(moves=MOVES)
@example(moves=[("set", HALF_OPEN), ("admit",), ("set", HALF_OPEN), ("admit",), ("admit",)])
@example(moves=[("set", OPEN), ("pass", 60.0), ("admit",), ("settle", 0, Outcome.SUCCESS)])
def test_whatever_happens_both_stand_alike(
    backend: Backend, key_prefix: str, moves: list[tuple[Any, ...]]
) -> None:
    link = Link(backend.client(), call_timeout=5.0)
    server = ServerCircuit(link.commands, Keys(key_prefix).circuit(NAME))
    both = Both(backend, server, key_prefix)
    try:
        for move in moves:
            both.make(move)
    finally:
        link.close()
        backend.delete_keys(f"{key_prefix}*")


def test_what_does_not_count_changes_nothing_in_memory_either() -> None:
    local = LocalCircuit(View())
    view = local.settle("a call", local.read(CONFIG).period, Outcome.NONE, CONFIG)
    assert (view.phase, view.failures) == (CLOSED, 0)
