"""The reporter: collects the results, each file once."""

from __future__ import annotations

from typing import Any

from tta_agent_coordination import AgentMessage
from tta_agent_coordination.demo.role import Role
from tta_agent_coordination.demo.settings import REPORTER


class Reporter(Role):
    """Collects results, and tells them in the end."""

    def start(self) -> None:
        """Begin with none."""
        self._results: dict[str, dict[str, Any]] = {}
        self._repeated = 0

    def on_event(self, message: AgentMessage) -> None:
        """Keep a result, unless there is one of that file.

        Delivery is at least once. An inbox recognizes a result that is sent twice only within its
        dedup window, and hands one out again when its lease passes before the ack arrives. Who
        counts must therefore know what was counted, by the name of the thing and not of the
        message.
        """
        result = message.payload
        self._repeated += self._results.setdefault(result["file"], result) is not result
        self.tell("handled", inbox=str(REPORTER))

    def stop(self) -> None:
        """Tell the results."""
        self.tell("results", results=self._results, repeated=self._repeated)
