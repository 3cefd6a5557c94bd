"""What happens, told to whoever wants to know: the hook for metrics, traces and logs.

An observer is a function of one event. It is called in the thread in which the thing happened,
outside of locks and while no reply is waited for, so it may take its time, though the call it
interrupts takes that time too. What it raises is logged, once a kind of event until that works
again, and goes no further. What it does itself causes no events.

Beginning and end of something that takes time are two events in the same thread, the second of
which has the first as `begun`: a span, or a context for the log, can be opened and closed by them.
"""

from tta_agent_coordination.events.hook import Events, Observable, Observer, held
from tta_agent_coordination.events.kinds import (
    AgentsRecovered,
    AgentSuperseded,
    BreakerChanged,
    DeadLettered,
    DeadLettersDropped,
    Event,
    HandlerBegun,
    HandlerEnded,
    HeartbeatsFailed,
    HeartbeatsRecovered,
    LeaseLost,
    LeaseRenewed,
    LeasesRecovered,
    MessageAcked,
    MessageNacked,
    MessageReceived,
    MessageReleased,
    RequestBegun,
    RequestEnded,
    SendBegun,
    SendEnded,
)

__all__ = [
    "AgentSuperseded",
    "AgentsRecovered",
    "BreakerChanged",
    "DeadLettered",
    "DeadLettersDropped",
    "Event",
    "Events",
    "HandlerBegun",
    "HandlerEnded",
    "HeartbeatsFailed",
    "HeartbeatsRecovered",
    "LeaseLost",
    "LeaseRenewed",
    "LeasesRecovered",
    "MessageAcked",
    "MessageNacked",
    "MessageReceived",
    "MessageReleased",
    "Observable",
    "Observer",
    "RequestBegun",
    "RequestEnded",
    "SendBegun",
    "SendEnded",
    "held",
]
