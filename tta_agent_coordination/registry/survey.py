"""Asking agents what is new, so that one whose hooks hang holds nobody else up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import attrs

from tta_agent_coordination import threads
from tta_agent_coordination.registry.local import LocalAgent

logger = logging.getLogger("tta_agent_coordination")


@attrs.define(eq=False)
class _Round:
    agents: Sequence[LocalAgent]
    then: Sequence[Callable[[], object]]
    at: LocalAgent | None = None
    seen_at: LocalAgent | None = None

    def run(self) -> None:
        for local in self.agents:
            self.at = local
            local.ask()
        for call in self.then:
            call()
        self.agents, self.then, self.at, self.seen_at = (), (), None, None  # kept by nobody else

    def advances(self) -> bool:
        """Whether it goes on, and has got on since the last look."""
        before, self.seen_at = self.seen_at, self.at
        return self.at is not before


class Survey:
    """Asks agents one after the other, in a thread that lasts for one round.

    A thread that is stuck in a hook is left behind: the next round is another thread, and passes
    over the agent that hangs. So there are at most as many threads as agents that hang, and one; or
    two, while what is called behind the agents does not return.
    """

    def __init__(self) -> None:
        """Begin; no thread runs."""
        self._round: _Round | None = None
        self._refused = False

    def take(
        self,
        agents: Sequence[LocalAgent],
        patience: float,
        then: Sequence[Callable[[], object]] = (),
    ) -> None:
        """Ask `agents`, and return after `patience` seconds at most; what is left goes on.

        Args:
            agents: Whom.
            patience: Seconds.
            then: Is called after them. It may wait, for Redis say, and does not call again what
                has not returned from an earlier round; nobody's hook is held up by it.
        """
        if not agents or (self._round is not None and self._round.advances()):
            return
        self._round = _Round(agents, then)
        try:
            aside(self._round.run, patience)
        except RuntimeError as error:
            self._note_refused(error)
            return
        self._refused = False
        self._round.seen_at = self._round.at

    def _note_refused(self, error: RuntimeError) -> None:
        if not self._refused:  # one line a change, not one a beat
            logger.warning(
                "agents cannot be asked how they are, and their last answers hold: %s",
                error,
                extra={"event": "agents_not_asked"},
            )
        self._refused = True


def aside(call: Callable[[], object], patience: float) -> bool:
    """Call what is the user's in a thread of its own, and wait `patience` seconds for it.

    Returns:
        Whether it is over.

    Raises:
        RuntimeError: No thread can be started.
    """

    def run() -> None:
        call()

    thread = threads.spawn("heartbeat-hooks", run)
    thread.join(patience)
    return not thread.is_alive()
