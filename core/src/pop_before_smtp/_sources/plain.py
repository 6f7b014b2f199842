"""A whole log from its beginning, as fast as it can be read, for commands that do not follow."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from pop_before_smtp._record import Batch, Layout
from pop_before_smtp.errors import SourceError

from .file import explain
from .lines import BLOCK, HEAD, Cutter
from .opened import Opened


def read_all(path: str, layout: Layout, *, received: float | None = None) -> Iterator[Batch]:
    """Yield every line of a log, as if each had just been written: its own stamp says when it happened.

    Args:
        path: the file, or ``-`` for standard input.
        layout: how its lines are taken apart.
        received: what stands in for a missing stamp, in unix seconds, and what stamps without a year are near; now if
            None.

    Raises:
        SourceError: it cannot be read.
    """
    received = time.time() if received is None else received
    try:
        for position, lines in _stream() if path == "-" else _file(Path(path)):
            layout.sniff(lines[:HEAD])
            yield Batch(source=path, data=lines, position=position, received=received, layout=layout)
    except OSError as error:
        raise SourceError(explain(Path(path), error)) from error


def _file(path: Path) -> Iterator[tuple[int, bytes]]:
    file = Opened.at(path)
    try:
        while (read := file.read(last=True))[1]:
            yield read
    finally:
        file.close()


def _stream() -> Iterator[tuple[int, bytes]]:
    cutter = Cutter()
    while block := os.read(0, BLOCK):
        position, lines = cutter.feed(block)
        if lines:
            yield position, lines
    if (last := cutter.finish())[1]:
        yield last
