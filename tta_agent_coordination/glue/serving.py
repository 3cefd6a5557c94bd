"""Serving agents that are named on a command line."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from typing import Any, cast

from tta_agent_coordination.agents.agent import AgentProxy
from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.glue.coordination import Coordination
from tta_agent_coordination.glue.surrounded import Around, SurroundedAgent
from tta_agent_coordination.worker.core import AgentWorker


def agent_at(path: str) -> AgentProxy:
    """Return the agent that a dotted path names.

    Args:
        path: Of an agent, or of a class or function that makes one without arguments:
            ``shop.agents.Biller`` or ``shop.agents:Biller``.

    Raises:
        ConfigurationError: There is nothing of that name, or it is no agent.
    """
    try:
        found: object = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"there is no agent {path!r}: {error}") from error
    made = found if isinstance(found, AgentProxy) else _made(path, found)
    if not isinstance(made, AgentProxy):
        raise ConfigurationError(
            f"{path!r} is of type {type(made).__name__}, and no agent: name an instance of Agent, "
            "or a class or function that makes one without arguments"
        )
    return made


def serve(
    coordination: Coordination,
    paths: Iterable[str],
    around: Around,
    *,
    registered: bool,
    **options: Any,
) -> None:
    """Serve agents in the main thread until SIGTERM or SIGINT, then drain.

    Args:
        coordination: Carries the messages.
        paths: Of the agents, as for `agent_at`.
        around: What is around each call of them.
        registered: Whether they are registered while they are served.
        **options: Of `AgentWorker`; those that are None keep their defaults.

    Raises:
        ConfigurationError: An agent cannot be found or an option is wrong; nothing was started.
        CoordinationError: Redis cannot be reached.
    """
    found = [agent_at(path) for path in paths]
    known = {name: value for name, value in options.items() if value is not None}
    registry = coordination.registry if registered else None
    try:
        agents = [SurroundedAgent(agent, around) for agent in found]
        worker = AgentWorker(agents, coordination.coordinator, registry, **known)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(str(error)) from error
    worker.run()


def _made(path: str, found: object) -> object:
    if not callable(found):
        return found
    try:
        return cast("Callable[[], object]", found)()
    except TypeError as error:
        raise ConfigurationError(f"{path!r} makes no agent without arguments: {error}") from error
