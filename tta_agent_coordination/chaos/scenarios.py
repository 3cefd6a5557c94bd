"""All faults by name, in the order of the matrix."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from tta_agent_coordination.chaos import clusters, network, processes, sentinels, servers
from tta_agent_coordination.chaos.scene import Scenario, Scene, by_name
from tta_agent_coordination.chaos.stages import AOF_ALWAYS

_MIXED = (
    processes.kill_one_with_a_wrong_clock,
    processes.suspend_one,
    processes.fork_one,
    network.swallow_all,
    network.lose_the_other_end,
    network.drip,
    network.refuse,
    servers.kill_server,
    servers.flush_scripts,
    servers.kill_clients,
    servers.pause_clients,
    servers.fill_memory,
)


def anything(scene: Scene) -> None:
    """Do one of all that can happen to processes, network and a single server."""
    act = scene.dice.choice(_MIXED)
    scene.note(act.__name__)
    act(scene)


_ALL_AT_ONCE = Scenario(
    "mixed",
    "all of the above that a single server allows, at random",
    anything,
    every=(0.1, 0.7),
    heal=network.heal,
    open_stage=partial(servers.own, options=AOF_ALWAYS),
    proxied=True,
    clocks=processes.CLOCKS,
)

SCENARIOS: Mapping[str, Scenario] = by_name([
    *processes.SCENARIOS,
    *network.SCENARIOS,
    *servers.SCENARIOS,
    *clusters.SCENARIOS,
    *sentinels.SCENARIOS,
    _ALL_AT_ONCE,
])  # fmt: skip
"""What ``--fault`` selects from."""
