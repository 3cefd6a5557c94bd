"""``manage.py agent_status``: who is registered, and how they are."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tta_agent_coordination.cli.agents import Look, table
from tta_agent_coordination.django import coordination
from tta_agent_coordination.errors import CoordinationError


class Command(BaseCommand):
    """Shows the registered agents, as ``tta-coordination agents`` does."""

    help = "Show the registered agents."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the choice of JSON."""
        parser.add_argument("--json", action="store_true", help="write one JSON document")

    def handle(self, *_: object, **options: Any) -> None:
        """Show them."""
        made = coordination()
        look = Look.at(made.coordinator, made.registry, made.settings.key_prefix)
        try:
            agents = look.agents()
        except CoordinationError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            document = {"agents": [one.document() for one in agents]}
            self.stdout.write(json.dumps(document, indent=2))
        else:
            lines = table(agents).lines() if agents else ["no agents are registered"]
            self.stdout.write("\n".join(lines))
