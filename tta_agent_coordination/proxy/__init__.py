"""A TCP proxy that stands before Redis servers and fails on command.

For tests of faults: `FaultProxy` passes everything on until it is told to drop replies, to cut
them, to swallow all, or to be slow. It knows nothing of any test framework.
"""

from tta_agent_coordination.proxy.core import FaultProxy
from tta_agent_coordination.proxy.faults import Command, Fate, Fault, Which
from tta_agent_coordination.proxy.link import Address

__all__ = ["Address", "Command", "Fate", "Fault", "FaultProxy", "Which"]
