"""Faults of the network: a proxy between the processes and the server makes them."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

from tta_agent_coordination.chaos.scene import Scenario, Scene
from tta_agent_coordination.proxy import Command

SHARE = 0.05
"""Of the replies that are dropped or cut."""


def heal(scene: Scene) -> None:
    """Let the network behave."""
    scene.proxy.heal()


def _now_and_then(scene: Scene) -> Callable[[Command], bool]:
    dice = random.Random(scene.dice.getrandbits(32))  # the proxy's thread throws them

    def chosen(command: Command) -> bool:
        hit = not command.opens_connection and dice.random() < SHARE
        scene.deeds += hit
        return hit

    return chosen


def drop_replies(scene: Scene) -> None:
    """From now on, swallow a share of all replies."""
    scene.proxy.drop_reply_of(_now_and_then(scene), times=sys.maxsize)


def cut_replies(scene: Scene) -> None:
    """From now on, reset the connection in the middle of a share of all replies."""
    scene.proxy.reset_mid_reply(_now_and_then(scene), times=sys.maxsize)


def swallow_all(scene: Scene) -> None:
    """Swallow all bytes for a while, without a word."""
    scene.proxy.black_hole()
    scene.sleep(0.3, 2.0)
    scene.proxy.heal()


def lose_the_other_end(scene: Scene) -> None:
    """Close the server's end of every connection and tell the clients nothing."""
    scene.proxy.half_open()


def drip(scene: Scene) -> None:
    """Let replies through at a byte a second for a while."""
    scene.proxy.drip(1.0)
    scene.sleep(0.3, 2.0)
    scene.proxy.heal()


def refuse(scene: Scene) -> None:
    """Reset all connections, and refuse new ones for a while."""
    scene.proxy.refuse()
    scene.sleep(0.1, 1.0)
    scene.proxy.heal()


SCENARIOS = (
    Scenario(
        "replies-dropped",
        "5 % of all replies are lost with their connection",
        begin=drop_replies,
        heal=heal,
        proxied=True,
        made_good=True,
    ),
    Scenario(
        "replies-cut",
        "5 % of all connections are reset in mid-reply",
        begin=cut_replies,
        heal=heal,
        proxied=True,
        made_good=True,
    ),
    Scenario(
        "black-hole",
        "nothing comes through for 0.3 to 2 s, and no error",
        swallow_all,
        every=(0.5, 1.5),
        heal=heal,
        proxied=True,
    ),
    Scenario(
        "half-open",
        "the server's ends are closed, and clients not told",
        lose_the_other_end,
        every=(2.0, 4.0),
        heal=heal,
        proxied=True,
    ),
    Scenario(
        "byte-a-second",
        "replies come at one byte a second for 0.3 to 2 s",
        drip,
        every=(0.5, 1.5),
        heal=heal,
        proxied=True,
    ),
    Scenario(
        "refused",
        "connections are reset and refused for 0.1 to 1 s",
        refuse,
        every=(0.5, 1.5),
        heal=heal,
        proxied=True,
    ),
)
