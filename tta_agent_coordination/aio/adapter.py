"""What the adapters for asyncio have in common."""

from __future__ import annotations

from typing import ClassVar, Generic, Protocol, Self, TypeVar

from tta_agent_coordination.aio.pool import DEFAULT_MAX_WORKERS, Pool


class Closable(Protocol):
    """What does the work of an adapter."""

    def close(self) -> None:
        """Close it for good."""


C = TypeVar("C", bound=Closable)


class Adapter(Generic[C]):
    """Calls a synchronous object in threads of its own, which end with the adapter."""

    _name: ClassVar[str]

    def __init__(self, core: C, *, max_workers: int = DEFAULT_MAX_WORKERS) -> None:
        """Make an adapter; no thread runs before the first call.

        Args:
            core: Does the work; stays the caller's to close, after the adapter.
            max_workers: Threads at most.

        Raises:
            TypeError, ValueError: `max_workers` is wrong.
        """
        self._core = core
        self._pool = Pool(self._name, max_workers)
        self._owns = False

    @classmethod
    def _owning(cls, core: C, max_workers: int) -> Self:
        """Make an adapter that closes `core` when it is closed."""
        adapter = cls(core, max_workers=max_workers)
        adapter._owns = True
        return adapter

    def __repr__(self) -> str:
        """Name whom it adapts."""
        return f"<{type(self).__name__} of {self._core!r}>"

    async def close(self) -> None:
        """Let calls that wait fail and those under way finish, and end the threads.

        What `from_url` made is closed, too. Safe to repeat.
        """
        await self._pool.close(self._end)

    def _end(self) -> None:
        """Close what is its own, when no call is under way any more."""
        if self._owns:
            self._core.close()


class ClosingAdapter(Adapter[C]):
    """One that ``async with`` closes."""

    async def __aenter__(self) -> Self:
        """Return itself; closed at the end of the ``async with``."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()
