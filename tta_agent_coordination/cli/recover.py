"""``tta-coordination recover``: expired leases of inboxes that nobody reads."""

from __future__ import annotations

import argparse

from tta_agent_coordination.cli import output
from tta_agent_coordination.cli.options import (
    Commands,
    add_common,
    agent_id,
    coordinator_of,
    count,
)
from tta_agent_coordination.policy import DEFAULT_RETRY_ATTEMPTS


def add_to(commands: Commands) -> None:
    """Add the command ``recover``."""
    parser = commands.add_parser(
        "recover",
        help="move expired leases back",
        description="Move expired leases back, or to the dead letters when no attempt is left. "
        "Only inboxes that nobody reads need it.",
    )
    parser.add_argument(
        "inbox", type=agent_id, nargs="?", metavar="ID", help="whose inbox; default: all"
    )
    parser.add_argument(
        "--retry-attempts",
        type=count,
        default=DEFAULT_RETRY_ATTEMPTS,
        metavar="N",
        help="what the consumers of these inboxes are configured with: a lease that passed after "
        "the last attempt is a dead letter; default: %(default)s",
    )
    add_common(parser)
    parser.set_defaults(run=carry_out)


def carry_out(arguments: argparse.Namespace) -> int:
    """Recover one inbox, or all."""
    with coordinator_of(arguments) as coordinator:
        coordinator.configure(retry_attempts=arguments.retry_attempts)
        expired = coordinator.recover_pending(arguments.inbox)
    if arguments.json:
        output.write_json({"inbox": output.plain(arguments.inbox), "expired": expired})
    else:
        where = "all inboxes" if arguments.inbox is None else str(arguments.inbox)
        output.write([f"{where}: {output.counted(expired, 'lease')} had expired"])
    return 0
