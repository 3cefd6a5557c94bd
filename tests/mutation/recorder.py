"""A plugin of pytest, ``-p tests.mutation.recorder``, that notes how long tests that pass take."""

import json
import os
from pathlib import Path

import pytest

_seconds: dict[str, float] = {}
_failed: set[str] = set()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up set-up, test and tear-down."""
    if report.failed:
        _failed.add(report.nodeid)
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write, in the process that hears of every test."""
    if not hasattr(session.config, "workerinput"):
        passed = {test: _seconds[test] for test in _seconds if test not in _failed}
        Path(os.environ["MUTATION_DURATIONS"]).write_text(json.dumps(passed), "utf-8")
