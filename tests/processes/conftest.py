"""Processes that work on a server of the test's own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.processes.crew import Member

MakeMember = Callable[..., Member]

PREFIX = "processes"


@pytest.fixture
def member() -> Iterator[MakeMember]:
    """Start processes; whoever is left at the end of the test is killed."""
    with ExitStack() as started:

        def start(role: str, url: str, **options: float) -> Member:
            member = Member(role, url, PREFIX, **options)
            started.callback(member.kill)
            return member

        yield start
