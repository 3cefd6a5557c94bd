"""One change to one file, as small as a slip of the hand."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable

import attrs


@attrs.frozen
class Mutant:
    """A file with one change.

    Attributes:
        path: Of the file, from the root of the repository, with slashes.
        line: Number of the first line that differs.
        kind: Of change: the operator of cosmic-ray, or ours for Lua.
        before: The line as it is in the repository, without its indentation.
        source: The whole changed file.
    """

    path: str
    line: int
    kind: str
    before: str
    source: str

    @property
    def digest(self) -> str:
        """Tells it from every other one."""
        return hashlib.sha256(f"{self.path}\n{self.source}".encode()).hexdigest()[:16]

    def diff(self, original: str) -> str:
        """Return the change as a unified diff without context."""
        lines = difflib.unified_diff(
            original.splitlines(), self.source.splitlines(), self.path, self.path, "", "", 0, ""
        )
        return "\n".join(lines)


Maker = Callable[[], Mutant | None]
"""Makes a mutant, or None where the change cannot be made: making them all takes minutes."""
