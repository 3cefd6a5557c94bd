"""What has to be done at once when the process is forked.

A child has one thread, a copy of every lock as some other thread of the parent held it, and the
parent's sockets. Whatever has any of them is told in the child, before anything else runs there.

Some servers fork without telling Python (uWSGI does, unless it is asked to): there it is told when
something of it is first used, which `notice` sees.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from types import MethodType
from typing import cast

logger = logging.getLogger("tta_agent_coordination")

Method = Callable[[], None]


class _Methods:
    """Bound methods; each is forgotten with the object that it belongs to.

    A `weakref.WeakMethod` would do, but complains on standard error when the object lives until
    the interpreter ends.
    """

    def __init__(self) -> None:
        self._known: dict[object, tuple[weakref.ref[object], Callable[[object], None]]] = {}

    def add(self, method: Method) -> None:
        key, known = object(), self._known

        def forget(_owner: weakref.ref[object]) -> None:
            known.pop(key, None)

        bound = cast("MethodType", method)
        known[key] = (weakref.ref(bound.__self__, forget), bound.__func__)

    def call(self) -> None:
        for known, function in self._known.copy().values():
            owner = known()
            if owner is not None:
                _call(MethodType(function, owner))


def _call(method: Method) -> None:
    try:
        method()
    except Exception:
        logger.exception("%r failed at a fork", method, extra={"event": "fork_step_failed"})


class _Process:
    """Which process this is, as far as anybody was told."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.telling = threading.RLock()

    def forked(self) -> None:
        self.telling = threading.RLock()
        self.tell()

    def tell(self) -> None:
        with self.telling:
            if self.pid != os.getpid():
                _in_child.call()
                self.pid = os.getpid()


_before, _in_child = _Methods(), _Methods()
_process = _Process()


def in_child(method: Method) -> None:
    """Call a bound method in every child, for as long as its object lives.

    It runs before anything else does there, and takes no lock that a thread of the parent could
    have held.
    """
    _in_child.add(method)


def notice() -> None:
    """Do what a fork calls for, if nobody has: to be called before anything inherited is used."""
    if _process.pid != os.getpid():
        _process.tell()


def before(method: Method) -> None:
    """Call a bound method before every fork that Python is told of, while its object lives."""
    _before.add(method)


def _do_nothing(**_: Method) -> None:
    """Stand in where processes are not forked."""


_register = getattr(os, "register_at_fork", _do_nothing)
_register(before=_before.call, after_in_child=_process.forked)
