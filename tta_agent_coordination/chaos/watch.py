"""How a primary comes under the watch of sentinels, and has its role given to a replica."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tta_agent_coordination import CoordinationError
from tta_agent_coordination.chaos.clusters import await_that, is_in_step, role_of
from tta_agent_coordination.transport.console import Console

NAME = "agents"
"""By which the sentinels know the primary."""
SENTINELS, QUORUM = 3, 2
DOWN_AFTER = 1000
"""Milliseconds of silence after which a server is taken for dead."""
FAILOVER_TIMEOUT = 3000
"""Milliseconds that a fail-over may take; the next begins after twice as many."""
QUICK = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
"""Options of the servers that are watched."""

_PERIODS = (
    *("info-period", "300"),
    *("publish-period", "500"),
    *("ask-period", "200"),
    *("ping-period", "200"),
)
"""Milliseconds; sentinels would take ten seconds to tell an old primary to follow the new one."""
_PATIENCE = 2.0
"""Seconds that a server gets to answer; one that is suspended is passed over."""


class Watch:
    """The sentinels of one primary; whoever uses it starts them, and the servers.

    All that takes long raises `ChaosError` when a machine is too slow for it.

    Attributes:
        url: For ``from_url``, once all sentinels are there.
    """

    def __init__(self, nodes: Sequence[int]) -> None:
        """Watch the servers at these ports of 127.0.0.1; the first begins as the primary."""
        self._nodes = tuple(nodes)
        self._sentinels: list[int] = []
        self._id = ""
        self._lines = [
            f"sentinel monitor {NAME} 127.0.0.1 {self._nodes[0]} {QUORUM}",
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER}",
            f"sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT}",
            *(f"sentinel known-replica {NAME} 127.0.0.1 {port}" for port in self._nodes[1:]),
        ]

    def config(self) -> str:
        """Return what the configuration file of the next sentinel says."""
        self._id = secrets.token_hex(20)
        return "\n".join([f"sentinel myid {self._id}", *self._lines, ""])

    def add(self, port: int) -> None:
        """Note that a sentinel with the last `config` listens at this port of 127.0.0.1."""
        self._sentinels.append(port)
        self._lines.append(f"sentinel known-sentinel {NAME} 127.0.0.1 {port} {self._id}")

    @property
    def url(self) -> str:
        """Return where the sentinels are, for ``from_url``."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{p}' for p in self._sentinels)}/{NAME}"

    @property
    def primary(self) -> int:
        """The port of the server that the first sentinel which answers names.

        Raises:
            CoordinationError: None does.
        """
        error: CoordinationError | None = None
        for port in self._sentinels:
            try:
                return int(_ask(port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])
            except CoordinationError as raised:
                error = raised
        raise error or CoordinationError("there are no sentinels")

    def await_agreement(self) -> None:
        """Return when all sentinels and servers are there, and agree on who is what."""
        await_that(self._hurry, "the sentinels do not answer")
        await_that(self._is_well, "the sentinels do not agree")

    def await_other_than(self, before: int) -> int:
        """Return the port of the new primary, when it serves as such."""
        await_that(lambda: self._serves_other_than(before), "no other primary is named")
        return self.primary

    def fail_over(self, *how: str) -> int:
        """Have the roles changed in good order; return the port of the new primary.

        Args:
            how: ``COORDINATED`` lets the primary refuse writes before it is replaced.
        """
        before, again = self.primary, time.monotonic()

        def replaced() -> bool:
            nonlocal again
            if time.monotonic() >= again:  # they give up when a busy machine is too slow for them
                again = time.monotonic() + 2 * FAILOVER_TIMEOUT / 1000
                with suppress(CoordinationError):  # they may not be ready for one
                    _ask(self._sentinels[0], "SENTINEL", "FAILOVER", NAME, *how)
            return self._serves_other_than(before)

        await_that(replaced, "the sentinels change no roles")
        return self.primary

    def _hurry(self) -> bool:
        for port in self._sentinels:
            _ask(port, "SENTINEL", "DEBUG", *_PERIODS)
        return True

    def _serves_other_than(self, before: int) -> bool:
        now = self.primary
        return now != before and _role(now) == "master"

    def _is_well(self) -> bool:
        primary = self.primary
        replicas = [port for port in self._nodes if port != primary]
        return (
            all(self._agrees(sentinel, primary) for sentinel in self._sentinels)
            and _role(primary) == "master"
            and all(_role(port) == "slave" and _in_step(port) for port in replicas)
        )

    def _agrees(self, sentinel: int, primary: int) -> bool:
        words = [word.decode() for word in _ask(sentinel, "SENTINEL", "MASTER", NAME)]
        state = dict(zip(words[::2], words[1::2], strict=True))
        known = [state[name] for name in ("num-other-sentinels", "num-slaves", "port", "flags")]
        others, replicas = len(self._sentinels) - 1, len(self._nodes) - 1
        return known == [str(others), str(replicas), str(primary), "master"]


def _console(port: int) -> Console:
    return Console(f"redis://127.0.0.1:{port}", timeout=_PATIENCE)


def _ask(port: int, *words: str) -> Any:
    with _console(port) as console:
        return console(*words)


def _role(port: int) -> str:
    with _console(port) as console:
        return role_of(console)


def _in_step(port: int) -> bool:
    with _console(port) as console:
        return is_in_step(console)
