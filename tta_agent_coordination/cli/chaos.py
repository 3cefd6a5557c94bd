"""``tta-coordination chaos``: faults on purpose, and a check that nothing is lost."""

from __future__ import annotations

import argparse
import faulthandler
import secrets
import sys
from pathlib import Path

from tta_agent_coordination.chaos import report
from tta_agent_coordination.chaos.run import DRAIN_TIMEOUT, RECOVERY_TIMEOUT, Outcome, play_all
from tta_agent_coordination.chaos.scenarios import SCENARIOS
from tta_agent_coordination.cli import output
from tta_agent_coordination.cli.options import Commands, argument, seconds
from tta_agent_coordination.cli.output import tidy_when_terminated
from tta_agent_coordination.terminal import Display

DEFAULT_SECONDS = 60.0

_AT_MOST = RECOVERY_TIMEOUT + DRAIN_TIMEOUT + 120.0
"""Seconds that a scenario may take beside its faults, whatever happens."""
_DESCRIPTION = """\
Producers and workers exchange messages while they, the network and the server are made to fail.
Each writes a history; afterwards these are checked: whatever was confirmed must have been handled,
and whatever was handled twice must be so by a documented rule.
"""
_STATUSES = (
    "exit status: 0 nothing is lost and everything is explained; 1 not so; 2 an error; "
    "130 interrupted"
)


def add_to(commands: Commands) -> None:
    """Add the command ``chaos``."""
    parser = commands.add_parser(
        "chaos",
        help="make processes, network and server fail, and check that nothing is lost",
        description=_DESCRIPTION,
        epilog=_STATUSES,
    )
    _add_faults(parser)
    _add_results(parser)
    parser.set_defaults(run=carry_out)


def _add_faults(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url",
        help="of a Redis or Valkey server, for faults that leave it alone; default: servers of "
        "its own",
    )
    parser.add_argument(
        "--seconds",
        type=seconds,
        default=DEFAULT_SECONDS,
        help="of faults, all together; default: %(default)g",
    )
    parser.add_argument("--seed", type=argument(int), help="of all that is random; default: any")
    parser.add_argument(
        "--fault",
        action="append",
        choices=list(SCENARIOS),
        metavar="NAME",
        help="only this one; can be repeated",
    )


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="keep histories, logs and data of the servers in a new folder for each fault",
    )
    parser.add_argument("--list", action="store_true", help="name the faults, and end")
    parser.add_argument("--json", action="store_true", help="write one JSON document")
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="read such a document and write it as the table of the documentation, and end",
    )


def carry_out(arguments: argparse.Namespace) -> int:
    """Do what was asked for; return 0 when nothing is lost or unexplained, else 1."""
    if arguments.list:
        output.write(f"{one.name:<24}{one.about}" for one in SCENARIOS.values())
        return 0
    if arguments.markdown:
        return _rewrite(arguments.markdown)
    chosen = [SCENARIOS[name] for name in arguments.fault or SCENARIOS]
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    display = Display.on(sys.stderr if arguments.json else sys.stdout)
    display.say(f"{len(chosen)} faults, {arguments.seconds:g} s, seed {seed}")
    faulthandler.dump_traceback_later(arguments.seconds + _AT_MOST * len(chosen), exit=True, file=2)
    try:
        with tidy_when_terminated():
            matrix = play_all(
                chosen,
                seconds=arguments.seconds,
                seed=seed,
                url=arguments.url,
                keep=arguments.keep,
                told=lambda outcome: display.say(_line(outcome)),
            )
    finally:
        faulthandler.cancel_dump_traceback_later()
    output.write([report.to_json(matrix)] if arguments.json else ["", *report.lines(matrix)])
    return 0 if matrix.is_good else 1


def _line(outcome: Outcome) -> str:
    counts, verdict = outcome.counts, "ok" if outcome.is_good else "FAILED"
    return (
        f"{outcome.name}: {outcome.faults} faults, {counts.confirmed} confirmed, "
        f"{counts.handled} handled, {sum(counts.duplicates.values())} duplicates, "
        f"{outcome.judgment.lost} lost: {verdict}"
    )


def _rewrite(file: Path) -> int:
    try:
        matrix = report.from_json(file.read_text())
    except (OSError, ValueError) as error:
        return output.complain(f"{file}: {error}", 2)
    output.write([report.markdown(matrix)])
    return 0
