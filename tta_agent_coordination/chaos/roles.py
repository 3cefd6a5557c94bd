"""The roles that a process can play."""

from __future__ import annotations

import logging
from typing import Any

from tta_agent_coordination.chaos.consume import consume
from tta_agent_coordination.chaos.produce import produce
from tta_agent_coordination.chaos.serve import serve
from tta_agent_coordination.chaos.settings import Settings
from tta_agent_coordination.chaos.work import Work

ROLES = {"produce": produce, "consume": consume, "serve": serve}


def play(told: dict[str, Any]) -> None:
    """Play the role that the settings name, until told to finish."""
    # What the library logs of faults is expected; what stands in the log of a process is not.
    logging.disable(logging.CRITICAL)
    settings = Settings(**told)
    with Work(settings) as work:
        ROLES[settings.role](work)
