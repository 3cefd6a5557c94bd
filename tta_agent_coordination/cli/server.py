"""``tta-coordination server``: a private server to try things on, until Ctrl-C."""

from __future__ import annotations

import argparse
import signal

from tta_agent_coordination.cli import output
from tta_agent_coordination.cli.options import Commands, port
from tta_agent_coordination.embedded import EmbeddedServer
from tta_agent_coordination.worker.signals import noted

DEFAULT_PORT = 6379


def add_to(commands: Commands) -> None:
    """Add the command ``server``."""
    parser = commands.add_parser(
        "server",
        help="run a server of your own to try things on, until Ctrl-C",
        description="Run the embedded Valkey server on 127.0.0.1. It keeps nothing on disk.",
    )
    parser.add_argument(
        "--port",
        type=port,
        default=DEFAULT_PORT,
        metavar="N",
        help="to listen on; 0 picks a free one; default: %(default)s",
    )
    parser.set_defaults(run=carry_out)


def carry_out(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    with (
        noted(signal.SIGTERM, signal.SIGINT) as signals,
        EmbeddedServer(port=arguments.port) as server,
    ):
        output.write([f"{server.url}: Ctrl-C ends it, and all that it holds"])
        signals.wait()
    return 0
