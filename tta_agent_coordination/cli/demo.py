"""``tta-coordination demo``: real work shared by processes, one of them killed, nothing lost."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tta_agent_coordination.cli.options import Commands
from tta_agent_coordination.cli.output import tidy_when_terminated
from tta_agent_coordination.demo.run import DEFAULT_ANALYSTS, run

MOST_ANALYSTS = 64

_DESCRIPTION = """\
Several processes analyze every Python file of the standard library (or of a folder). Their work
passes through Redis; one of them is killed in the middle of it, and the results are compared
with those of a plain run in one process.
"""
_STATUSES = "exit status: 0 the results are equal; 1 they are not; 2 an error; 130 interrupted"


def add_to(commands: Commands) -> None:
    """Add the command ``demo``."""
    parser = commands.add_parser(
        "demo",
        help="see agents in several processes share real work and survive a killed one",
        description=_DESCRIPTION,
        epilog=_STATUSES,
    )
    parser.add_argument(
        "--url", help="of a Redis or Valkey server (redis://…); default: an embedded one"
    )
    parser.add_argument(
        "--folder",
        type=_folder,
        metavar="DIR",
        help="analyze the Python files below this folder; default: the standard library's",
    )
    parser.add_argument(
        "--analysts",
        type=_analysts,
        default=DEFAULT_ANALYSTS,
        metavar="N",
        help="processes that share the work; default: %(default)s",
    )
    parser.set_defaults(run=carry_out)


def carry_out(arguments: argparse.Namespace) -> int:
    """Run the demo; return 0 when its results are right, else 1."""
    with tidy_when_terminated():
        equal = run(
            sys.stdout,
            url=arguments.url,
            folder=arguments.folder,
            analysts=arguments.analysts,
        )
    return 0 if equal else 1


def _folder(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no folder")
    return folder


def _analysts(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_ANALYSTS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {MOST_ANALYSTS}")
    return int(text)
