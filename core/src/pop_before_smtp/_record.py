"""One log record: batches of lines, their layout, and the stamps in their headers."""

from __future__ import annotations

from attrs import define, frozen


@frozen(kw_only=True)
class Checkpoint:
    """How far a file has been read.

    ``fingerprint`` is a hash of the file's first bytes (as many as ``fingerprint_size``), so that a file that was
    truncated and grown again, or another file with a reused inode number, is told from the one we knew.
    """

    device: int
    inode: int
    offset: int
    fingerprint: bytes
    fingerprint_size: int


@define(kw_only=True)
class Batch:
    """Whole lines of one source, at most 128 KiB unless one line is longer."""

    source: str
    data: bytes
    """Each line ends in a newline, but for the last one of a source that ended."""
    position: int = 0
    """Byte offset of ``data`` in the source."""
    received: float
    """Wall clock at reading."""
    limit: float = float("inf")
    """No event of this batch may be later: receipt, or the file's mtime for bytes found at opening."""
    live: bool = True
    """Appended while we watched."""
    checkpoint: Checkpoint | None = None
    """Where the source stands behind this batch; None for streams."""
