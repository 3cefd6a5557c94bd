"""What the parts of this package need of a worker beside its interface."""

from __future__ import annotations

import threading
from collections.abc import Callable

import attrs

from tta_agent_coordination.identity import AgentId
from tta_agent_coordination.worker.tally import Tally

CutOff = Callable[[list[threading.Thread]], object]
"""Is given threads; from then on none of them may reach Redis."""


@attrs.frozen
class WorkerInternals:
    """For `testing` in this package alone; may change without notice.

    Attributes:
        inboxes: What it serves: the inbox of each agent, and the shared one of its type.
        tally: What its handlers did since it was started.
        abandon: Lets go of everything as a process that is killed: see `Crew.abandon`.
    """

    inboxes: list[AgentId]
    tally: Tally
    abandon: Callable[[CutOff], list[threading.Thread]]
