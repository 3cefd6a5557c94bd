"""For tests of your own agents: an in-memory server, a clock to move, and faults to cause.

Needs the extra ``testing``. ``tta_agent_coordination.testing.plugin`` has fixtures for pytest:
``tta_sandbox``, ``tta_coordinator``, ``tta_registry``, ``tta_clock`` and ``tta_faults``.
`run_until_idle`, `expire_lease` and `inbox_of` work with any server.
"""

from tta_agent_coordination.testing.clock import Clock
from tta_agent_coordination.testing.faults import Fault, Faults
from tta_agent_coordination.testing.inboxes import InboxContents, expire_lease, inbox_of
from tta_agent_coordination.testing.running import WorkSummary, run_until_idle
from tta_agent_coordination.testing.sandbox import Sandbox

__all__ = [
    "Clock",
    "Fault",
    "Faults",
    "InboxContents",
    "Sandbox",
    "WorkSummary",
    "expire_lease",
    "inbox_of",
    "run_until_idle",
]
