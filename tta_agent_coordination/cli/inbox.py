"""``tta-coordination inbox``: what an inbox holds."""

from __future__ import annotations

import argparse

from tta_agent_coordination.cli import output
from tta_agent_coordination.cli.options import Commands, add_common, add_inbox, coordinator_of


def add_to(commands: Commands) -> None:
    """Add the command ``inbox``."""
    parser = commands.add_parser(
        "inbox",
        help="count what an inbox holds",
        description="Count the messages of an inbox. One that nobody ever used is empty.",
    )
    add_inbox(parser)
    add_common(parser)
    parser.set_defaults(run=carry_out)


def carry_out(arguments: argparse.Namespace) -> int:
    """Show the state of one inbox."""
    with coordinator_of(arguments) as coordinator:
        stats = coordinator.stats(arguments.inbox)
    if arguments.json:
        output.write_json({"inbox": str(arguments.inbox), **output.plain(stats)})
        return 0
    by_priority = ", ".join(f"{count:,} {priority.name}" for priority, count in stats.ready.items())
    dropped = f" ({stats.dead_dropped:,} older ones were dropped)" if stats.dead_dropped else ""
    output.write(
        output.fields(
            [
                ("inbox", str(arguments.inbox)),
                ("ready", f"{sum(stats.ready.values()):,} ({by_priority})"),
                ("delayed", f"{stats.delayed:,}"),
                ("leased", f"{stats.leased:,}"),
                ("dead", f"{stats.dead:,}{dropped}"),
                ("oldest ready", output.age(stats.oldest_ready_age)),
            ]
        )
    )
    return 0
