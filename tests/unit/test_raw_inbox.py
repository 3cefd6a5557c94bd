"""A look at bare keys finds what must not be."""

import attrs
import pytest

from tta_agent_coordination.chaos.raw_inbox import RawInbox

NOTHING: frozenset[str] = frozenset()
WELL = RawInbox(
    messages=frozenset({"r", "y", "l"}),
    ready=frozenset({"r"}),
    delayed=frozenset({"y"}),
    leased=frozenset({"l"}),
    dead=frozenset({"d"}),
    dead_records=frozenset({"d"}),
    states=frozenset({"l"}),
    keys=frozenset({"messages", "ready"}),
)
EMPTY = RawInbox(*[NOTHING] * 7, keys=frozenset({"marks", "dead"}))


@pytest.mark.parametrize("raw", [WELL, EMPTY])
def test_an_inbox_in_order_has_no_faults(raw: RawInbox) -> None:
    assert list(raw.faults()) == []


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (attrs.evolve(WELL, leased=frozenset()), "bodies are ['l', 'r', 'y'], but places hold"),
        (attrs.evolve(WELL, leased=frozenset({"l", "r"})), "but places hold ['l', 'r', 'r', 'y']"),
        (attrs.evolve(WELL, states=frozenset({"x"})), "states of no message: ['x']"),
        (attrs.evolve(WELL, dead_records=frozenset()), "dead are ['d'], with records []"),
        (attrs.evolve(EMPTY, keys=frozenset({"seq"})), "empty, but has keys ['seq']"),
    ],
)
def test_each_fault_is_told(raw: RawInbox, fault: str) -> None:
    [told] = raw.faults()

    assert fault in told
