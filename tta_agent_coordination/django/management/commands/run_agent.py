"""``manage.py run_agent shop.agents.Biller``: serve agents until SIGTERM."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tta_agent_coordination.django import coordination
from tta_agent_coordination.django.database import fresh_connections
from tta_agent_coordination.errors import CoordinationError
from tta_agent_coordination.glue.serving import serve


class Command(BaseCommand):
    """Serves agents in threads; SIGTERM and SIGINT let those at work finish."""

    help = "Serve agents until SIGTERM or SIGINT, then drain."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what says whom to serve, and how."""
        parser.add_argument(
            "paths",
            nargs="+",
            metavar="PATH",
            help="dotted path of an agent, or of a class or function that makes one",
        )
        parser.add_argument("--threads", type=int, help="messages handled at once")
        parser.add_argument(
            "--visibility-timeout", type=float, help="seconds of a lease, which is renewed"
        )
        parser.add_argument(
            "--max-handler-seconds", type=float, help="seconds that a handler may take"
        )
        parser.add_argument(
            "--drain-timeout", type=float, help="seconds that handlers get at SIGTERM"
        )
        parser.add_argument("--no-registry", action="store_true", help="do not register the agents")

    def handle(self, *_: object, **options: Any) -> None:
        """Serve."""
        try:
            serve(
                coordination(),
                options["paths"],
                fresh_connections,
                registered=not options["no_registry"],
                threads=options["threads"],
                visibility_timeout=options["visibility_timeout"],
                max_handler_seconds=options["max_handler_seconds"],
                drain_timeout=options["drain_timeout"],
            )
        except CoordinationError as error:
            raise CommandError(str(error)) from error
