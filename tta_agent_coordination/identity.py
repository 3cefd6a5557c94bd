"""Who sends and receives: the address of an agent and of its inbox."""

from __future__ import annotations

import re
from typing import Any

import attrs

from tta_agent_coordination.checks import describe

_PART = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def _check_part(_owner: AgentId, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None and attribute.name == "instance":
        return
    if not isinstance(value, str) or _PART.fullmatch(value) is None:
        raise ValueError(
            f"the {attribute.name} of an AgentId must be 1 to 128 characters of "
            f"A-Z a-z 0-9 _ . -, not {describe(value)}{_hint(attribute.name, value)}"
        )


def _hint(part: str, value: object) -> str:
    if part == "type" and isinstance(value, str) and ":" in value:
        return "; AgentId.parse reads type:instance"
    return f"; write {str(value)!r}" if type(value) is int and part == "instance" else ""


REPLY_TYPE = "_tta-coordination.reply"
"""The type of the inboxes in which processes get replies to their requests; they fade when unused.

Nobody gives it to an agent by chance.
"""


@attrs.frozen(order=True, cache_hash=True)
class AgentId:
    """The address of an agent, and of its inbox.

    ``AgentId("worker")`` is the shared inbox of the type, for which any number of consumers
    compete; ``AgentId("worker", "1")`` is that instance's own. The type
    ``_tta-coordination.reply`` is kept for replies to requests: its inboxes do not last.

    Attributes:
        type: What kind of agent; 1 to 128 characters of ``A-Z a-z 0-9 _ . -``.
        instance: Which one of the kind, of the same characters; None for the shared inbox.

    Raises:
        ValueError: A part is empty, too long or has another character; the text names the part.
    """

    type: str = attrs.field(validator=_check_part)
    instance: str | None = attrs.field(default=None, validator=_check_part)

    def __str__(self) -> str:
        """Return ``type`` or ``type:instance``."""
        return self.type if self.instance is None else f"{self.type}:{self.instance}"

    @classmethod
    def parse(cls, text: str) -> AgentId:
        """Read back what ``str()`` gave.

        Args:
            text: ``type`` or ``type:instance``.

        Raises:
            ValueError: It is of neither form, or no text.
        """
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            # As AgentId(1) does: there is no text that would do.
            raise ValueError(  # noqa: TRY004
                f"the text of an AgentId must be a string, not {describe(text)}"
            )
        kind, colon, instance = text.partition(":")
        return cls(kind, instance if colon else None)
