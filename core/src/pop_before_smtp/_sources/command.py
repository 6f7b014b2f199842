"""A program whose standard output is a log: started anew whenever it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Self

from pop_before_smtp._clock import Clock
from pop_before_smtp._record import Batch, Layout

from .condition import Condition
from .stream import StreamSource

_log = logging.getLogger("pop_before_smtp.source")

_PAUSE = 0.5
"""How long the first pause before the program is started again is, in seconds; each is twice as long as the last ..."""
_LONGEST_PAUSE = 30.0
"""... up to this."""
_STEADY = 60.0
"""A program that ran as long as this, in seconds, works: the pauses begin anew."""
_PATIENCE = 2.0
"""How long it may take to end when it is asked to, in seconds."""
_COMPLAINTS = 20
"""So many lines of its standard error are logged in a minute; the others are counted."""
_MINUTE = 60.0
_WIDTH = 400
"""Bytes of such a line that are logged."""


class CommandSource(Condition):
    """The lines that a program prints. What it prints before its first pause is treated as what a file holds.

    So a program that begins with history each time it is started, as ``docker logs -f``, extends no lease.

    Args:
        name: how batches, messages and the state call it.
        argv: the program and its arguments; no shell is involved.
        layout: how its lines are taken apart; given the first lines here.
        clock: the time.
        horizon: how old a line may be to matter, in seconds.
    """

    def __init__(self, name: str, argv: Sequence[str], layout: Layout, clock: Clock, *, horizon: float) -> None:
        super().__init__(name)
        self._argv = argv
        self._layout = layout
        self._clock = clock
        self._horizon = horizon
        self._complaints = Complaints(name, clock)
        self._failures = 0

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield what the program prints, for ever."""
        while True:
            begun = self._clock.now()
            try:
                async with _Run(self._argv, self._complaints) as run:
                    self.up, self.problem = True, None
                    stream = StreamSource(
                        self.name, run.output, self._layout, self._clock, horizon=self._horizon, late=True
                    )
                    stream.caught_up = self.caught_up
                    run.at_end(stream.finish)
                    async for batch in stream.batches():
                        yield batch
                outcome = run.outcome()
            except OSError as error:
                outcome = f"cannot be started: {error.strerror}"
            self.caught_up.set()
            if self._clock.now() - begun >= _STEADY:
                self._failures = 0
            self._fail(outcome)
            await asyncio.sleep(min(_PAUSE * 2.0 ** min(self._failures - 1, 10), _LONGEST_PAUSE))

    def _fail(self, outcome: str) -> None:
        self.up = False
        self.problem = f"{self.name} {outcome}"
        if not self._failures:
            _log.warning("%s; starting it again", self.problem)
        self._failures += 1


class _Run:
    """One run of the program, in a session of its own, so that nothing of it is left afterwards."""

    def __init__(self, argv: Sequence[str], complaints: Complaints) -> None:
        self._argv = argv
        self._complaints = complaints

    async def __aenter__(self) -> Self:
        """Start it. Raises OSError where that fails."""
        self.output, stdout = os.pipe()
        self._errors, stderr = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv, stdin=asyncio.subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
            )
        except BaseException:
            os.close(self.output)
            os.close(self._errors)
            raise
        finally:
            os.close(stdout)
            os.close(stderr)
        for end in (self.output, self._errors):
            os.set_blocking(end, False)
        asyncio.get_running_loop().add_reader(self._errors, self._hear)
        self._ended = asyncio.create_task(self._process.wait())
        return self

    def at_end(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` when the program has ended, even if what it started lives on and holds its output."""
        self._ended.add_done_callback(lambda _: tell())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it and all that it started."""
        try:
            self._signal(signal.SIGTERM)
            await asyncio.wait([self._ended], timeout=_PATIENCE)
        finally:
            self._signal(signal.SIGKILL)
            self._hear()
            self._complaints.end()
            asyncio.get_running_loop().remove_reader(self._errors)
            os.close(self._errors)
            os.close(self.output)
        await self._ended

    def outcome(self) -> str:
        """Return for people how it ended."""
        status = self._ended.result()
        if status >= 0:
            return f"ended with exit status {status}"
        return f"was ended by {signal.Signals(-status).name}"

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def _hear(self) -> None:
        """Read a piece of its standard error."""
        try:
            block = os.read(self._errors, 65536)
        except BlockingIOError:
            return
        if not block:
            asyncio.get_running_loop().remove_reader(self._errors)
        self._complaints.feed(block)


class Complaints:
    """What a program writes to its standard error, in our log: line by line, and never a flood.

    Args:
        name: how messages call the program.
        clock: the time.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._since = -_MINUTE
        self._said = self._unsaid = 0
        self._held = b""

    def feed(self, block: bytes) -> None:
        """Take a piece; log the lines that end in it."""
        *lines, rest = (self._held + block).split(b"\n")
        for line in lines:
            self._say(line)
        self._held = rest[:_WIDTH]

    def end(self) -> None:
        """Log what is still held back: the program has ended."""
        self._say(self._held)
        self._held = b""
        self._count()

    def _say(self, line: bytes) -> None:
        if not line.strip():
            return
        now = self._clock.now()
        if now - self._since >= _MINUTE:
            self._count()
            self._since, self._said = now, 0
        if self._said < _COMPLAINTS:
            self._said += 1
            _log.warning("%s: %s", self._name, repr(line[:_WIDTH].decode("utf-8", "replace"))[1:-1])
        else:
            self._unsaid += 1

    def _count(self) -> None:
        if self._unsaid:
            _log.warning("%s: %d more lines on its standard error", self._name, self._unsaid)
        self._unsaid = 0


def check(argv: Sequence[str]) -> str | None:
    """Return what speaks against starting a program, for people; None if nothing does."""
    if any("\0" in each for each in argv):
        return "no argument of a program can hold a NUL; remove it"
    if shutil.which(argv[0]):
        return None
    return f"{argv[0]} does not exist or may not be executed; name a program by its full path"
