"""The agents of the shop: ``python manage.py run_agent shop.agents.Biller``."""

# [agent]
import os
import socket
from typing import Any

from shop.models import Order
from tta_agent_coordination import Agent, AgentId


class Biller(Agent):
    """Bills orders."""

    def __init__(self) -> None:
        """Be one of several: orders go to ``biller``, and each process has an id of its own."""
        super().__init__(AgentId("biller", f"{socket.gethostname()}-{os.getpid()}"))

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Bill an order; a second delivery finds it billed, and changes nothing."""
        order = Order.objects.filter(pk=payload["order"], billed_by="")
        return {"billed": order.update(billed_by=f"process {os.getpid()}")}


# [/agent]
