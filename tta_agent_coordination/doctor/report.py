"""What the doctor says."""

from __future__ import annotations

from enum import StrEnum

import attrs

from tta_agent_coordination.errors import ConfigurationError


class Status(StrEnum):
    """How something is; from good to bad."""

    OK = "ok"
    """Nothing to do."""
    UNKNOWN = "unknown"
    """It could not be looked at; `Finding.found` says why."""
    WARNING = "warning"
    """It works, and something may be lost, slow or refused later."""
    ERROR = "error"
    """A guarantee does not hold, or calls fail."""


_ORDER = list(Status)


@attrs.frozen
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What; see the table in ``docs/doctor.md``.
        status: How it is.
        found: What was seen.
        advice: What to do; may be empty when all is well.
        server: Where; empty for this process.
    """

    name: str
    status: Status
    found: str
    advice: str = ""
    server: str = ""


@attrs.frozen
class Report:
    """All that was looked at.

    Attributes:
        findings: In the order in which they were looked at, server by server.
    """

    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Status:
        """The worst status of all; ``ok`` when nothing was found."""
        return max((one.status for one in self.findings), key=_ORDER.index, default=Status.OK)

    @property
    def ok(self) -> bool:
        """Whether there is no error; there may be warnings."""
        return self.worst is not Status.ERROR

    def having(self, status: Status) -> tuple[Finding, ...]:
        """Return the findings of one status."""
        return tuple(one for one in self.findings if one.status is status)

    def insist(self) -> None:
        """Return only if there is no error.

        Raises:
            ConfigurationError: There are some; the text says which, and what to do.
        """
        errors = self.having(Status.ERROR)
        if errors:
            lines = [f"{one.name} {one.server}: {one.found}. {one.advice}" for one in errors]
            raise ConfigurationError(f"the coordinator is strict, and {'; '.join(lines)}")
