"""A clock that stands still, for what holds up to an instant and what from it on.

In memory the clock is that of the process: tests of the ``fakeredis`` and ``sandbox`` back ends
can stop it.
They must not wait at the server, for no time-out ends while the clock stands.
"""

START = 1_763_956_800_123_456
"""Microseconds since 1970."""
MICROSECOND = 1e-6


class Clock:
    """Goes on when it is told to.

    Attributes:
        now: Microseconds since 1970.
    """

    now = START

    def time(self) -> float:
        """Return seconds since 1970, as ``time.time`` does."""
        return self.now / 1_000_000
