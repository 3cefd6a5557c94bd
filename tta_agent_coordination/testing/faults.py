"""What goes wrong on the way to an in-memory server, on demand."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from tta_agent_coordination import checks
from tta_agent_coordination.testing.trouble import SCRIPTS, Fault, Kind, Trouble


class Faults:
    """Switches for what goes wrong between the library and its server.

    Each fault befalls the next commands that fit, whoever sends them. A worker that runs sends
    commands all the time, so name the move you mean, as the scripts of the library are called:
    ``send``, ``claim`` (a ``receive``), ``exchange`` (a worker that acknowledges and takes more),
    ``ack``, ``nack``, ``extend``, ``release``, ``agents_beat`` and so on; or a command of Redis in
    capitals.
    """

    def __init__(self, trouble: Trouble) -> None:
        """Make switches for `trouble`; `Sandbox` does."""
        self._trouble = trouble

    def lose_reply(self, *moves: str, times: int = 1) -> Fault:
        """Let the server carry out the next command, and lose its reply.

        Whoever sent it meets a connection that ends, and the library repeats the call.

        Args:
            moves: What is meant; nothing: any command.
            times: How many of them.

        Raises:
            ValueError: There is no such move.
        """
        return self._add(Kind.LOST, moves, times)

    def refuse(self, *moves: str, times: int = 1) -> Fault:
        """Let the next command not arrive: the connection ends before. As `lose_reply`."""
        return self._add(Kind.REFUSED, moves, times)

    def slow_reply(self, seconds: float, *moves: str, times: int = 1) -> Fault:
        """Let the next reply come so many seconds late; as `lose_reply` for the rest.

        One that is later than the attempt may take (a third of ``call_timeout``) ends in a
        time-out, and the call is repeated.
        """
        late = checks.duration("seconds", seconds)
        return self._add(Kind.SLOW, moves, times, late)

    @contextmanager
    def server_down(self) -> Generator[None]:
        """Let nobody reach the server within the ``with``; what it holds stays.

        A call fails when its ``call_timeout`` is over, or at once when the circuit breaker around
        the server is open.
        """
        with self._trouble.server_down():
            yield

    def clear(self) -> None:
        """Take back what has not happened yet."""
        self._trouble.clear()

    @property
    def is_down(self) -> bool:
        """Whether nobody reaches the server."""
        return self._trouble.is_down

    def _add(self, kind: Kind, moves: tuple[str, ...], times: int, seconds: float = 0.0) -> Fault:
        left = checks.count("times", times, least=1)
        return self._trouble.add(Fault(kind, _named(moves), left, seconds))


def _named(moves: tuple[str, ...]) -> frozenset[str]:
    for move in moves:
        if checks.instance_of("move", move, str) not in SCRIPTS and not move.isupper():
            raise ValueError(
                f"there is no move {move!r}; there are {', '.join(sorted(SCRIPTS))}, and the "
                "commands of Redis in capitals"
            )
    return frozenset(moves)
