"""``tta-coordination inbox``: what inboxes hold."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from tta_agent_coordination import AgentId, InboxStats
from tta_agent_coordination.cli import output
from tta_agent_coordination.cli.options import Commands, add_common, agent_id, coordinator_of
from tta_agent_coordination.terminal import Column, Row, Table

_COLUMNS = (
    Column("inbox"),
    *(Column(name, right=True) for name in ("ready", "delayed", "leased", "dead", "oldest ready")),
)


def add_to(commands: Commands) -> None:
    """Add the command ``inbox``."""
    parser = commands.add_parser(
        "inbox",
        help="count what inboxes hold",
        description="Count the messages of one inbox, or of each that is in use.",
    )
    parser.add_argument(
        "inbox",
        type=agent_id,
        nargs="?",
        metavar="ID",
        help="type or type:instance; default: all that were used in the last week",
    )
    add_common(parser)
    parser.set_defaults(run=carry_out)


def carry_out(arguments: argparse.Namespace) -> int:
    """Show the state of one inbox, or of all."""
    if arguments.inbox is None:
        return _show_all(arguments)
    with coordinator_of(arguments) as coordinator:
        stats = coordinator.stats(arguments.inbox)
    if arguments.json:
        output.write_json(_document(arguments.inbox, stats))
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


def _show_all(arguments: argparse.Namespace) -> int:
    with coordinator_of(arguments) as coordinator:
        every = coordinator.internals.stats_of_each(sorted(coordinator.inboxes(), key=str))
    if arguments.json:
        output.write_json({"inboxes": [_document(inbox, stats) for inbox, stats in every.items()]})
    elif every:
        output.write(_table(every).lines())
    else:
        output.write([f"no inbox was used of late under the prefix {arguments.prefix}"])
    return 0


def _table(every: Mapping[AgentId, InboxStats]) -> Table:
    return Table(_COLUMNS, [_row(inbox, stats) for inbox, stats in every.items()])


def _row(inbox: AgentId, stats: InboxStats) -> Row:
    counts = (sum(stats.ready.values()), stats.delayed, stats.leased, stats.dead)
    age = output.age(stats.oldest_ready_age)
    return Row((str(inbox), *(f"{count:,}" for count in counts), age))


def _document(inbox: AgentId, stats: InboxStats) -> dict[str, object]:
    return {"inbox": str(inbox), **output.plain(stats)}
