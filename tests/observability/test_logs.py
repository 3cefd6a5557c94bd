"""Every line of the log has a key that stays the same, and the page lists all of them."""

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import tta_agent_coordination
from tests.doctor.test_docs import rows
from tests.observability.given import SENDER, WORKER, message
from tta_agent_coordination import RedisMessageCoordinator

PACKAGE = Path(tta_agent_coordination.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs" / "observability.md").read_text("utf-8")
METHODS = {"debug", "info", "warning", "error", "critical", "exception", "log"}
RESERVED = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""Attributes that a record has anyway: `logging` refuses them in ``extra``."""


@attrs.frozen
class Line:
    """A call of the logger, as it stands in the code."""

    place: str
    level: str
    fields: tuple[str, ...]
    event: str | None


def trees() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        yield str(file.relative_to(PACKAGE)), ast.parse(file.read_text("utf-8"))


def lines() -> Iterator[Line]:
    for file, tree in trees():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func.value) in {"logger", "logging"}
                and node.func.attr in METHODS
            ):
                yield line(f"{file}:{node.lineno}", node.func.attr, node)


def line(place: str, level: str, call: ast.Call) -> Line:
    extra = next((word.value for word in call.keywords if word.arg == "extra"), None)
    if not isinstance(extra, ast.Dict):
        return Line(place, level, (), None)
    fields = {
        key.value: value
        for key, value in zip(extra.keys, extra.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    event = fields.pop("event", None)
    name = event.value if isinstance(event, ast.Constant) else None
    return Line(place, level, tuple(fields), name if isinstance(name, str) else None)


LINES = list(lines())


def test_every_line_has_an_event() -> None:
    assert len(LINES) > 30
    assert [line.place for line in LINES if line.event is None] == []


def test_no_field_is_one_that_every_record_has() -> None:
    assert [line for line in LINES if set(line.fields) & RESERVED] == []


def test_all_lines_go_to_one_logger() -> None:
    named = {
        ast.unparse(node.args[0])
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger"
    }
    assert named == {"'tta_agent_coordination'"}


def test_the_page_lists_every_event_with_its_level_and_fields() -> None:
    told = {cells[0].strip("`"): (cells[1], cells[2]) for cells in rows(PAGE, "## Logs")}

    levels: dict[str, set[str]] = {}
    fields: dict[str, set[str]] = {}
    for found in LINES:
        assert found.event is not None
        level = {"exception": "error", "log": "by its change"}.get(found.level, found.level)
        levels.setdefault(found.event, set()).add(level)
        fields.setdefault(found.event, set()).update(found.fields)
    assert told == {
        event: (
            ", ".join(sorted(levels[event])),
            ", ".join(f"`{field}`" for field in sorted(fields[event])),
        )
        for event in levels
    }


def test_the_page_lists_events_in_order() -> None:
    names = [cells[0] for cells in rows(PAGE, "## Logs")]
    assert names == sorted(names)


@pytest.mark.backend("valkey")
def test_a_record_has_its_event_and_its_fields(
    coordinator: RedisMessageCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator.configure(dead_letter_limit=1)
    coordinator.send_many(SENDER, [message(n, ttl=0.0) for n in range(2)])

    assert coordinator.receive(WORKER) is None

    dead, dropped = "dead_lettered", "dead_letters_dropped"
    assert [record.event for record in caplog.records] == [dead, dead, dropped]
    assert {record.name for record in caplog.records} == {"tta_agent_coordination"}
    assert caplog.records[-1].count == 1
