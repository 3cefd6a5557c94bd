"""``tta-coordination migrate``: take over what another coordinator left under its own keys."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from tta_agent_coordination.cli import output
from tta_agent_coordination.cli.options import (
    Commands,
    add_common,
    argument,
    message_bytes,
    prefix,
    url_of,
)
from tta_agent_coordination.migrate import Fault, InboxReport, Migration, Report
from tta_agent_coordination.policy import DEFAULT_MAX_MESSAGE_BYTES
from tta_agent_coordination.terminal import Column, Row, Table, printable

LEFT = 1

_COUNTS = ("ready", "delayed", "reserved", "stranded", "dead", "subscriptions")
_COLUMNS = (Column("inbox"), *(Column(name, right=True) for name in (*_COUNTS, "left")))
_STATUSES = "exit status: 0 everything was moved; 1 something was left, run it again; 2 an error"


def _old_prefix(text: str) -> str:
    if not text:
        raise ValueError("it must not be empty: every key would be looked at")
    return text


def add_to(commands: Commands) -> None:
    """Add the command ``migrate``."""
    parser = commands.add_parser(
        "migrate",
        help="take over the messages of another layout of keys",
        description="Move messages, dead letters and subscriptions from the keys of the asyncio "
        "coordinator into inboxes. It can be interrupted and run again, while both are in use.",
        epilog=_STATUSES,
    )
    _add_layouts(parser)
    _add_ways(parser)
    parser.add_argument("--dry-run", action="store_true", help="only look; write nothing")
    parser.add_argument(
        "--max-message-bytes",
        type=message_bytes,
        default=DEFAULT_MAX_MESSAGE_BYTES,
        metavar="N",
        help="as the coordinators have it that will read the inboxes; default: %(default)s",
    )
    add_common(parser)
    parser.set_defaults(run=carry_out)


def _add_layouts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from-prefix",
        required=True,
        type=argument(_old_prefix),
        metavar="PREFIX",
        help="what the old keys begin with, without the colon",
    )
    parser.add_argument(
        "--to-prefix",
        dest="prefix",
        type=prefix,
        default=argparse.SUPPRESS,
        metavar="PREFIX",
        help="the same as --prefix",
    )


def _add_ways(parser: argparse.ArgumentParser) -> None:
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--back",
        action="store_true",
        help="the way back: give what our inboxes hold to the old layout",
    )
    way.add_argument(
        "--final",
        action="store_true",
        help="the old application is stopped for good: take over its leases and what only its "
        "audit list has, and remove its subscriptions",
    )


def carry_out(arguments: argparse.Namespace) -> int:
    """Move what can be moved, and tell what was left."""
    migration = Migration.from_url(
        url_of(arguments),
        arguments.from_prefix,
        arguments.prefix,
        max_message_bytes=arguments.max_message_bytes,
    )
    with migration:
        if arguments.back:
            report = migration.back(dry_run=arguments.dry_run)
        else:
            report = migration.run(dry_run=arguments.dry_run, final=arguments.final)
    if arguments.json:
        output.write_json({**output.plain(report), "complete": report.complete})
    else:
        output.write(_lines(report))
    return 0 if report.complete else LEFT


def _lines(report: Report) -> Iterator[str]:
    if report.inboxes:
        yield from Table(_COLUMNS, [_row(one) for one in report.inboxes]).lines()
    moved = sum(one.moved for one in report.inboxes)
    verb = "would be moved" if report.dry_run else "moved"
    yield f"{output.counted(moved, 'message')} {verb}"
    for one in report.inboxes:
        yield from _remarks(one)
    yield from _listed((*report.others,), report.other_keys)
    if report.agents:
        yield f"{output.counted(report.agents, 'key')} of agents not moved: they register anew"


def _row(one: InboxReport) -> Row:
    counts = (f"{getattr(one, name):,}" for name in _COUNTS)
    left = one.held + one.only_listed + one.unreadable
    return Row([str(one.inbox), *counts, f"{left:,}"])


def _remarks(one: InboxReport) -> Iterator[str]:
    name = one.inbox
    if one.held:
        yield f"{name}: {output.counted(one.held, 'lease')} not over yet; run it again"
    if one.only_listed:
        yield (
            f"{name}: {output.counted(one.only_listed, 'message')} only in the audit list, in the "
            "hands of a consumer or lost by one; --final moves them"
        )
    if one.came_meanwhile:
        yield f"{name}: {one.remaining:,} entries are in the old keys by now; run it again"
    if one.over_size:
        yield f"{name}: holds {one.waiting:,} messages; no more while they reach its queue_size"
    yield from _listed(one.faults, one.unreadable)


def _listed(faults: tuple[Fault, ...], total: int) -> Iterator[str]:
    for one in faults:
        what = f": {printable(one.excerpt)}" if one.excerpt else ""
        yield f"left in {printable(one.key)} ({printable(one.reason)}){what}"
    if total > len(faults):
        yield f"and {total - len(faults):,} more"
