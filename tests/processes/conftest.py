"""A server of the test's own, and the processes that work on it."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.processes.crew import Crew
from tests.support.servers import LocalServer

MakeCrew = Callable[[LocalServer], Crew]

PREFIX = "processes"


@pytest.fixture
def seed() -> int:
    """What the dice of a test begin with; it is printed when the test fails."""
    seed = secrets.randbits(32)
    print(f"seed: {seed}")
    return seed


@pytest.fixture
def crew_of(tmp_path: Path, seed: int) -> Iterator[MakeCrew]:
    """Gather a crew on a server; whoever is left at the end of the test is killed."""
    with ExitStack() as gathered:
        yield lambda server: gathered.enter_context(Crew(server.url, PREFIX, tmp_path, seed))
