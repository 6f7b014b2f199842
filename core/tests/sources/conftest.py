"""A followed file whose noticing is driven by hand or left to the kernel."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pop_before_smtp._record import Batch, Checkpoint, Layout
from pop_before_smtp._sources import FileSource, Watch
from pop_before_smtp.testing import FakeClock
from reading import Hand, Reading

HORIZON = 1800.0


class Follow(Reading[Batch]):
    """A FileSource being read, in an ``async with``.

    Args:
        path: the log.
        checkpoint: where to go on.
        inotify: let the kernel tell of changes; else they are looked for by :meth:`settle` only.
        polling: look for them all the time.
        clock: the time; the real one's start unless given.
    """

    def __init__(
        self,
        path: Path,
        *,
        checkpoint: Checkpoint | None = None,
        inotify: bool = False,
        polling: bool = False,
        clock: FakeClock | None = None,
    ) -> None:
        self.clock = clock or FakeClock(time.time())
        self.hand = Hand()
        self._inotify = inotify
        watch: Any = Watch(inotify=inotify) if inotify or polling else self.hand
        super().__init__(
            FileSource("log", path, Layout(), self.clock, checkpoint=checkpoint, horizon=HORIZON, watch=watch)
        )

    @property
    def data(self) -> bytes:
        return b"".join(batch.data for batch in self.batches)

    @property
    def lines(self) -> list[bytes]:
        """The lines read; one that its file does not end is taken as one."""
        return [line for batch in self.batches for line in batch.data.splitlines()]

    @property
    def checkpoint(self) -> Checkpoint | None:
        return self.batches[-1].checkpoint if self.batches else None

    async def settle(self, lines: int | None = None) -> None:
        """Let the source notice what has changed.

        Args:
            lines: how many lines there will be then, which inotify has to be waited for.
        """
        if not self._inotify:
            await self.hand.look()
            self.clock.advance(1)
            await self.hand.look()
            return
        async with asyncio.timeout(5):
            while lines is not None and len(self.lines) < lines:
                try:
                    await asyncio.wait_for(self._came.wait(), 0.1)
                except TimeoutError:  # half a line of a rotated file is waited for
                    self.clock.advance(1)
                    self.source._bell.ring()
                self._came.clear()
        await asyncio.sleep(0.005)  # for what must not come


def stamped(number: int, at: float | None = None) -> bytes:
    """Return a syslog line without its newline."""
    time_ = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    return f"{time_.isoformat()} mail test: line {number}".encode()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), 20))
    return True


async def _until(check: Callable[[], object]) -> None:
    for _ in range(1000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(check)


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Give what waits until something is so."""
    return _until


@pytest.fixture
def follow() -> Callable[..., Follow]:
    return Follow


@pytest.fixture
def line() -> Callable[..., bytes]:
    return stamped
