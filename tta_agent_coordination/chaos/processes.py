"""Faults of processes: killed, suspended, forked, with clocks that are wrong."""

from __future__ import annotations

import signal

from tta_agent_coordination.chaos.scene import WORKERS, Scenario, Scene
from tta_agent_coordination.chaos.settings import LEASE

CLOCKS = (-3.0, -1.0, 0.0, 1.0, 3.0)
"""Hours by which clocks are wrong."""


def kill_one(scene: Scene) -> None:
    """Kill a process and start another in its place."""
    scene.crew.replace(scene.someone())


def kill_one_with_a_wrong_clock(scene: Scene) -> None:
    """Kill a process and start another whose clock is wrong."""
    scene.crew.replace(scene.someone(), clock=scene.dice.choice(CLOCKS))


def suspend_one(scene: Scene) -> None:
    """Stop a worker for longer than its leases, then let it go on."""
    sleeper = scene.someone(*WORKERS)
    since = scene.crew.suspend(sleeper)
    scene.sleep(1.02 * LEASE, 1.5 * LEASE)
    scene.crew.resume(sleeper, since)


def fork_one(scene: Scene) -> None:
    """Have a producer or consumer fork in the middle of its work; both go on."""
    scene.someone("produce", "consume").signal(signal.SIGUSR1)


SCENARIOS = (
    Scenario("calm", "no fault, to compare with", exact=True),
    Scenario("process-killed", "SIGKILL of a random process every 1 to 3 s", kill_one, exact=True),
    Scenario(
        "worker-suspended",
        "SIGSTOP of a worker for 1 to 1.5 leases, then SIGCONT",
        suspend_one,
        every=(0.1, 0.5),
    ),
    Scenario(
        "process-forked",
        "a producer or consumer forks in the middle, and both go on",
        fork_one,
        every=(0.3, 1.0),
        exact=True,
    ),
    Scenario(
        "clocks-off",
        "clocks wrong by up to 3 hours, and SIGKILL every 1 to 3 s",
        kill_one_with_a_wrong_clock,
        exact=True,
        clocks=CLOCKS,
    ),
)
