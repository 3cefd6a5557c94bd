"""What it costs that events can be observed, when nobody observes: nothing is made or called.

Every call of a function is looked at while a coordinator and a worker do what events tell of.
"""

import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Self

import pytest

from tests.observability.given import LONG, ONE, SENDER, WORKER, Acting, Recorder, message
from tests.support.servers import Client
from tta_agent_coordination import AgentWorker, FailureType, RedisMessageCoordinator, events

HOOK = str(Path(events.__file__).with_name("hook.py"))
KINDS = events.SendBegun.__module__
"""It is in the file names of the functions that attrs makes for events."""

pytestmark = pytest.mark.backend("valkey")


class Watched:
    """Looks at every call of a function, in this thread and in those that begin meanwhile.

    Attributes:
        made: The classes of events that were made.
        hook: The functions of the hook that were called.
        wrapped: The functions around a send, a receive or a handler that is observed.
    """

    def __init__(self) -> None:
        self.made: set[str] = set()
        self.hook: set[str] = set()
        self.wrapped: set[str] = set()

    def __enter__(self) -> Self:
        self._before = sys.getprofile(), threading.getprofile()
        threading.setprofile(self._look)
        sys.setprofile(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before[0])
        threading.setprofile(self._before[1])

    def _look(self, frame: FrameType, what: str, _: object) -> None:
        code = frame.f_code
        if what != "call":
            return
        if code.co_filename == HOOK:
            self.hook.add(code.co_qualname)
        elif KINDS in code.co_filename and code.co_name == "__init__":
            self.made.add(type(frame.f_locals["self"]).__name__)
        elif code.co_name == "_observed":
            self.wrapped.add(code.co_qualname)


def use(client: Client, prefix: str, *observers: Recorder) -> None:
    """Do what events tell of, in a coordinator and a worker."""
    with RedisMessageCoordinator(client, prefix) as coordinator:
        for observer in observers:
            coordinator.events.add(observer)
        coordinator.send_message(SENDER, WORKER, message(1))
        coordinator.send_many(SENDER, [message(2)])
        coordinator.broadcast_message(SENDER, message(3), [WORKER])
        first, second, third = coordinator.receive_many(WORKER, 3, LONG)
        coordinator.extend(WORKER, first.token, LONG)
        coordinator.ack(WORKER, first.token)
        coordinator.release(WORKER, second.token)
        coordinator.nack(WORKER, third.token, FailureType.PERMANENT)
        with AgentWorker(Acting(), coordinator, threads=1):
            coordinator.request(SENDER, ONE, {"n": 4}, timeout=LONG)


def test_with_no_observer_nothing_is_made_and_none_called(
    client: Client, key_prefix: str, recorder: Recorder
) -> None:
    with Watched() as alone:
        use(client, f"{key_prefix}-alone")
    with Watched() as observed:
        use(client, f"{key_prefix}-observed", recorder)

    assert (alone.made, alone.wrapped) == (set(), set())
    # what is put around locks does not know yet whether there will be something to tell
    around_locks = {"held.__enter__", "held.__exit__", "_held", "_tell_held"}
    assert alone.hook <= {"Events.__init__"} | around_locks

    # and this would have been seen
    assert observed.made == {type(event).__name__ for event in recorder.events}
    assert {"SendEnded", "MessageReceived", "LeaseRenewed", "HandlerEnded"} <= observed.made
    assert "Outbox._observed" in observed.wrapped
    assert {"Events.tell", "Events._tell"} <= observed.hook
