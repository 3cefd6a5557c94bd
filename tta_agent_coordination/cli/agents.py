"""``tta-coordination agents``: who is registered, and how they are."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from datetime import datetime

import attrs

from tta_agent_coordination import AgentRecord, Liveness, RedisAgentRegistry
from tta_agent_coordination.cli import output
from tta_agent_coordination.cli.options import (
    Commands,
    add_common,
    coordinator_of,
    registry_of,
)
from tta_agent_coordination.codec import from_microseconds
from tta_agent_coordination.coordinator import RedisMessageCoordinator
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.terminal import RED, YELLOW, Column, Display, Row, Table
from tta_agent_coordination.transport.gate import Command

REFRESH = 1.0
"""Seconds between two looks."""

_COLUMNS = (
    Column("id"),
    Column("name"),
    Column("liveness", width=8),
    Column("status", width=7),
    Column("busy", right=True, width=5),
    Column("inbox", right=True, width=5),
    Column("last beat", right=True, width=9),
    Column("process"),
    Column("capabilities"),
)
_NOBODY = "no agents are registered; a worker registers its agents when it is given a registry"
_PAINTS = {Liveness.ALIVE: "", Liveness.SUSPECT: YELLOW, Liveness.DEAD: RED}


def add_to(commands: Commands) -> None:
    """Add the command ``agents``."""
    parser = commands.add_parser(
        "agents",
        help="show the registered agents",
        description="Show the registered agents: on a terminal again and again, until Ctrl-C.",
    )
    parser.add_argument("--once", action="store_true", help="show them once, also on a terminal")
    add_common(parser)
    parser.set_defaults(run=carry_out)


def carry_out(arguments: argparse.Namespace) -> int:
    """Show the agents."""
    display = Display.on(sys.stdout)
    with coordinator_of(arguments) as coordinator, registry_of(arguments) as registry:
        look = Look.at(coordinator, registry, arguments.prefix)
        if arguments.json:
            output.write_json({"agents": [one.document() for one in look.agents()]})
        elif arguments.once or not display.live:
            agents = look.agents()
            output.write(table(agents).lines() if agents else [_NOBODY])
        else:
            with suppress(KeyboardInterrupt):
                watch(look, display)
    return 0


@attrs.frozen
class Seen:
    """An agent as it was seen.

    Attributes:
        record: What the registry has.
        beat_age: Seconds since its last beat, by the server's clock.
    """

    record: AgentRecord
    beat_age: float

    def document(self) -> dict[str, object]:
        """Return it for JSON."""
        return {**output.plain(self.record), "last_beat_age": round(self.beat_age, 3)}

    def row(self) -> Row:
        """Return its row of the table."""
        record, load = self.record, self.record.load
        cells = (
            str(record.agent_id),
            record.name,
            record.liveness.value,
            record.status,
            f"{load.busy}/{load.threads}" if load.threads else output.NONE,
            str(load.depth),
            output.age(self.beat_age),
            record.process or output.NONE,
            ", ".join(f"{one.name} {one.version}" for one in record.capabilities) or output.NONE,
        )
        return Row(cells, _PAINTS[record.liveness])


@attrs.frozen
class Look:
    """How the agents are looked at.

    Attributes:
        coordinator: Asks for the time.
        registry: Knows the agents.
        key: Where it keeps their beats, which says whose time is asked for in a cluster.
    """

    coordinator: RedisMessageCoordinator
    registry: RedisAgentRegistry
    key: str

    @classmethod
    def at(
        cls, coordinator: RedisMessageCoordinator, registry: RedisAgentRegistry, prefix: str
    ) -> Look:
        """Return a look at the agents below a prefix."""
        return cls(coordinator, registry, Keys(prefix).agents["ends"])

    def agents(self) -> list[Seen]:
        """Return all agents that are remembered, in the order of their ids."""
        records = self.registry.list_registered(include_dead=True)
        now = self._server_time()
        return [
            Seen(record, max((now - record.last_beat).total_seconds(), 0.0)) for record in records
        ]

    def _server_time(self) -> datetime:
        # The clock of this machine may be wrong.
        [(whole, rest)] = self.coordinator.internals.link.commands.run(self.key, Command(("TIME",)))
        return from_microseconds(int(whole) * 1_000_000 + int(rest))


def table(agents: list[Seen]) -> Table:
    """Return the table of agents."""
    return Table(_COLUMNS, [agent.row() for agent in agents])


def watch(look: Look, display: Display) -> None:
    """Show the agents again and again."""
    while True:
        display.show(table(look.agents()), "")
        time.sleep(REFRESH)
