"""What had become of a request when its time was up."""

from __future__ import annotations

from typing import Self

import attrs

from tta_agent_coordination.coordinator import records


@attrs.frozen
class Unanswered:
    """What its inbox knew of a request; as a text, why there was no reply.

    Attributes:
        place: Where it was: ``waiting`` (and it was taken back), ``leased``, ``gone``, or the
            reason of its death; empty when Redis could not be asked.
        attempts: How often it was handed out.
        error: Of its last failure, as the ``nack`` gave it; None if there was none.
    """

    place: str = ""
    attempts: int = 0
    error: str | None = None

    @classmethod
    def read(cls, reply: bytes) -> Self:
        """Read what ``withdraw.lua`` answers."""
        place, attempts, error = reply.split(b" ", 2)
        known = records.text(error[1:]) if error.startswith(b"+") else None
        return cls(place.decode(), int(attempts), known)

    @property
    def error_type(self) -> str:
        """The class of the exception, where a worker kept its name; else empty."""
        name, colon, _ = (self.error or "").partition(": ")
        return name if colon and name.isidentifier() else ""

    def __str__(self) -> str:
        """Say why there was no reply, as far as that is known."""
        match self.place:
            case "":
                return "what became of it is not known, for Redis could not be asked"
            case "waiting" if not self.attempts:
                return "nobody took it: nobody serves that inbox, or its agent is busy"
            case "waiting":
                how = "failed" if self.error else "was not finished"
                return (
                    f"it {how} and was to be tried again ({self._history}); three retries take 7 s "
                    "by default"
                )
            case "leased":
                return f"its agent is at work, or died ({self._history})"
            case "gone":
                return "it was finished, and whoever did so sent no reply in time"
            case reason:
                return f"it is among the dead letters as {reason} ({self._history})"

    @property
    def _history(self) -> str:
        tried = f"attempts: {self.attempts}"
        return f"{tried}, last error: {self.error}" if self.error else tried
