"""How the daemon is: what it publishes for ``status``, and what it tells the service manager."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from attrs import define

from ._mapthread import MapThread
from ._outlet import Outlet
from ._record import Batch, Checkpoint, Position, Records
from ._serve import Server
from ._sources import Source

Status = dict[str, Any]
"""JSON data: times are unix seconds."""


@define
class Progress:
    """How far a source has been read, and when its last record came (unix seconds), if that is known."""

    position: Position | None = None
    last: float | None = None

    def note(self, batch: Batch | Records) -> None:
        """Go on to where a batch ends."""
        self.position = batch.checkpoint or self.position
        if isinstance(batch, Batch):
            self.last = batch.near
        elif batch.records:
            record = batch.records[-1]
            self.last = record.received if record.time is None else record.time


def source_status(source: Source, progress: Progress) -> Status:
    """Return how a source is."""
    at = progress.position
    position = at.offset if isinstance(at, Checkpoint) else at
    return {
        "source": source.name,
        "up": source.up,
        "problem": source.problem,
        "position": position,
        "last": progress.last,
    }


def map_status(outlet: Outlet, keeper: MapThread | Server) -> Status:
    """Return how a map or lookup is."""
    return {
        "writer": outlet.label,
        "leases": len(outlet.leases),
        "problem": keeper.problem,
        "written": keeper.written,
    }


def problems(status: Status) -> list[str]:
    """Return what is wrong, one line each, the name first."""
    named = [(each["source"], each["problem"]) for each in status["sources"]]
    named += [(each["writer"], each["problem"]) for each in status["writers"]]
    named += [("state", status["problem"])]
    return [text if text.startswith(name) else f"{name}: {text}" for name, text in named if text]


def headline(status: Status) -> str:
    """Return the one line for the service manager: ``3 sources, 1 with a problem: ...``."""
    return ", ".join(_part(name, status[f"{name}s"]) for name in ("source", "writer"))


def _part(name: str, entries: Sequence[Status]) -> str:
    bad = [each for each in entries if each["problem"]]
    count = f"{len(entries)} {name}{'' if len(entries) == 1 else 's'}"
    return f"{count}, {len(bad)} with a problem: {'; '.join(each['problem'] for each in bad)}" if bad else count


def counted(counts: Counter[str]) -> str:
    """Return counters as ``name=number ...``."""
    return " ".join(f"{name}={number}" for name, number in sorted(counts.items())) or "none"
