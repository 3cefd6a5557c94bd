"""A process whose clock is wrong is wrong wherever it looks."""

import subprocess
import sys

import pytest

SOURCE = """
import datetime, sys, time
right, right_ns = time.time(), time.time_ns()
from tta_agent_coordination.chaos.child import shift_clock
shift_clock(float(sys.argv[1]))
utc = datetime.timezone.utc
print(time.time() - right, (time.time_ns() - right_ns) / 1e9)
print(datetime.datetime.now(utc).timestamp() - right, datetime.datetime.now().timestamp() - right)
print(type(datetime.datetime.now()) is datetime.datetime)
"""


@pytest.mark.parametrize("hours", [-3.0, 0.5])
def test_every_clock_of_the_process_is_wrong_by_as_much(hours: float) -> None:
    command = [sys.executable, "-c", SOURCE, str(hours)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    *errors, is_datetime = told.stdout.split()
    assert len(errors) == 4
    for error in errors:
        assert 0 <= float(error) - hours * 3600 < 60, "as long as it took to start"
    assert is_datetime == "True"
