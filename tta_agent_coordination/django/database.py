"""Database connections of the threads in which agents work."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from django.db import close_old_connections, reset_queries


@contextmanager
def fresh_connections() -> Generator[None]:
    """Do what Django does around a request, around a call of an agent.

    A thread of a worker lives for long: a connection that the server has closed meanwhile, or
    that is older than ``CONN_MAX_AGE``, would fail the next message.
    """
    reset_queries()
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()
