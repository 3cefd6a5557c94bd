"""What befalls the commands on their way to an in-memory server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum, auto

import attrs

from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.scripts import Script

SCRIPTS = {script.name: script for script in vars(scripts).values() if isinstance(script, Script)}
"""Every move of the library, by its name."""
_NAMES = {script.sha.encode(): name for name, script in SCRIPTS.items()}
_NOT_MEANT = frozenset({"AUTH", "BZPOPMIN", "CLIENT", "HELLO", "SELECT"})
"""Opening a connection, and waiting: a fault that names no move passes them over."""


class Kind(Enum):
    """What befalls a command."""

    REFUSED = auto()
    LOST = auto()
    SLOW = auto()


@attrs.define(eq=False)
class Fault:
    """One fault that was asked for.

    Attributes:
        kind: What it does.
        moves: Names of the moves that it befalls; empty: any.
        left: How many commands it still befalls.
        seconds: How late a slow reply is.
        hits: How many commands it has befallen.
    """

    kind: Kind
    moves: frozenset[str]
    left: int
    seconds: float = 0.0
    hits: int = 0


class Trouble:
    """The faults there are, for `Faults`, which asks for them, and the connections they befall."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        """Begin without any; `interrupt` ends all waits at the server."""
        self._interrupt = interrupt
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._down = 0
        self._dead: set[threading.Thread] = set()

    def add(self, fault: Fault) -> Fault:
        """Let a fault befall the next commands that fit; return it."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Take back what has not happened yet."""
        with self._lock:
            for fault in self._faults:
                fault.left = 0
            self._faults.clear()

    @contextmanager
    def server_down(self) -> Generator[None]:
        """Let nobody reach the server within the ``with``."""
        self._down += 1
        self._interrupt()
        try:
            yield
        finally:
            self._down -= 1

    @property
    def is_down(self) -> bool:
        """Whether nobody reaches the server."""
        return self._down > 0

    def cut_off(self, threads: Iterable[threading.Thread]) -> None:
        """End threads at their next command, as if their process had died."""
        self._dead.update(threads)
        self._interrupt()

    def check_alive(self) -> None:
        """End the calling thread if it was cut off."""
        if threading.current_thread() in self._dead:
            raise SystemExit  # no handler of errors takes it for one, and a thread ends silently

    def next(self, packet: bytes) -> Fault | None:
        """Return what befalls these commands, which are sent together."""
        if not self._faults:
            return None
        names = {_name(words) for words in commands_in(packet)}
        with self._lock:
            fault = next((fault for fault in self._faults if _befalls(fault, names)), None)
            if fault is None:
                return None
            fault.left -= 1
            fault.hits += 1
            if not fault.left:
                self._faults.remove(fault)
            return fault


def _befalls(fault: Fault, names: Collection[str]) -> bool:
    return bool(fault.moves & set(names)) if fault.moves else not _NOT_MEANT & set(names)


def commands_in(packet: bytes) -> Iterator[list[bytes]]:
    """Yield the commands of a packet, each as its words."""
    place = 0
    while place < len(packet):
        count, place = _number(packet, place)
        words: list[bytes] = []
        for _ in range(count):
            length, place = _number(packet, place)
            words.append(packet[place : place + length])
            place += length + 2
        yield words


def _number(packet: bytes, place: int) -> tuple[int, int]:
    """Read ``*3`` or ``$5``; return the number, and where its line ends."""
    end = packet.index(b"\r\n", place)
    return int(packet[place + 1 : end]), end + 2


def _name(words: list[bytes]) -> str:
    if words[0] == b"EVALSHA":
        return _NAMES.get(words[1], "EVALSHA")
    return words[0].decode().upper()
