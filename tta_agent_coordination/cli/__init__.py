"""The console script ``tta-coordination``.

Each command is a module here with a function ``add_to``, which adds its parser to the
subcommands and sets ``run`` to what carries it out: a function from the parsed arguments to the
exit status. To add a command, write its module and name it in `COMMANDS`.

Exit statuses: 0 all is well; 1 as the command says; 2 an error, told in one line on standard
error; 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import cast

from tta_agent_coordination import CoordinationError, __version__
from tta_agent_coordination.cli import (
    agents,
    chaos,
    dead,
    demo,
    doctor,
    inbox,
    migrate,
    recover,
    send,
    server,
)
from tta_agent_coordination.cli.options import Parser
from tta_agent_coordination.cli.output import complain

__all__ = ["COMMANDS", "main", "parser"]

COMMANDS = (demo, server, agents, inbox, dead, recover, send, migrate, doctor, chaos)

ERROR, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Its name and arguments; None for those of the process.

    Returns:
        The exit status.
    """
    arguments = parser().parse_args(argv)
    carry_out = cast("Callable[[argparse.Namespace], int]", arguments.run)
    # What goes wrong is told once, here; without a handler, logging would print it as well.
    logging.getLogger("tta_agent_coordination").addHandler(_QUIET)
    try:
        status = carry_out(arguments)
        sys.stdout.flush()
    except CoordinationError as error:
        return complain(str(error), ERROR)
    except KeyboardInterrupt:
        return complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has left. Python would fail again at exit, when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    else:
        return status
    finally:
        logging.getLogger("tta_agent_coordination").removeHandler(_QUIET)


_QUIET = logging.NullHandler()


def parser() -> Parser:
    """Return what reads the command line, with every command."""
    whole = Parser(
        prog="tta-coordination", description="Reliable messages between agents over Redis."
    )
    whole.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_to(commands)
    return whole
