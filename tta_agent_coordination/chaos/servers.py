"""Faults of a server of the run's own: killed, full, forgetful, paused."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import cast

from tta_agent_coordination.chaos.scene import Scenario, Scene
from tta_agent_coordination.chaos.stages import AOF_ALWAYS, AOF_EVERYSEC, OwnServer

EVERYSEC_LOSS = 2.0
"""Seconds of writes that ``appendfsync everysec`` may lose: it delays a write while it syncs."""


def own(folder: Path, *, options: tuple[str, ...] = ()) -> OwnServer:
    """Start a server below `folder`."""
    return OwnServer(folder / "server", options)


def kill_server(scene: Scene, *, loss: float = 0.0) -> None:
    """Kill the server and start it again after a moment."""
    server = cast("OwnServer", scene.stage)
    with scene.losing(loss) if loss else nullcontext():
        server.kill()
        scene.sleep(0.1, 0.7)
        server.start()


def flush_scripts(scene: Scene) -> None:
    """Let the server forget its scripts."""
    scene.stage.console()("SCRIPT", "FLUSH")


def kill_clients(scene: Scene) -> None:
    """Let the server close every connection."""
    scene.stage.console()("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def pause_clients(scene: Scene) -> None:
    """Let the server answer nobody for a while."""
    scene.stage.console()("CLIENT", "PAUSE", scene.dice.randint(200, 1500), "ALL")


def fill_memory(scene: Scene) -> None:
    """Let the server refuse what needs memory for a while."""
    console = scene.stage.console()
    console("CONFIG", "SET", "maxmemory", 1)
    scene.sleep(0.2, 1.0)
    free_memory(scene)


def free_memory(scene: Scene) -> None:
    """Let the server take everything again."""
    scene.stage.console()("CONFIG", "SET", "maxmemory", 0)


SCENARIOS = (
    Scenario(
        "server-killed-always",
        "SIGKILL of the server, restarted with its AOF (always)",
        kill_server,
        every=(0.7, 2.0),
        open_stage=partial(own, options=AOF_ALWAYS),
    ),
    Scenario(
        "server-killed-everysec",
        "SIGKILL of the server, restarted with its AOF (everysec)",
        partial(kill_server, loss=EVERYSEC_LOSS),
        every=(0.7, 2.0),
        open_stage=partial(own, options=AOF_EVERYSEC),
        bound="what it confirmed in its last 2 s",
    ),
    Scenario("script-flush", "SCRIPT FLUSH", flush_scripts, every=(0.01, 0.1), open_stage=own),
    Scenario("client-kill", "CLIENT KILL of all", kill_clients, every=(0.1, 0.5), open_stage=own),
    Scenario(
        "client-pause",
        "CLIENT PAUSE for 0.2 to 1.5 s",
        pause_clients,
        every=(0.7, 2.0),
        open_stage=own,
    ),
    Scenario(
        "memory-full",
        "maxmemory reached for 0.2 to 1 s, then lifted",
        fill_memory,
        every=(0.3, 1.0),
        heal=free_memory,
        open_stage=own,
    ),
)
