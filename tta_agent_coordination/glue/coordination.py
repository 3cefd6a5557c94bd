"""The coordinator and the registry of one application."""

from __future__ import annotations

import logging
import time

import attrs

from tta_agent_coordination.coordinator.core import RedisMessageCoordinator
from tta_agent_coordination.errors import CoordinationError
from tta_agent_coordination.glue.settings import Settings
from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.registry.core import RedisAgentRegistry

logger = logging.getLogger("tta_agent_coordination")

_ASKED_FOR = AgentId("readiness")


@attrs.frozen
class Readiness:
    """Whether this process can do its work.

    Attributes:
        error: The class of the error that Redis was asked with; None: it answered. The text is
            in the log: it may name hosts, and who asks may be anybody.
        seconds: How long the answer took.
    """

    error: str | None
    seconds: float

    @property
    def status(self) -> int:
        """Of HTTP: 200, or 503 when not ready."""
        return 503 if self.error else 200

    def document(self) -> dict[str, object]:
        """Return it for JSON."""
        state = "not ready" if self.error else "ready"
        redis = {"error": self.error, "seconds": round(self.seconds, 6)}
        return {"status": state, "redis": redis}


LIVE: dict[str, object] = {"status": "alive"}
"""What a process answers that can answer at all."""


class Coordination:
    """What an application shares among its threads; a process that is forked has its own.

    It costs nothing until it is used: no connection, no thread.

    Attributes:
        settings: What it was made from.
        coordinator: Carries messages.
        registry: Knows the agents.
    """

    def __init__(self, settings: Settings) -> None:
        """Make them; nothing is connected yet, unless the settings are ``STRICT``.

        Raises:
            ConfigurationError: Something is wrong with the settings.
        """
        settings.check()
        self.settings = settings
        self.coordinator = settings.make(RedisMessageCoordinator)
        self.registry = settings.make(RedisAgentRegistry)
        # It has a deadline and a circuit breaker of its own: others may wait longer.
        timeout = settings.ready_timeout
        self._probe = settings.make(RedisMessageCoordinator, call_timeout=timeout, strict=False)
        self._was_ready = True

    def readiness(self) -> Readiness:
        """Ask Redis for something that needs all that messages need, but writes nothing."""
        begun = time.monotonic()
        error: CoordinationError | None = None
        try:
            self._probe.stats(_ASKED_FOR)
        except CoordinationError as raised:
            error = raised
        self._note(error)
        return Readiness(type(error).__name__ if error else None, time.monotonic() - begun)

    def _note(self, error: CoordinationError | None) -> None:
        before, self._was_ready = self._was_ready, error is None
        if before and error is not None:  # one line a change
            logger.warning("not ready: %s", error, extra={"event": "not_ready"})
        elif error is None and not before:
            logger.info("ready again", extra={"event": "ready"})

    def close(self) -> None:
        """Close the connections and end the threads."""
        self.registry.close()
        self.coordinator.close()
        self._probe.close()
