"""Tables for people: as plain lines, or drawn again in place on a terminal."""

from __future__ import annotations

import os
import shutil
import time
import unicodedata
from collections.abc import Callable, Sequence
from typing import TextIO

import attrs

PLAIN_INTERVAL = 1.0
"""Seconds between two lines where there is no terminal."""

BOLD, RED, YELLOW = "\x1b[1m", "\x1b[31m", "\x1b[33m"
_RESET, _CLEAR_BELOW = "\x1b[0m", "\x1b[J"
_GAP = "  "


@attrs.frozen
class Column:
    """A column of a table.

    Attributes:
        title: What stands above it.
        right: Whether it is aligned to the right, as numbers are.
        width: Characters it takes at least, so that a live table keeps still.
    """

    title: str
    right: bool = False
    width: int = 0


@attrs.frozen
class Row:
    """A row of a table.

    Attributes:
        cells: The texts of its columns.
        paint: How it is colored where there are colors.
    """

    cells: Sequence[str]
    paint: str = ""


@attrs.frozen
class Table:
    """Rows below a head; columns are as wide as what is in them."""

    columns: Sequence[Column]
    rows: Sequence[Row]

    def lines(self, *, color: bool = False, limit: int | None = None) -> list[str]:
        """Return the lines, cut after `limit` characters."""
        head = Row([column.title for column in self.columns], BOLD)
        texts = [[printable(cell) for cell in row.cells] for row in (head, *self.rows)]
        widths = [
            max(column.width, *(width_of(cells[number]) for cells in texts))
            for number, column in enumerate(self.columns)
        ]
        lines = [_cut(self._line(cells, widths), limit) for cells in texts]
        if not color:
            return lines
        paints = (row.paint for row in (head, *self.rows))
        return [
            f"{paint}{line}{_RESET}" if paint else line
            for paint, line in zip(paints, lines, strict=True)
        ]

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = (
            " " * (width - width_of(cell)) + cell
            if column.right
            else cell + " " * (width - width_of(cell))
            for column, cell, width in zip(self.columns, cells, widths, strict=True)
        )
        return _GAP.join(padded).rstrip()


def printable(text: str) -> str:
    """Return `text` on one line, with escapes for what would move the cursor or cannot be shown."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def width_of(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "WF")
        for one in text
    )


def _cut(line: str, limit: int | None) -> str:
    while limit is not None and width_of(line) > limit:
        line = line[: limit - width_of(line)]
    return line


class Display:
    """Shows a table that changes, and what happens meanwhile."""

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
        self.live = live
        self._out = out
        self._color = color
        self._clock = clock
        self._drawn = 0
        self._next_line = clock()

    @classmethod
    def on(cls, out: TextIO) -> Display:
        """Return what suits `out`; colors are left out where NO_COLOR is set."""
        live = out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        return cls(out, live=live, color=live and not os.environ.get("NO_COLOR"))

    def show(self, table: Table, sentence: str) -> None:
        """Show the table in place; without a terminal the sentence, now and then."""
        if self.live:
            self._draw(self._fitting(table))
        elif self._clock() >= self._next_line:
            self._next_line = self._clock() + PLAIN_INTERVAL
            self._write(f"{sentence}\n")

    def keep(self) -> None:
        """Leave the table as it stands; what follows goes below."""
        self._drawn = 0

    def say(self, text: str) -> None:
        """Write lines that stay, above the table."""
        self._draw(())
        self._write(f"{text}\n")

    def _fitting(self, table: Table) -> list[str]:
        # A line that wraps, or one that scrolls off, would put the cursor in the wrong place.
        size = shutil.get_terminal_size()
        lines = table.lines(color=self._color, limit=size.columns - 1)
        room = max(size.lines - 1, 2)
        if len(lines) <= room:
            return lines
        return [*lines[: room - 1], f"and {len(lines) - room + 1} more"]

    def _draw(self, lines: Sequence[str]) -> None:
        up = f"\x1b[{self._drawn}A\r{_CLEAR_BELOW}" if self._drawn else ""
        self._drawn = len(lines)
        self._write(up + "".join(f"{line}\n" for line in lines))

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
