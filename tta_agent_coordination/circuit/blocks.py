"""Which permit belongs to a ``with`` block, when one breaker serves many at a time."""

from __future__ import annotations

from contextvars import ContextVar

from tta_agent_coordination.circuit.permit import Permit

_HERE: ContextVar[tuple[Permit, ...]] = ContextVar("tta_circuit_breaker_blocks", default=())
"""Of the blocks that this thread or task has entered, of all breakers."""


class Blocks:
    """The blocks of one breaker that were entered and not left.

    A block is left where it was entered, in the same thread or task. Not so in a generator of
    which web frameworks run each step in another thread: there the block that was entered last
    is the one that is left.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._entered: dict[str, Permit] = {}

    def enter(self, permit: Permit) -> None:
        """Note that a block begins."""
        self._entered[permit.token] = permit
        _HERE.set((*_HERE.get(), permit))

    def leave(self) -> Permit:
        """Return the permit of the block that ends.

        Raises:
            RuntimeError: No block was entered.
        """
        here = _HERE.get()
        for permit in reversed(here):
            if self._entered.pop(permit.token, None) is not None:
                _HERE.set(tuple(each for each in here if each is not permit and not each.settled))
                return permit
        try:
            return self._entered.popitem()[1]  # the last
        except KeyError:
            raise RuntimeError("a block of a circuit breaker was left and not entered") from None
