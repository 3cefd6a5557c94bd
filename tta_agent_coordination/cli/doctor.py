"""``tta-coordination doctor``: what endangers the guarantees, and what to do about it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from tta_agent_coordination.cli import output
from tta_agent_coordination.cli.options import Commands, add_common, argument, coordinator_of
from tta_agent_coordination.doctor import Finding, Report, Status
from tta_agent_coordination.terminal import RED, YELLOW, Column, Row, Table
from tta_agent_coordination.transport.access import DEFAULT_USER, acl_line

_PAINT = {Status.ERROR: RED, Status.WARNING: YELLOW}

_user = argument(lambda text: (acl_line("-", user=text), text)[1])


def add_to(commands: Commands) -> None:
    """Add the command ``doctor``."""
    parser = commands.add_parser(
        "doctor",
        help="look for what endangers messages",
        description="Look at every server and at this machine for what endangers messages. "
        "Nothing is changed. Exit status: 0 no error, 1 errors, 2 no server could be reached.",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 for warnings, too")
    rights = parser.add_argument_group("instead of looking")
    rights.add_argument(
        "--acl",
        action="store_true",
        help="print the command that makes a user with no more rights than needed",
    )
    rights.add_argument(
        "--look", action="store_true", help="with the rights that the doctor looks with"
    )
    rights.add_argument(
        "--user", type=_user, default=DEFAULT_USER, help="its name; default: %(default)s"
    )
    add_common(parser)
    parser.set_defaults(run=carry_out)


def carry_out(arguments: argparse.Namespace) -> int:
    """Look, and say what was found."""
    if arguments.acl:
        return _print_line(arguments)
    with coordinator_of(arguments) as coordinator:
        report = coordinator.check()
    if arguments.json:
        output.write_json({
            "ok": report.ok, "worst": report.worst, **output.plain(report)
        })  # fmt: skip
    else:
        output.write(_lines(report))
    bad = {Status.ERROR, Status.WARNING} if arguments.strict else {Status.ERROR}
    return int(report.worst in bad)


def _print_line(arguments: argparse.Namespace) -> int:
    line = acl_line(arguments.prefix, user=arguments.user, doctor=arguments.look)
    if arguments.json:
        output.write_json({"acl": line})
    else:
        output.write([line])
    return 0


def _lines(report: Report) -> Iterator[str]:
    for server in dict.fromkeys(one.server for one in report.findings):
        rows = [_row(one) for one in report.findings if one.server == server]
        yield server or "this machine"
        yield from Table([Column("what"), Column("how"), Column("found")], rows).lines(
            color=sys.stdout.isatty()
        )
        yield ""
    yield f"worst: {report.worst}"


def _row(finding: Finding) -> Row:
    text = finding.found + (f" -> {finding.advice}" if finding.advice else "")
    return Row([finding.name, finding.status, text], _PAINT.get(finding.status, ""))
