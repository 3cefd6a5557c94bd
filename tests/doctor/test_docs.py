"""The pages about the doctor, security and migration say what the code does, and what it may."""

import re
from pathlib import Path

from tests.doctor.test_doctor import OF_PROCESS
from tests.doctor.test_rules import CASES
from tta_agent_coordination.doctor import Status
from tta_agent_coordination.doctor.rules import RULES
from tta_agent_coordination.transport.access import (
    DOCTOR_GRANTS,
    GRANTS,
    MIGRATION_GRANTS,
    acl_line,
)

DOCS = Path(__file__).parents[2] / "docs"
DOCTOR, SECURITY, MIGRATION = (
    (DOCS / f"{name}.md").read_text("utf-8") for name in ("doctor", "security", "migration")
)

ELSEWHERE = {
    ("reachable", Status.ERROR),
    ("call_timeout", Status.WARNING),
    ("redis_py", Status.WARNING),
    ("threads", Status.WARNING),
}
"""What findings without a rule can be."""


def rows(page: str, after: str) -> list[list[str]]:
    """The cells of the table that follows a text."""
    lines = page.partition(after)[2].splitlines()
    table = [line for line in lines if line.startswith("| ")]
    first = lines.index(table[0])
    cells = [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in lines[first + 2 :] if line]
    return [row for row in cells if row][: cells.index([]) if [] in cells else None]


def test_the_page_lists_every_finding_in_order() -> None:
    names = [cells[0].strip("`") for cells in rows(DOCTOR, "## What is looked at")]
    server, process = names[: len(RULES) + 1], names[len(RULES) + 1 :]
    assert server == ["reachable", *RULES]
    assert set(process) == OF_PROCESS


def test_the_page_says_of_each_finding_how_bad_it_can_be() -> None:
    told = {
        (cells[0].strip("`"), status)
        for cells in rows(DOCTOR, "## What is looked at")
        for status, text in zip((Status.WARNING, Status.ERROR), cells[1:], strict=True)
        if text
    }
    bad = {(name, status) for name, _, status, _ in CASES if status in {"warning", "error"}}
    assert told == bad | ELSEWHERE


def test_the_page_shows_the_line_of_the_least_rights() -> None:
    assert f"```text\n{acl_line('tta-coord')}\n```" in SECURITY


def test_the_page_lists_every_right_with_its_reason() -> None:
    listed = {
        (command.strip("`").replace("\\|", "|"), cells[1])
        for cells in rows(SECURITY, "not in this table")
        for command in cells[0].split(", ")
    }
    assert listed == {(grant.command, grant.reason) for grant in GRANTS}
    for grant in DOCTOR_GRANTS:
        command = grant.command.replace("|", "\\|")
        assert f"| `{command}` | {grant.reason} |" in SECURITY


def test_the_rights_of_a_migration_are_listed() -> None:
    (sentence,) = re.findall(
        r"^A user with restricted rights needs, .+?\.$", MIGRATION, re.MULTILINE | re.DOTALL
    )
    listed = re.findall(r"`([A-Z]+)`", sentence)
    assert [name.lower() for name in listed] == [grant.command for grant in MIGRATION_GRANTS]
