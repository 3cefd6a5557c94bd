"""Processes whose clocks are wrong by an hour see exactly what the others see."""

import json
import time

import pytest

from tests.conftest import OwnServers
from tests.processes.conftest import MakeMember

EXPECTED = {
    "too early": [None],
    "delay over": ["delayed-message", 1, "DONE"],
    "leased": ["leased-message", 1],
    "hidden": [None],
    "lease over": ["leased-message", 2, "DONE"],
    "window": True,
    "ttl over": ["living-message", 1, "DONE"],
    "dead": ["expired"],
    "nack": "DONE",
    "before the retry": [None],
    "retry": ["failing-message", 2, "DONE"],
}


@pytest.mark.guarantee("2.10")
@pytest.mark.parametrize("hours", [0.0, 1.0, -1.0])
def test_a_clock_that_is_wrong_changes_nothing(
    own_server: OwnServers, member: MakeMember, hours: float
) -> None:
    process = member("scenario", own_server().url, clock=hours)

    told = json.loads(process.line())

    assert told.pop("clock") == pytest.approx(time.time() + hours * 3600, abs=60.0)
    assert told == EXPECTED
    assert process.end() == (0, "")
