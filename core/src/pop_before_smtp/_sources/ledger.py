"""How far the files of one log have been read, those too that are closed or hold other bytes by now."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from attrs import evolve

from pop_before_smtp._record import Checkpoint

from .opened import Opened
from .rotated import Member

_VANISHED = 16
"""What so many files held that are gone stays known: it may come again, compressed."""


class Ledger:
    """What is known of the files that are not open.

    Args:
        checkpoint: how far all was read before.
    """

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        known = (evolve(checkpoint, others=()), *checkpoint.others) if checkpoint else ()
        self._trails: list[tuple[Checkpoint, ...]] = [(each,) for each in known]
        self._ends = known
        self._looked: dict[tuple[int, int], tuple[int, int]] = {}

    @property
    def inodes(self) -> set[int]:
        """The files' inodes."""
        return {each.inode for each in self._ends}

    def add(self, trail: Sequence[Checkpoint]) -> None:
        """Remember the positions that a file was read to, the last one at the end."""
        if trail[-1].offset:
            self._set([*self._trails, tuple(trail)])

    def forget(self, present: Collection[int]) -> None:
        """Forget most of what does not lie beside the log any more.

        Args:
            present: the inodes of what does.
        """
        gone = [trail for trail in self._trails if trail[-1].inode not in present]
        superfluous = gone[:-_VANISHED]
        self._set([trail for trail in self._trails if trail not in superfluous])
        self._looked = {key: seen for key, seen in self._looked.items() if key[1] in present}

    def _set(self, trails: list[tuple[Checkpoint, ...]]) -> None:
        self._trails = trails
        self._ends = tuple(trail[-1] for trail in trails)

    def resume(self, file: Opened, files: Sequence[Opened]) -> int:
        """Return how much of what a file holds has been read already, in it or in another; it knows that itself now.

        Args:
            file: the file, which has just been opened.
            files: the others that are open.
        """
        known = {trail: file.continues(trail) for trail in (*self._trails, *(tuple(other.trail) for other in files))}
        self._set([trail for trail in self._trails if known[trail] is None or trail[-1].inode != file.key[1]])
        return max((offset or 0 for offset in known.values()), default=0)

    def checkpoint(self, files: Sequence[Opened]) -> Checkpoint:
        """Return how far all has been read: the newest of the open ``files`` that was, and the others."""
        *others, newest = (file.trail[-1] for file in files if file.offset)
        return evolve(newest, others=(*self._ends, *others))

    # -- which files need no look

    def unseen(self, members: Sequence[Member]) -> Iterator[Member]:
        """Yield those that have changed since they were looked at."""
        return (member for member in members if self._looked.get(member.key) != member.signature)

    def look(self, key: tuple[int, int], signature: tuple[int, int]) -> None:
        """Remember that a file that looks like this needs no look."""
        self._looked[key] = signature

    def look_again(self) -> None:
        """Have every file looked at: a copy of one that is gone holds something new now."""
        self._looked.clear()
