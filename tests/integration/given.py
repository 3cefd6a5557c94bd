"""What the tests of the command line have in common."""

import json
from collections.abc import Callable
from typing import Any

import attrs

from tta_agent_coordination import AgentId, AgentMessage, FailureType, RedisMessageCoordinator

OPERATOR, INBOX, OTHER = AgentId("operator"), AgentId("analyst"), AgentId("analyst", "2")


@attrs.frozen
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)


Run = Callable[..., Ran]


def send(coordinator: RedisMessageCoordinator, message_id: str, **fields: Any) -> None:
    message = AgentMessage(OPERATOR, INBOX, {"path": "a.py"}, message_id=message_id, **fields)
    assert coordinator.send_message(OPERATOR, INBOX, message).delivered


def bury(
    coordinator: RedisMessageCoordinator, *message_ids: str, error: str | None = "no Python"
) -> None:
    """Make dead letters, one after the other."""
    for message_id in message_ids:
        send(coordinator, message_id)
        received = coordinator.receive(INBOX)
        assert received is not None
        assert coordinator.nack(INBOX, received.token, FailureType.PERMANENT, error)
