"""What a worker says to Redis at its end."""

from __future__ import annotations

import time
from collections.abc import Callable

from tta_agent_coordination import policy
from tta_agent_coordination.errors import CoordinatorUnavailableError

_FRESH = policy.DEFAULT_CALL_TIMEOUT
"""Seconds for which Redis counts as away once it was found so; handlers may take longer to end."""


class Farewell:
    """Says one thing after the other, and nothing while Redis is away.

    All of it is courtesy, for leases and registrations end by themselves; and each thing that is
    said to a Redis which does not answer takes as long as a call may.
    """

    def __init__(
        self, failed: Callable[[Exception], object], *, after: Farewell | None = None
    ) -> None:
        """Tell `failed` what goes wrong; say nothing either while `after` finds Redis away."""
        self._failed = failed
        self._after = after
        self._found_at: float | None = None

    @property
    def away(self) -> bool:
        """Whether Redis was away a moment ago."""
        if self._after is not None and self._after.away:
            return True
        return self._found_at is not None and time.monotonic() - self._found_at < _FRESH

    def heard(self, error: BaseException) -> None:
        """Learn from what went wrong elsewhere."""
        if isinstance(error, CoordinatorUnavailableError):
            self._found_at = time.monotonic()

    def say(self, step: Callable[[], object]) -> None:
        """Carry out `step`, unless Redis is away."""
        if self.away:
            return
        try:
            step()
        except Exception as error:  # noqa: BLE001 - what is to end ends all the same
            self.heard(error)
            self._failed(error)
