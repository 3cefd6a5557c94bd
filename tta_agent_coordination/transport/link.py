"""A link: the route to the servers and the gates on it, good across forks."""

from __future__ import annotations

import threading

from tta_agent_coordination import checks, forks, policy
from tta_agent_coordination.events import Events
from tta_agent_coordination.transport.advice import Contact
from tta_agent_coordination.transport.connections import Route, route_to
from tta_agent_coordination.transport.gate import Gate


class Link:
    """The connections of one coordinator.

    Attributes:
        commands: The gate for everything but leases.
        leases: The gate for ack, nack, extend and release, with a breaker of its own.
        events: Who is told what happens here, and where it is used.
    """

    def __init__(
        self,
        target: object,
        *,
        call_timeout: float,
        name: str = "redis",
        events: Events | None = None,
    ) -> None:
        """Check `target`; nothing is connected before the first call.

        Args:
            target: As for `route_to`.
            call_timeout: Seconds that a call may take.
            name: Of the gates, for the log.
            events: Who is told; nobody yet if there is none.

        Raises:
            TypeError: `target` is no synchronous client of redis-py, or `call_timeout` no number.
            ValueError: `call_timeout` is 0, negative or not finite.
        """
        if checks.duration("call_timeout", call_timeout) == 0:
            raise ValueError("call_timeout must be more than 0 seconds")
        self._target = target
        self._limit = call_timeout / policy.ATTEMPTS_IN_A_CALL
        self._current: Route | None = route_to(target, limit=self._limit)
        self._making = threading.Lock()
        self.events = Events() if events is None else events
        self._contact = Contact()
        self.commands = self._gate(f"{name}-commands", call_timeout)
        self.leases = self._gate(f"{name}-leases", call_timeout)
        forks.in_child(self._renew)

    def route(self) -> Route:
        """Return the route; a child process gets one of its own, with its own connections."""
        forks.notice()
        current = self._current
        return self._made() if current is None else current

    def _gate(self, name: str, call_timeout: float) -> Gate:
        return Gate(
            self.route,
            name=name,
            call_timeout=call_timeout,
            events=self.events,
            contact=self._contact,
        )

    def close(self) -> None:
        """Refuse further calls and close every connection."""
        self.commands.close()
        self.leases.close()
        self.route().close()

    def _renew(self) -> None:
        self._making = threading.Lock()
        self._current = None
        self.commands.renew()
        self.leases.renew()

    def _made(self) -> Route:
        # Not at the fork itself: another thread of the parent may hold a lock of the client's.
        with self._making:
            if self._current is None:
                self._current = route_to(self._target, limit=self._limit)
            return self._current
