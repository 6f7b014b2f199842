"""A source that is being read, and a hand that tells one when to look at its file."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from pop_before_smtp._record import Batch, Records

AnyBatch = TypeVar("AnyBatch", Batch, Records)


class Reading(Generic[AnyBatch]):
    """Reads a source in an ``async with``, from when it has caught up.

    Args:
        source: what to read.
    """

    def __init__(self, source: Any) -> None:
        self.source = source
        self.batches: list[AnyBatch] = []
        self._came = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._collect())
        await self.source.caught_up.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    async def _collect(self) -> None:
        async for batch in self.source.batches():
            self.batches.append(batch)
            self._came.set()


class Hand:
    """Stands in for a Watch and its one Bell: the file is looked at when a test says so."""

    def __init__(self) -> None:
        self.pause = 0.0
        self._idle = asyncio.Event()
        self._look = asyncio.Event()

    def bell(self, _path: Path) -> Self:
        return self

    def follow(self, files: Iterable[int]) -> None:
        list(files)

    def close(self) -> None:
        pass

    async def wait(self, seconds: float) -> None:
        self.pause = seconds
        self._idle.set()
        await self._look.wait()
        self._look.clear()

    async def idle(self) -> None:
        """Return when the source has nothing to do."""
        await self._idle.wait()

    async def look(self) -> None:
        """Return when the source has seen all there is."""
        self._idle.clear()
        self._look.set()
        await self.idle()
