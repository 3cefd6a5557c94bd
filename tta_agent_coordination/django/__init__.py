"""The app for Django; needs the extra ``django``.

Name it in ``INSTALLED_APPS`` and configure it with one dictionary::

    INSTALLED_APPS = [..., "tta_agent_coordination.django"]
    TTA_COORDINATION = {"URL": "redis://...", "KEY_PREFIX": "shop"}

Its keys are the options of `RedisMessageCoordinator` and `RedisAgentRegistry` in capitals.
"""

from __future__ import annotations

from functools import partial
from typing import Any

try:
    from django.conf import settings
    from django.db import transaction
except ImportError as error:
    raise ImportError(
        "Django is not installed: pip install 'tta-agent-coordination[django]'"
    ) from error

from tta_agent_coordination.agents.agent import Agent, AgentProxy
from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.django.database import fresh_connections
from tta_agent_coordination.errors import InboxFullError
from tta_agent_coordination.glue.coordination import Coordination
from tta_agent_coordination.glue.settings import Settings
from tta_agent_coordination.glue.surrounded import SurroundedAgent
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.message import AgentMessage
from tta_agent_coordination.registry.core import RedisAgentRegistry

__all__ = [
    "SETTING",
    "close",
    "configured",
    "coordination",
    "coordinator",
    "registry",
    "send_on_commit",
    "with_fresh_connections",
]

SETTING = "TTA_COORDINATION"
"""The setting that configures it, a dictionary."""

_made: dict[str, Coordination] = {}


def configured() -> Settings:
    """Return what the setting says, unchecked.

    Raises:
        TypeError: It is no dictionary.
    """
    given: Any = getattr(settings, SETTING, {})
    return Settings(dict(given), lambda key: f"{SETTING}[{key!r}]")


def coordination() -> Coordination:
    """Return what this project uses, made at the first call; nothing is connected for that.

    Raises:
        ConfigurationError: The setting is wrong.
    """
    # Two threads that come here at once: one is dropped, which has connected nothing.
    return _made.get(SETTING) or _made.setdefault(SETTING, Coordination(configured()))


def coordinator() -> RedisMessageCoordinator:
    """Return the coordinator of this project, shared by its threads."""
    return coordination().coordinator


def registry() -> RedisAgentRegistry:
    """Return the registry of this project, shared by its threads."""
    return coordination().registry


def close() -> None:
    """Close what is open; the next use begins anew. For tests, and for scripts that go on."""
    old = _made.pop(SETTING, None)
    if old is not None:
        old.close()


def send_on_commit(
    sender: AgentId,
    recipient: AgentId,
    message: AgentMessage,
    *,
    delay: float = 0.0,
    using: str | None = None,
) -> None:
    """Send a message when the transaction in hand commits; at once if there is none.

    So nobody gets the message before what it is about can be read, or if it never can. A process
    that dies between the commit and the sending sends nothing.

    Args:
        sender: As for ``send_message``.
        recipient: As for ``send_message``.
        message: As for ``send_message``.
        delay: Seconds.
        using: The alias of the database.

    Raises:
        InboxFullError: Where the commit is: the inbox is full. The commit holds.
        CoordinatorUnavailableError: There too: Redis cannot be reached.
    """
    transaction.on_commit(partial(_send, sender, recipient, message, delay), using=using)


def with_fresh_connections(agent: AgentProxy) -> Agent:
    """Return an agent that does what `agent` does, and what Django does around a request.

    Around each call, database connections are closed that are broken or older than
    ``CONN_MAX_AGE``. ``run_agent`` does this by itself; it is for a worker of your own.

    Raises:
        TypeError: It cannot handle a message: see `AgentWorker`.
    """
    return SurroundedAgent(agent, fresh_connections)


def _send(sender: AgentId, recipient: AgentId, message: AgentMessage, delay: float) -> None:
    result = coordinator().send_message(sender, recipient, message, delay=delay)
    if not result.delivered:
        raise InboxFullError(f"the inbox of {recipient} takes no message: {result.error}")
