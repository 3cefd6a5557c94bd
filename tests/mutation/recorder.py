"""A plugin of pytest that writes down how long each test takes: ``-p tests.mutation.recorder``."""

import json
import os
from pathlib import Path

import pytest

_seconds: dict[str, float] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up set-up, test and tear-down."""
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write, in the process that hears of every test."""
    if not hasattr(session.config, "workerinput"):
        Path(os.environ["MUTATION_DURATIONS"]).write_text(json.dumps(_seconds), "utf-8")
