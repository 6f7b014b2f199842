"""One connection of a mail server that asks: answered in slices, and cut when it is of no use."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from .dialogue import Dialogue, Violation

_SLICE = 200
"""Questions of one connection that are answered before others have their turn: a fraction of a millisecond's work."""
BUFFER = 16 * 1024
"""Bytes that are read at a time, and answers in bytes that wait to be fetched before no more is read."""


class Keeper(Protocol):
    """What a connection needs of the server that it belongs to."""

    buffer: bytearray
    """Where what arrives is read to; it is free again when it has been taken."""
    questions: int
    """Answered so far."""

    def opened(self, connection: Connection) -> bool:
        """Take a connection, or tell that there are too many."""

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""

    def impatient(self, connection: Connection, *, waiting: bool, anew: bool) -> None:
        """Note whether somebody is waited for, and whether the time that this may take begins anew."""


class Connection(asyncio.BufferedProtocol):
    """Holds at most one request that is not whole and one buffer each of questions and answers.

    Args:
        keeper: the server.
        dialogue: cuts the requests out and answers them.
    """

    def __init__(self, keeper: Keeper, dialogue: Dialogue) -> None:
        self._keeper = keeper
        self._dialogue = dialogue
        self._full = self._ending = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many already."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(BUFFER)
        if not self._keeper.opened(self):
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, whoever ended it."""
        del exc
        self._ending = True
        self._keeper.closed(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Say where what arrives goes."""
        del sizehint
        return self._keeper.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Answer what has arrived."""
        self._dialogue.take(bytes(memoryview(self._keeper.buffer)[:nbytes]))
        self._answer()

    def eof_received(self) -> None:
        """Have the last answers fetched; all that was asked has been answered."""
        self.end()

    def pause_writing(self) -> None:
        """Answer nothing more: nobody fetches the answers."""
        self._full = True

    def resume_writing(self) -> None:
        """Go on answering."""
        self._full = False
        self._answer()

    def end(self) -> None:
        """End it when the answers have been fetched."""
        self._ending = True
        self._transport.close()
        self._keeper.impatient(self, waiting=True, anew=True)

    def abort(self) -> None:
        """End it now."""
        self._ending = True
        self._transport.abort()

    def _answer(self) -> None:
        """Answer a slice of the questions that are there."""
        if self._ending or self._stuck():
            return
        try:
            count, said = self._dialogue.answers(_SLICE)
        except Violation as violation:
            self._transport.write(violation.reply)
            self.end()
            return
        self._keeper.questions += count
        self._transport.write(said)
        if self._stuck():
            self._transport.pause_reading()
        elif count == _SLICE:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._answer)
        else:
            self._transport.resume_reading()
        self._keeper.impatient(self, waiting=self._stuck() or self._dialogue.waiting, anew=count > 0)

    def _stuck(self) -> bool:
        """Tell whether answers have to be fetched first; writing one may change that."""
        return self._full
