"""Looking into an inbox, and ending a lease, without consuming anything."""

from __future__ import annotations

import attrs

from tta_agent_coordination import checks
from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.delivery import DeadLetter, LeaseOutcome, ReceivedMessage
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import AgentMessage
from tta_agent_coordination.policy import DEFAULT_DEAD_LETTER_LIMIT


@attrs.frozen
class InboxContents:
    """What an inbox holds.

    Attributes:
        ready: In the order in which they are handed out.
        delayed: The one that is due first, first.
        leased: The one whose lease ends first, first.
        dead: The dead letters, the oldest first.
    """

    ready: tuple[AgentMessage, ...] = ()
    delayed: tuple[AgentMessage, ...] = ()
    leased: tuple[AgentMessage, ...] = ()
    dead: tuple[DeadLetter, ...] = ()

    @property
    def unfinished(self) -> tuple[AgentMessage, ...]:
        """All that are ready, delayed or leased."""
        return self.ready + self.delayed + self.leased


def inbox_of(coordinator: RedisMessageCoordinator, agent_id: AgentId) -> InboxContents:
    """Return what an inbox holds; nothing is received, and no attempt counted.

    What is due, or whose lease has passed, is among the delayed and the leased until somebody
    receives. For inboxes of tests: it reads everything at once.

    Raises:
        CoordinatorUnavailableError: Redis cannot be reached.
        MessageDecodeError: It holds bytes that are no message.
    """
    checks.instance_of("agent_id", agent_id, AgentId)
    inbox = coordinator.internals.feed([agent_id])[0].inbox
    ready, delayed, leased = (
        tuple(inbox.peek(agent_id, place)) for place in ("ready", "delayed", "leased")
    )
    dead = coordinator.dead_letters(agent_id, limit=DEFAULT_DEAD_LETTER_LIMIT)
    return InboxContents(ready, delayed, leased, tuple(dead))


def expire_lease(
    coordinator: RedisMessageCoordinator,
    received: ReceivedMessage,
    agent_id: AgentId | None = None,
) -> None:
    """Let the lease of a message pass now: somebody else can receive it.

    Args:
        coordinator: Of the server that holds it.
        received: What was received; in a handler, ``current_message().received``.
        agent_id: Whose inbox it came from; by default that of its recipient.

    Raises:
        ValueError: The lease is over already, so nothing can be shown with it.
    """
    inbox = received.message.recipient if agent_id is None else agent_id
    outcome = coordinator.extend(inbox, received.token, 0.0)
    if outcome is not LeaseOutcome.DONE:
        raise ValueError(
            f"message {received.message.message_id} in {inbox} is not on this lease any more: "
            f"{outcome.value}"
        )
