"""System checks: of the setting at every command, of the server with ``check --deploy``."""

from __future__ import annotations

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name for it

from tta_agent_coordination.django import SETTING, configured, coordination
from tta_agent_coordination.doctor.report import Finding, Status
from tta_agent_coordination.errors import CoordinationError
from tta_agent_coordination.glue.settings import Problem

TAG = "tta_coordination"
"""For ``check --tag``."""


def check_settings(**_: object) -> list[CheckMessage]:
    """Look for keys that there are not, and for wrong values; ask no server."""
    return [
        Error(problem.text, hint=problem.hint or None, id="tta_coordination.E001")
        for problem in _problems()
    ]


def check_server(**_: object) -> list[CheckMessage]:
    """Let the doctor look at the server; only with ``--deploy``."""
    if _problems():  # told by the other check
        return []
    try:
        report = coordination().coordinator.check()
    except CoordinationError as error:
        hint = f"start the server, or correct {SETTING}"
        return [Error(str(error), hint=hint, id="tta_coordination.E002")]
    return [_told(one) for one in (*report.having(Status.ERROR), *report.having(Status.WARNING))]


def _told(finding: Finding) -> CheckMessage:
    text = f"{finding.name} of {finding.server or 'this process'}: {finding.found}"
    hint = finding.advice or None
    if finding.status is Status.ERROR:
        return Error(text, hint=hint, id="tta_coordination.E003")
    return Warning(text, hint=hint, id="tta_coordination.W001")


def _problems() -> list[Problem]:
    try:
        return configured().problems()
    except (TypeError, ValueError):
        return [Problem(f"{SETTING} is no dictionary", f"write {SETTING} = {{'URL': 'redis://…'}}")]
