"""What has to be remembered from one line of a session to the next."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable

Key = tuple[str, bytes, bytes, str]
"""Source, host, program, and pid or session: what no two sessions share that are open at the same time."""

CONNECT_SECONDS = 600.0
"""How long an address waits for its login; servers hang up earlier."""
_MOST = 10_000


class Memory:
    """One text per session, given up when its time is over, the oldest when there are too many.

    Args:
        lifetime: seconds that a text is remembered.
        counts: where those given up for want of room are counted.
        name: under which name.
    """

    def __init__(self, lifetime: float, counts: Counter[str], name: str) -> None:
        self._lifetime = lifetime
        self._counts = counts
        self._name = name
        self._held: OrderedDict[Key, tuple[float, str]] = OrderedDict()

    def put(self, key: Key, at: float, text: str) -> None:
        """Remember a text from ``at`` on, unix seconds, instead of what was remembered of that session."""
        self._held[key] = at, text
        self._held.move_to_end(key)
        if len(self._held) > _MOST:
            self._held.popitem(last=False)
            self._counts[self._name] += 1

    def take(self, key: Key, at: float) -> str | None:
        """Return the text and forget it; None if there is none, or its time was over at ``at``."""
        held = self._held.pop(key, None)
        return held[1] if held and at - held[0] <= self._lifetime else None

    def dump(self) -> list[tuple[str, bytes, bytes, str, float, str]]:
        """Return all that is remembered, oldest first."""
        return [(*key, at, text) for key, (at, text) in self._held.items()]

    def load(self, held: Iterable[tuple[str, bytes, bytes, str, float, str]]) -> None:
        """Remember what :meth:`dump` gave."""
        for source, host, program, session, at, text in held:
            self.put((source, host, program, session), at, text)
