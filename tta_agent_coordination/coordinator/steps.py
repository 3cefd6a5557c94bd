"""Calls that wait, to be made in steps: for event loops, which cannot."""

from __future__ import annotations

from typing import Any

import attrs

from tta_agent_coordination import checks
from tta_agent_coordination.coordinator.calls import Calls
from tta_agent_coordination.coordinator.inbox import Inbox
from tta_agent_coordination.coordinator.receiving import Receiving
from tta_agent_coordination.coordinator.requests import Asking, Requests
from tta_agent_coordination.identity import AgentId


@attrs.frozen
class Steps:
    """Begins such calls; arguments are checked as by the methods of the coordinator."""

    _calls: Calls
    _inbox: Inbox
    _requests: Requests

    def receiving(
        self, agent_id: AgentId, max_messages: int, visibility_timeout: float, *, wait: float
    ) -> Receiving:
        """Return a ``receive_many`` of which nothing is sent yet."""
        return Receiving(
            self._calls,
            self._inbox,
            checks.instance_of("agent_id", agent_id, AgentId),
            most=checks.count("max_messages", max_messages, least=1),
            visibility=checks.duration("visibility_timeout", visibility_timeout),
            wait=checks.duration("wait", wait),
        )

    def asking(
        self, sender: AgentId, recipient: AgentId, payload: dict[str, Any], *, timeout: float
    ) -> Asking:
        """Return a ``request`` that is not sent yet."""
        return self._requests.asking(
            checks.instance_of("sender", sender, AgentId),
            checks.instance_of("recipient", recipient, AgentId),
            payload,
            checks.duration("timeout", timeout),
        )
