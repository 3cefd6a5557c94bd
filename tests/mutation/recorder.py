"""A plugin of pytest, ``-p tests.mutation.recorder``, that notes how long tests that pass take.

It leaves out what runs on a usual back end as well: mutants are tried on these alone.
"""

import json
import os
from pathlib import Path

import pytest

USUAL = ("fakeredis", "valkey")

_seconds: dict[str, float] = {}
_failed: set[str] = set()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of other back ends, where there is the same one on a usual back end."""
    usual = {_without_backend(item) for item in items if _backend_of(item) in USUAL}
    left_out = [
        item
        for item in items
        if _backend_of(item) not in ("", *USUAL) and _without_backend(item) in usual
    ]
    config.hook.pytest_deselected(items=left_out)
    dropped = set(left_out)
    items[:] = [item for item in items if item not in dropped]


def _backend_of(item: pytest.Item) -> str:
    call = getattr(item, "callspec", None)
    return "" if call is None else str(call.params.get("backend", ""))


def _without_backend(item: pytest.Item) -> str:
    name, _, parameters = item.nodeid.partition("[")
    return name + parameters.replace(_backend_of(item), "*", 1)


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
