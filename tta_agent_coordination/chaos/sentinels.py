"""A primary, a replica and sentinels of the run's own, and fail-overs among them."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from tta_agent_coordination.chaos.scene import Scenario, Scene
from tta_agent_coordination.chaos.stages import OwnServer, Stage
from tta_agent_coordination.chaos.watch import QUICK, SENTINELS, Watch
from tta_agent_coordination.embedded import valkey_binary
from tta_agent_coordination.server_process import ServerProcess, free_port, run_server
from tta_agent_coordination.transport.console import Console

FAILOVER_LOSS = 1.0
"""Seconds of writes that may not have reached the replica when its primary is gone."""


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
        self._ports: dict[OwnServer, int] = {}
        self._sentinels: list[ServerProcess] = []
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
        self._watch.fail_over()
        self._note_switch()

    def await_switch(self) -> None:
        """Return when the replica is the primary; the other may be away."""
        self._watch.await_other_than(self._ports[self.primary])
        self._note_switch()

    def take_back(self, server: OwnServer) -> None:
        """Start a server that was replaced, as the replica of its successor.

        As a primary it would begin with old data, and sentinels might name it again.
        """
        server.start("--replicaof", " ".join(self._where_primary))
        self.await_replica()

    def await_replica(self) -> None:
        """Return when there is a replica again, and all sentinels know of it."""
        self._watch.await_agreement()

    def close(self) -> None:
        """End all of them."""
        for sentinel in self._sentinels:
            sentinel.stop()
        for server in self._servers:
            server.close()

    @property
    def _where_primary(self) -> tuple[str, str]:
        return "127.0.0.1", str(self.primary.port)

    def _start(self) -> None:
        for number in range(2):
            port = free_port()
            self._servers.append(OwnServer(self._folder / f"server{number}", QUICK, port=port))
            self._ports[self._servers[-1]] = port
        self.primary, self.replica = self._servers
        self.replica.console()("REPLICAOF", *self._where_primary)
        self._watch = Watch(list(self._ports.values()))
        for number in range(SENTINELS):
            self._start_sentinel(number)
        self.url = self._watch.url
        self.await_replica()

    def _start_sentinel(self, number: int) -> None:
        home, port = self._folder / f"sentinel{number}", free_port()
        home.mkdir(mode=0o700)
        config = home / "sentinel.conf"
        config.write_text(self._watch.config())
        sentinel = run_server(
            valkey_binary(), directory=home, port=port, arguments=("--sentinel",), config=config
        )
        self._sentinels.append(sentinel)
        self._watch.add(port)

    def _note_switch(self) -> None:
        self.primary, self.replica = self.replica, self.primary


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
