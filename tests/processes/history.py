"""The histories that processes write of themselves: a line an event, one write a line.

``sending``, ``settling`` are written before the call, everything else after its reply came. So
an event that is there has happened, and of a process that was killed at most its last intent is
in doubt.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Event:
    """One thing that a process saw.

    Attributes:
        kind: ``sending``, ``sent``, ``received``, ``settling`` or ``settled``.
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
        outcome: A `LeaseOutcome` by name, or of a send ``stored`` or ``duplicate``.
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
    """Writes the events of one process so that they survive its death."""

    def __init__(self, path: Path, process: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._process = process

    def write(self, kind: str, message_id: str, **details: Any) -> None:
        event = Event(kind, self._process, time.monotonic_ns() // 1000, message_id, **details)
        os.write(self._file, json.dumps(asdict(event)).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


def read_all(folder: Path) -> list[Event]:
    """Return the events of all diaries in a folder, in the order of their happening."""
    found = [event for path in folder.glob("*.diary") for event in _read(path)]
    return sorted(found, key=lambda event: event.at)


def _read(path: Path) -> Iterator[Event]:
    for line in path.read_text().splitlines():
        yield Event(**json.loads(line))
