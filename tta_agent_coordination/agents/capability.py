"""What an agent can do, and how versions of that are compared."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import attrs

from tta_agent_coordination import checks

_NAME = re.compile(r"[a-z][a-z0-9_]{0,127}")
# The grammar of https://semver.org, version 2.0.0.
_VERSION = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)

Precedence = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]


def precedence(version: str) -> Precedence:
    """Return what orders semantic versions: compare the results with ``<``.

    Raises:
        ValueError: It is no semantic version, as https://semver.org defines them.
    """
    match = _VERSION.fullmatch(checks.instance_of("version", version, str))
    if match is None:
        raise ValueError(f"a version has the form 1.2.3 or 1.2.3-rc.1, not {version!r}")
    major, minor, patch, before = match.groups()
    # A release comes after all that lead to it; numbers come before words.
    parts = tuple(
        (not part.isdigit(), int(part) if part.isdigit() else 0, part)
        for part in (before.split(".") if before else ())
    )
    return int(major), int(minor), int(patch), before is None, parts


def _check_name(_owner: object, _attribute: object, value: object) -> None:
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise ValueError(
            "the name of a capability is a-z, then up to 127 of a-z 0-9 _, not "
            f"{checks.describe(value)}"
        )


def _check_version(_owner: object, _attribute: object, value: Any) -> None:
    precedence(value)


def _tags(value: Iterable[str]) -> tuple[str, ...]:
    return checks.strings("tags", value)


@attrs.frozen
class AgentCapability:
    """Something an agent can do.

    Attributes:
        name: ``a-z``, then ``a-z 0-9 _``.
        version: A semantic version; compared as such, not as text.
        description: For people.
        tags: Free labels to find it by.
    """

    name: str = attrs.field(validator=_check_name)
    version: str = attrs.field(default="1.0.0", validator=_check_version)
    description: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.instance_of(str))
    )
    tags: tuple[str, ...] = attrs.field(default=(), converter=_tags)

    def satisfies(
        self, name: str | None = None, min_version: str | None = None, tags: Iterable[str] = ()
    ) -> bool:
        """Whether it has this name, at least this version and all these tags."""
        if name is not None and name != self.name:
            return False
        if min_version is not None and precedence(self.version) < precedence(min_version):
            return False
        return set(tags) <= set(self.tags)
