"""A stream, read to its end: standard input, a named pipe, what a program prints."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import stat
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

from pop_before_smtp._clock import Clock
from pop_before_smtp._record import Batch, Layout

from .condition import Condition
from .lines import BLOCK, HEAD, Cutter, fresh

_log = logging.getLogger("pop_before_smtp.source")

_SILENCE = 0.3
"""What comes before the first pause of this length was found: it may have been written long ago. In seconds."""
_KEPT = 32 * 1024 * 1024
"""How much of it is kept, in bytes: the newest."""
_BUSY = 2.0
"""A stream without a pause is looked at this often, in seconds, ..."""
_NOW = 10.0
"""... and it is live if everything in it was stamped this short a time before or after it came, in seconds."""


class StreamSource(Condition):
    """The lines of a stream; what was waiting in it is treated as what a file holds at the start.

    Args:
        name: how batches, messages and the state call it.
        fd: the stream; it is neither closed nor made non-blocking, since others may share it.
        layout: how its lines are taken apart; given the first lines here.
        clock: the time.
        horizon: how old a line may be to matter, in seconds.
        late: its writer has just begun and may need a while; whatever it tells first was found.
    """

    def __init__(self, name: str, fd: int, layout: Layout, clock: Clock, *, horizon: float, late: bool = False) -> None:
        super().__init__(name)
        self.up = True
        self._fd = fd
        self._layout = layout
        self._clock = clock
        self._horizon = horizon
        self._late = late
        self._ready = asyncio.Event()  # there is something to read, perhaps
        self._finishing = False
        self._limit = math.inf  # of found lines, beside receipt
        self._edge = math.inf  # lines that begin before this byte were found

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield what is waiting and what comes, to the stream's end."""
        status = os.fstat(self._fd)
        if stat.S_ISREG(status.st_mode):
            self._limit = status.st_mtime
            position, waiting = await self._seek(status.st_size), b""
        else:
            position, waiting = await self._gather()
        cutter = Cutter(position)
        for begin in range(0, len(waiting), BLOCK):
            for batch in self._batch(*cutter.feed(waiting[begin : begin + BLOCK])):
                yield batch
            await asyncio.sleep(0)
        if self._edge < math.inf:
            self.caught_up.set()
        del waiting
        while self.up and (block := await self._block()):
            for batch in self._batch(*cutter.feed(block)):
                yield batch
        for batch in self._batch(*cutter.finish()):
            yield batch
        self.caught_up.set()

    def finish(self) -> None:
        """Let it end as soon as nothing waits in it, whoever else holds its other end. It has to be non-blocking."""
        self._finishing = True
        self._ready.set()

    def _batch(self, position: int, lines: bytes) -> Iterator[Batch]:
        if not lines:
            return
        self._layout.sniff(lines[:HEAD])
        received = self._clock.wall()
        live = position >= self._edge
        limit = received if live else min(received, self._limit)
        yield Batch(
            source=self.name,
            data=lines,
            position=position,
            received=received,
            limit=limit,
            live=live,
            layout=self._layout,
        )

    async def _seek(self, size: int) -> int:
        """Go to where the fresh lines of a file begin."""
        start = os.lseek(self._fd, 0, os.SEEK_CUR)
        self._layout.sniff(os.pread(self._fd, HEAD, start))
        start = await self._fresh(partial(os.pread, self._fd), start, max(start, size))
        return os.lseek(self._fd, start, os.SEEK_SET)

    async def _gather(self) -> tuple[int, bytes]:
        """Read until nothing waits any more, and return the fresh lines of it with their position."""
        blocks: deque[bytes] = deque()
        size = dropped = 0
        head = first = b""
        block = await self._block(_SILENCE)
        if block is None and self._late:
            self.caught_up.set()
            block = await self._block()
        since = self._clock.now()
        while block:
            blocks.append(block)
            size += len(block)
            while size - dropped > _KEPT:
                dropped += len(blocks.popleft())
            if len(head) < HEAD:
                head = (head + block)[:HEAD]
                self._layout.sniff(head)
            first = first or block
            if self._clock.now() - since >= _BUSY:
                if self._is_live(first + block):
                    break
                since, first = self._clock.now(), b""
            block = await self._block(_SILENCE)
        found = b"".join(blocks)
        self._edge = size
        whole = dropped + found.find(b"\n") + 1 if dropped else 0
        start = await self._fresh(lambda size, at: found[at - dropped : at - dropped + size], whole, self._edge)
        return start, found[start - dropped :]

    async def _fresh(self, read: Callable[[int, int], bytes], start: int, end: int) -> int:
        limit = min(self._clock.wall(), self._limit)
        return await fresh(read, start, end, self._layout, limit=limit, behind=self._horizon)

    def _is_live(self, data: bytes) -> bool:
        """Tell whether lines are just being written; such as are read back from history rush through time."""
        now = self._clock.wall()
        stamps = [self._layout.stamp(line, now) for line in data.split(b"\n")[:-1]]
        times = [stamp for stamp in stamps if stamp is not None]
        return bool(times) and max(abs(now - time) for time in times) <= _NOW

    async def _block(self, seconds: float | None = None) -> bytes | None:
        """Return what can be read, empty at the end; None if nothing came for ``seconds``."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._finishing:
                self._ready.clear()
            try:
                loop.add_reader(self._fd, self._ready.set)
                async with asyncio.timeout(seconds):
                    await self._ready.wait()
            except PermissionError:  # epoll takes no files, nor /dev/null: there is no waiting for them
                await asyncio.sleep(0)
            except TimeoutError:
                return None
            finally:
                loop.remove_reader(self._fd)
            try:
                return self._read()
            except BlockingIOError:  # somebody who shares the stream was faster
                if self._finishing:
                    self.up = False
                    return b""

    def _read(self) -> bytes:
        try:
            block = os.read(self._fd, BLOCK)
        except BlockingIOError:
            raise
        except OSError as error:  # a terminal that was hung up
            block = b""
            self.problem = f"{self.name}: {error.strerror}"
            _log.warning("%s; it is taken as ended", self.problem)
        self.up = bool(block)
        return block
