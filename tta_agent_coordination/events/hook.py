"""The hook: observers, and when they are called."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

from tta_agent_coordination.events.kinds import Event
from tta_agent_coordination.threads import is_for_caller

logger = logging.getLogger("tta_agent_coordination")

Observer = Callable[[Event], object]
"""What is told of events."""


class _Thread(threading.local):
    telling = False
    held: list[tuple[Events, Event]] | None = None
    holder: Callable[[], held | None]


_thread = _Thread()


def _held() -> list[tuple[Events, Event]] | None:
    """Return what is held in this thread, once what a ``with`` left that was cut short is told.

    Ctrl-C at the end of its `__enter__`, or at the start of its `__exit__`, keeps Python from
    calling the latter; then nothing refers to the holder any more.
    """
    if _thread.held is not None and _thread.holder() is None:
        _tell_held()
    return _thread.held


def _tell_held() -> None:
    held, _thread.held = _thread.held or [], None
    for events, event in held:
        events.tell(event)


class Events:
    """Who is told what happens; a coordinator, a registry and a circuit breaker have one each.

    Attributes:
        observers: Who is told, in this order. Empty: nothing is made to tell.
    """

    __slots__ = ("_failing", "observers")

    def __init__(self) -> None:
        """Begin with nobody to tell."""
        self.observers: tuple[Observer, ...] = ()
        self._failing = set[tuple[Observer, str]]()

    def add(self, observer: Observer) -> None:
        """Tell one more; does nothing when it is told already."""
        if not callable(observer):
            raise TypeError(f"an observer is a function of one event, not {observer!r}")
        if observer not in self.observers:
            self.observers = (*self.observers, observer)

    def remove(self, observer: Observer) -> None:
        """Tell one no longer; does nothing when it was not told."""
        self.observers = tuple(known for known in self.observers if known != observer)

    def tell(self, event: Event) -> None:
        """Tell every observer; ask before whether there are any, and make no event if not."""
        if _thread.telling:
            return
        held = _held()
        if held is not None:
            held.append((self, event))
            return
        try:
            _thread.telling = True
            for observer in self.observers:
                self._tell(observer, event)
        finally:
            _thread.telling = False

    def _tell(self, observer: Observer, event: Event) -> None:
        what = (observer, event.name)
        try:
            observer(event)
        except BaseException as error:
            if is_for_caller(error):
                raise
            if what not in self._failing:  # one line a change, not one an event
                self._failing.add(what)
                logger.exception(
                    "an observer of events raised; %s goes on without what it does",
                    event.name,
                    extra={"event": "observer_failed", "observed": event.name},
                )
        else:
            if what in self._failing:
                self._failing.discard(what)
                logger.info(
                    "an observer of events that raised works again; it takes %s",
                    event.name,
                    extra={"event": "observer_recovered", "observed": event.name},
                )


class held:  # noqa: N801 - read as a statement: with held()
    """Tell what happens in this thread meanwhile at the end of the ``with``, in its order.

    Around locks, and around what is done while a reply is waited for.
    """

    def __enter__(self) -> None:
        """Begin, unless an outer one has begun."""
        self._outermost = _held() is None
        if self._outermost:
            _thread.holder, _thread.held = weakref.ref(self), []

    def __exit__(self, *_: object) -> None:
        """Tell it."""
        if self._outermost:
            _tell_held()


class Observable(Protocol):
    """What has events: a coordinator, a registry, a circuit breaker."""

    @property
    def events(self) -> Events:
        """Who is told what happens there."""
        ...
