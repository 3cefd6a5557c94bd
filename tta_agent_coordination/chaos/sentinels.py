"""A primary, a replica and sentinels of the run's own, and fail-overs among them."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from tta_agent_coordination import CoordinationError
from tta_agent_coordination.chaos.clusters import await_that, is_in_step, role_of
from tta_agent_coordination.chaos.scene import Scenario, Scene
from tta_agent_coordination.chaos.stages import OwnServer, Stage
from tta_agent_coordination.embedded import valkey_binary
from tta_agent_coordination.server_process import ServerProcess, free_port, run_server
from tta_agent_coordination.transport.console import Console

NAME = "agents"
"""By which the sentinels know the primary."""
SENTINELS, QUORUM = 3, 2
DOWN_AFTER = 1000
"""Milliseconds of silence after which a server is taken for dead."""
FAILOVER_TIMEOUT = 3000
"""Milliseconds that a fail-over may take; the next begins after twice as many."""
FAILOVER_LOSS = 1.0
"""Seconds of writes that may not have reached the replica when its primary is gone."""

_PERIODS = (
    *("info-period", "300"),
    *("publish-period", "500"),
    *("ask-period", "200"),
    *("ping-period", "200"),
)
"""Milliseconds; sentinels would take ten seconds to tell an old primary to follow the new one."""


class WatchedPair(Stage):
    """Two servers, of which one is the primary, and the sentinels that decide which.

    Attributes:
        primary: The one that was the primary when somebody last looked.
        replica: The other.
    """

    def __init__(self, folder: Path) -> None:
        """Start them below `folder`."""
        self._folder = folder
        self._servers: list[OwnServer] = []
        self._sentinels: list[ServerProcess] = []
        self._consoles: list[Console] = []
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def console(self) -> Console:
        """See `Stage.console`."""
        return self.primary.console()

    def consoles(self) -> Sequence[Console]:
        """See `Stage.consoles`."""
        return (self.console(),)

    def switch(self) -> None:
        """Have the sentinels change the roles in good order, and return when they have."""
        again = time.monotonic()

        def switched() -> bool:
            nonlocal again
            if time.monotonic() >= again:  # they give up when a busy machine is too slow for them
                again = time.monotonic() + 2 * FAILOVER_TIMEOUT / 1000
                with suppress(CoordinationError):  # they may not be ready for one
                    self._consoles[0]("SENTINEL", "FAILOVER", NAME)
            return self._is_switched()

        await_that(switched, "the sentinels change no roles")
        self._note_switch()

    def await_switch(self) -> None:
        """Return when the replica is the primary; the other may be away."""
        await_that(self._is_switched, "the sentinels name no other primary")
        self._note_switch()

    def take_back(self, server: OwnServer) -> None:
        """Start a server that was replaced, as the replica of its successor.

        As a primary it would begin with old data, and sentinels might name it again.
        """
        server.start("--replicaof", " ".join(self._where_primary))
        self.await_replica()

    def await_replica(self) -> None:
        """Return when there is a replica again, and all sentinels know of it."""
        await_that(self._is_well, "the sentinels do not agree")

    def close(self) -> None:
        """End all of them."""
        for console in self._consoles:
            console.close()
        for sentinel in self._sentinels:
            sentinel.stop()
        for server in self._servers:
            server.close()

    @property
    def _where_primary(self) -> tuple[str, str]:
        return "127.0.0.1", str(self.primary.port)

    def _start(self) -> None:
        for number in range(2):
            server = OwnServer(
                self._folder / f"server{number}",
                ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"),
                port=free_port(),
            )
            self._servers.append(server)
        self.primary, self.replica = self._servers
        self.replica.console()("REPLICAOF", *self._where_primary)
        ports = [self._start_sentinel(number) for number in range(SENTINELS)]
        self.url = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/{NAME}"
        for console in self._consoles:
            console("SENTINEL", "DEBUG", *_PERIODS)
        self.await_replica()

    def _start_sentinel(self, number: int) -> int:
        home, port = self._folder / f"sentinel{number}", free_port()
        home.mkdir(mode=0o700)
        config = home / "sentinel.conf"
        lines = [
            f"sentinel myid {secrets.token_hex(20)}",
            f"sentinel monitor {NAME} 127.0.0.1 {self.primary.port} {QUORUM}",
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER}",
            f"sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT}",
            "",
        ]
        config.write_text("\n".join(lines))
        sentinel = run_server(
            valkey_binary(), directory=home, port=port, arguments=("--sentinel",), config=config
        )
        self._sentinels.append(sentinel)
        self._consoles.append(Console(sentinel.url))
        return port

    def _is_switched(self) -> bool:
        named = int(self._consoles[0]("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])
        return named == self.replica.port and role_of(self.replica.console()) == "master"

    def _note_switch(self) -> None:
        self.primary, self.replica = self.replica, self.primary

    def _is_well(self) -> bool:
        in_step = role_of(self.replica.console()) == "slave" and is_in_step(self.replica.console())
        return in_step and all(map(self._agrees, self._consoles))

    def _agrees(self, console: Console) -> bool:
        words = [word.decode() for word in console("SENTINEL", "MASTER", NAME)]
        state = dict(zip(words[::2], words[1::2], strict=True))
        return (
            state["num-other-sentinels"],
            state["num-slaves"],
            state["port"],
            state["flags"],
        ) == (
            str(SENTINELS - 1),
            "1",
            str(self.primary.port),
            "master",
        )


def kill_primary(scene: Scene) -> None:
    """Kill the primary; when the replica has taken over, start it again as replica."""
    pair = cast("WatchedPair", scene.stage)
    killed = pair.primary
    with scene.losing(FAILOVER_LOSS):
        killed.kill()
        pair.await_switch()
        pair.take_back(killed)


def pause_primary(scene: Scene) -> None:
    """Stop the primary with SIGSTOP; when the replica has taken over, let it go on."""
    pair = cast("WatchedPair", scene.stage)
    paused = pair.primary
    with scene.losing(FAILOVER_LOSS):
        paused.signal(signal.SIGSTOP)
        try:
            pair.await_switch()
        finally:
            paused.signal(signal.SIGCONT)
        pair.await_replica()


def switch_primary(scene: Scene) -> None:
    """Have the sentinels change the roles, with nobody dead."""
    pair = cast("WatchedPair", scene.stage)
    with scene.losing(FAILOVER_LOSS):
        pair.switch()
        pair.await_replica()


def lose_primary(scene: Scene) -> None:
    """Do one of these."""
    act = scene.dice.choice((kill_primary, pause_primary, switch_primary))
    scene.note(act.__name__)
    act(scene)


SCENARIOS = (
    Scenario(
        "sentinel-failover",
        "the primary is killed, suspended or replaced, and the sentinels name its replica",
        lose_primary,
        open_stage=WatchedPair,
        bound="what had not reached the replica, and what an old primary took before it knew",
    ),
    Scenario(
        "sentinel-replicas",
        "the same, with sends that wait for the replica (replicas=1)",
        lose_primary,
        open_stage=WatchedPair,
        replicas=1,
        bound="settlements that had not reached the replica, but no message",
    ),
)
