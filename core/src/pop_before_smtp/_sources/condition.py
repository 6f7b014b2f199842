"""What every source tells of itself."""

from __future__ import annotations

import asyncio


class Condition:
    """Whether a source can be read.

    Args:
        name: how batches, messages and the state call the source.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = False
        """It is there and can be read."""
        self.problem: str | None = None
        """Why not, for people."""
        self.caught_up = asyncio.Event()
        """What was there at the start has been read, or there was nothing to read yet."""
