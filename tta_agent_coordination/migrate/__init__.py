"""Takes over what another coordinator left in Redis under its own layout of keys."""

from tta_agent_coordination.migrate.core import Migration
from tta_agent_coordination.migrate.report import Fault, InboxReport, Report

__all__ = ["Fault", "InboxReport", "Migration", "Report"]
