"""The commands a `FaultProxy` sees, and what it is told to do about them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

OPENING_COMMANDS = frozenset({"AUTH", "CLIENT", "HELLO", "READONLY", "SELECT"})
"""What clients send of their own accord when they open a connection."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command as it arrived from a client.

    Attributes:
        name: In upper case.
        args: The words behind it.
    """

    name: str
    args: tuple[bytes, ...]

    @property
    def opens_connection(self) -> bool:
        """Whether it is one of those with which clients open a connection."""
        return self.name in OPENING_COMMANDS


class Fate(Enum):
    """What becomes of a reply, or of the command itself."""

    DELIVER = auto()
    SWALLOW = auto()  # none of it; the connection is closed
    CUT = auto()  # half of it; the connection is reset
    LOSE = auto()  # the command never arrives; the connection is reset


Which = int | str | Callable[[Command], bool]


class Fault:
    """What befalls the replies of some commands; tells how often it did.

    The faults of a proxy are asked in the order in which they were set.
    """

    def __init__(self, which: Which, times: int, fate: Fate) -> None:
        """Be the `fate` of the commands that `which` chooses, so many `times`."""
        self.fate = fate
        self._which = which
        self._left = times
        self._commands = 0
        self._hit = threading.Event()

    @property
    def used_up(self) -> bool:
        """Whether it has befallen as many commands as it was to."""
        return self._hit.is_set()

    def wait(self, timeout: float = 5.0) -> None:
        """Return once it is used up.

        Raises:
            TimeoutError: It is not within ``timeout`` seconds.
        """
        if not self._hit.wait(timeout):
            raise TimeoutError(f"no command met the fault within {timeout} s")

    def hits(self, command: Command) -> bool:
        """Count ``command`` and say whether the fault is its fate."""
        self._commands += not command.opens_connection
        if not self._left or not self._chooses(command):
            return False
        self._left -= 1
        if not self._left:
            self._hit.set()
        return True

    def _chooses(self, command: Command) -> bool:
        if isinstance(self._which, int):
            return not command.opens_connection and self._commands >= self._which
        if isinstance(self._which, str):
            return command.name == self._which.upper()
        return self._which(command)
