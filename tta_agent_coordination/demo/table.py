"""The live table: drawn again in place on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TextIO

import attrs

from tta_agent_coordination import AgentId, InboxStats, MessagePriority

PLAIN_INTERVAL = 1.0
"""Seconds between two lines where there is no terminal."""
RATE_WINDOW = 1.0
"""Seconds over which a rate is taken."""

_COLUMNS = ("inbox", "ready", "HIGH", "leased", "delayed", "dead", "rate")
_WIDTHS = (10, 7, 6, 7, 8, 6, 8)
_BOLD, _RED, _RESET, _CLEAR_BELOW = "\x1b[1m", "\x1b[31m", "\x1b[0m", "\x1b[J"


@attrs.frozen
class Row:
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

    def cells(self) -> tuple[str, ...]:
        """Return the texts of the columns."""
        urgent = self.stats.ready[MessagePriority.HIGH]
        counts = (self.ready, urgent, self.stats.leased, self.stats.delayed, self.stats.dead)
        return (str(self.inbox), *map(str, counts), f"{self.rate:.0f}/s")


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


def table(rows: Sequence[Row], *, color: bool) -> list[str]:
    """Return the lines of the table."""
    bold, red, reset = (_BOLD, _RED, _RESET) if color else ("", "", "")
    lines = [f"{bold}{_line(_COLUMNS)}{reset}"]
    for row in rows:
        paint = red if row.stats.dead else ""
        lines.append(f"{paint}{_line(row.cells())}{reset if paint else ''}")
    return lines


def sentence(rows: Sequence[Row]) -> str:
    """Return the same as one plain line."""
    return "; ".join(
        f"{row.inbox}: {row.ready} ready, {row.stats.leased} leased, {row.stats.delayed} delayed, "
        f"{row.stats.dead} dead, {row.rate:.0f}/s"
        for row in rows
    )


class Display:
    """Shows the inboxes, and what happens to them."""

    def __init__(
        self,
        out: TextIO,
        *,
        live: bool,
        color: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write to `out`.

        Args:
            out: Where to.
            live: Whether it is a terminal that can move its cursor.
            color: Whether it may be colored.
            clock: Seconds that only grow.
        """
        self._out = out
        self._live = live
        self._color = color
        self._clock = clock
        self._drawn = 0
        self._next_line = clock()

    @classmethod
    def on(cls, out: TextIO) -> Display:
        """Return what suits `out`; colors are left out where NO_COLOR is set."""
        live = out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        return cls(out, live=live, color=live and not os.environ.get("NO_COLOR"))

    def show(self, rows: Sequence[Row]) -> None:
        """Show the state of the inboxes."""
        if self._live:
            self._draw(table(rows, color=self._color))
        elif self._clock() >= self._next_line:
            self._next_line = self._clock() + PLAIN_INTERVAL
            self._write(f"{sentence(rows)}\n")

    def keep(self) -> None:
        """Leave the table as it stands; what follows goes below."""
        self._drawn = 0

    def say(self, text: str) -> None:
        """Write lines that stay, above the table."""
        self._draw(())
        self._write(f"{text}\n")

    def _draw(self, lines: Sequence[str]) -> None:
        up = f"\x1b[{self._drawn}A\r{_CLEAR_BELOW}" if self._drawn else ""
        self._drawn = len(lines)
        self._write(up + "".join(f"{line}\n" for line in lines))

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _line(cells: Sequence[str]) -> str:
    first, *others = (
        cell.ljust(width) if position == 0 else cell.rjust(width)
        for position, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
    )
    # A line that wraps would put the cursor in the wrong place the next time.
    return "".join((first, *others))[: shutil.get_terminal_size().columns - 1]
