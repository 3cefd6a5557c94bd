"""Histories made by hand."""

from tta_agent_coordination.chaos.history import Event

LEASE = 1_000_000
"""Microseconds of every lease."""


def event(kind: str, at: int, message_id: str = "m-1", process: str = "p", **details) -> Event:
    return Event(kind, process, at, message_id, **details)


def sent(at: int, message_id: str = "m-1", **details) -> list[Event]:
    return [
        event("sending", at, message_id, **details),
        event("sent", at + 1, message_id, outcome="stored", **details),
    ]


def received(at: int, message_id: str = "m-1", process: str = "c1", **details) -> Event:
    fields = {"token": f"{process}-{message_id}", "attempts": 1, "claimed": at, "lease": LEASE}
    return event("received", at, message_id, process, **(fields | details))


def handled(at: int, delivery: Event) -> list[Event]:
    """The effect of a delivery, not yet acked."""
    return [
        event(kind, at, delivery.message_id, delivery.process, token=delivery.token)
        for kind in ("begun", "handled")
    ]


def settled(
    at: int,
    verb: str,
    delivery: Event,
    outcome: str = "DONE",
    *,
    lease: int = 0,
    took: int = 1,
) -> list[Event]:
    fields = {"token": delivery.token, "verb": verb, "lease": lease}
    message_id, process = delivery.message_id, delivery.process
    return [
        event("settling", at, message_id, process, **fields),
        event("settled", at + took, message_id, process, outcome=outcome, **fields),
    ]
