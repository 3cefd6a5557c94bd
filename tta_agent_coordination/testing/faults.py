"""What goes wrong on the way to an in-memory server, on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum, auto

import attrs

from tta_agent_coordination import checks
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

    def befalls(self, names: Collection[str]) -> bool:
        """Whether commands with these names, sent together, are meant."""
        return bool(self.moves & set(names)) if self.moves else not _NOT_MEANT & set(names)


class Faults:
    """Switches for what goes wrong between the library and its server.

    Each fault befalls the next commands that fit, whoever sends them. A worker that runs sends
    commands all the time, so name the move you mean, as the scripts of the library are called:
    ``send``, ``claim`` (a ``receive``), ``exchange`` (a worker that acknowledges and takes more),
    ``ack``, ``nack``, ``extend``, ``release``, ``agents_beat`` and so on; or a command of Redis in
    capitals.
    """

    def __init__(self, interrupt: Callable[[], None]) -> None:
        """Begin without any; `interrupt` ends all waits at the server."""
        self._interrupt = interrupt
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._down = 0
        self._dead: set[threading.Thread] = set()

    def lose_reply(self, *moves: str, times: int = 1) -> Fault:
        """Let the server carry out the next command, and lose its reply.

        Whoever sent it meets a connection that ends, and the library repeats the call.

        Args:
            moves: What is meant; nothing: any command.
            times: How many of them.

        Raises:
            ValueError: There is no such move.
        """
        return self._add(Fault(Kind.LOST, _named(moves), checks.count("times", times, least=1)))

    def refuse(self, *moves: str, times: int = 1) -> Fault:
        """Let the next command not arrive: the connection ends before. As `lose_reply`."""
        return self._add(Fault(Kind.REFUSED, _named(moves), checks.count("times", times, least=1)))

    def slow_reply(self, seconds: float, *moves: str, times: int = 1) -> Fault:
        """Let the next reply come so many seconds late; as `lose_reply` for the rest.

        One that is later than the attempt may take (a third of ``call_timeout``) ends in a
        time-out, and the call is repeated.
        """
        late = checks.duration("seconds", seconds)
        times = checks.count("times", times, least=1)
        return self._add(Fault(Kind.SLOW, _named(moves), times, late))

    @contextmanager
    def server_down(self) -> Generator[None]:
        """Let nobody reach the server within the ``with``; what it holds stays.

        A call fails when its ``call_timeout`` is over, or at once when the circuit breaker around
        the server is open.
        """
        self._down += 1
        self._interrupt()
        try:
            yield
        finally:
            self._down -= 1

    def clear(self) -> None:
        """Take back what has not happened yet."""
        with self._lock:
            for fault in self._faults:
                fault.left = 0
            self._faults.clear()

    @property
    def is_down(self) -> bool:
        """Whether nobody reaches the server."""
        return self._down > 0

    def cut_off(self, threads: Iterable[threading.Thread]) -> None:
        """End threads at their next command, as if their process had died; for `Sandbox`."""
        self._dead.update(threads)
        self._interrupt()

    def check_alive(self) -> None:
        """End the calling thread if it was cut off; for the connections."""
        if threading.current_thread() in self._dead:
            raise SystemExit  # no handler of errors takes it for one, and a thread ends silently

    def next(self, packet: bytes) -> Fault | None:
        """Return what befalls these commands, which are sent together; for the connections."""
        if not self._faults:
            return None
        names = {_name(words) for words in commands_in(packet)}
        with self._lock:
            fault = next((fault for fault in self._faults if fault.befalls(names)), None)
            if fault is None:
                return None
            fault.left -= 1
            fault.hits += 1
            if not fault.left:
                self._faults.remove(fault)
            return fault

    def _add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault


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


def _named(moves: tuple[str, ...]) -> frozenset[str]:
    for move in moves:
        if checks.instance_of("move", move, str) not in SCRIPTS and not move.isupper():
            raise ValueError(
                f"there is no move {move!r}; there are {', '.join(sorted(SCRIPTS))}, and the "
                "commands of Redis in capitals"
            )
    return frozenset(moves)
