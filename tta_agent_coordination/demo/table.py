"""The live table of the inboxes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs

from tta_agent_coordination import AgentId, InboxStats, MessagePriority
from tta_agent_coordination.terminal import RED, Column, Row, Table

RATE_WINDOW = 1.0
"""Seconds over which a rate is taken."""

_COLUMNS = (
    Column("inbox", width=10),
    *(Column(title, right=True, width=6) for title in ("ready", "HIGH", "leased", "delayed")),
    Column("dead", right=True, width=4),
    Column("rate", right=True, width=6),
)


@attrs.frozen
class Reading:
    """One inbox at one instant.

    Attributes:
        inbox: Whose.
        stats: What it holds.
        rate: Messages handled, a second.
    """

    inbox: AgentId
    stats: InboxStats
    rate: float

    @property
    def ready(self) -> int:
        """How many can be received."""
        return sum(self.stats.ready.values())

    @property
    def unfinished(self) -> int:
        """How many are not handled yet."""
        return self.ready + self.stats.leased + self.stats.delayed

    def row(self) -> Row:
        """Return its row of the table."""
        urgent = self.stats.ready[MessagePriority.HIGH]
        counts = (self.ready, urgent, self.stats.leased, self.stats.delayed, self.stats.dead)
        cells = (str(self.inbox), *map(str, counts), f"{self.rate:.0f}/s")
        return Row(cells, RED if self.stats.dead else "")


class Rate:
    """How fast a count grows of late."""

    def __init__(self) -> None:
        """Begin without a reading."""
        self._readings: deque[tuple[float, int]] = deque()

    def read(self, count: int, now: float) -> float:
        """Take a reading and return the growth a second over the last `RATE_WINDOW`."""
        readings = self._readings
        readings.append((now, count))
        while now - readings[0][0] > RATE_WINDOW:
            readings.popleft()
        then, earlier = readings[0]
        return (count - earlier) / (now - then) if now > then else 0.0


def table(readings: Sequence[Reading]) -> Table:
    """Return the table of some inboxes."""
    return Table(_COLUMNS, [reading.row() for reading in readings])


def sentence(readings: Sequence[Reading]) -> str:
    """Return the same as one plain line."""
    return "; ".join(
        f"{one.inbox}: {one.ready} ready, {one.stats.leased} leased, {one.stats.delayed} delayed, "
        f"{one.stats.dead} dead, {one.rate:.0f}/s"
        for one in readings
    )
