"""The histories that processes write of themselves: a line an event, one write a line.

``sending``, ``begun`` and ``settling`` are written before the deed, everything else after it. So
an event that is there has happened, and of a process that was killed at most its last intent is
in doubt. A write to a file outlives the process; it need not outlive the machine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

UNCERTAIN = "UNCERTAIN"
"""The outcome of a call that raised: it was carried out, or it was not."""
FORK_MARK = "+"
"""Stands in the name of a process behind that of the process it was forked from."""


@attrs.frozen
class Event:
    """One thing that a process did or saw.

    Attributes:
        kind: ``sending``, ``uncertain``, ``refused``, ``unreplicated``, ``sent``, ``received``,
            ``begun``, ``handled``, ``settling`` or ``settled``.
        process: Who writes it.
        at: By the monotonic clock, which all processes of a machine share: microseconds.
        message_id: Of the message.
        priority: Of a message sent or received.
        token: Of a delivery.
        attempts: Of a delivery.
        claimed: When the server handed it out, by its clock: microseconds.
        lease: Of a delivery or an extension: microseconds.
        position: Among those handed out in one step.
        verb: ``ack``, ``nack``, ``release`` or ``extend``.
        outcome: A `LeaseOutcome` by name or `UNCERTAIN`, or of a send ``stored`` or
            ``duplicate``.
    """

    kind: str
    process: str
    at: int
    message_id: str
    priority: int = 0
    token: str = ""
    attempts: int = 0
    claimed: int = 0
    lease: int = 0
    position: int = 0
    verb: str = ""
    outcome: str = ""


class Diary:
    """Writes the events of one process so that they survive its death; for any thread."""

    def __init__(self, folder: Path, process: str) -> None:
        """Begin a file in `folder` that has the name of the process."""
        self._file = os.open(
            folder / f"{process}.diary", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )
        self._process = process

    def write(self, kind: str, message_id: str, **details: Any) -> None:
        """Write one event."""
        event = Event(kind, self._process, time.monotonic_ns() // 1000, message_id, **details)
        told = {name: value for name, value in attrs.asdict(event).items() if value}
        os.write(self._file, json.dumps(told).encode() + b"\n")

    def close(self) -> None:
        """End it."""
        os.close(self._file)


def read_all(folder: Path) -> list[Event]:
    """Return the events of all diaries in a folder, in the order of their happening."""
    found = [event for path in folder.glob("*.diary") for event in _read(path)]
    return sorted(found, key=lambda event: event.at)


def _read(path: Path) -> Iterator[Event]:
    for line in path.read_text().splitlines():
        yield Event(**json.loads(line))


def origin_of(process: str) -> str:
    """Return the process that was started: itself, or the one that it was forked from."""
    return process.partition(FORK_MARK)[0]
